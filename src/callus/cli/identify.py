"""``callus identify``: radiographs to answers."""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from callus.archive.listing import gather
from callus.atomic import make_folder
from callus.cli.hospital import HospitalFiles, unmade
from callus.cli.model import DEFAULT, ModelOption
from callus.errors import CallusError, RadiographError
from callus.labels import LEVEL_TEXT, LEVELS, RESEARCH_ONLY
from callus.results.places import picture_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sized

    from callus.archive.listing import Input
    from callus.bundle.runtime import Hint
    from callus.identify import Finding, Identifier
    from callus.radiograph import Radiograph

STOPPED: Final = 130
"""The exit code after Ctrl-C, as shells have it."""
_BAR_FROM: Final = 16
"""Files from which a bar with the time left is worth its line."""


EngineOption = Annotated[
    str,
    typer.Option(
        "--engine", help="What runs the network: openvino-int8, openvino-float32, onnx-float32; auto: the fastest."
    ),
]


class View(StrEnum):
    """What an answer may be averaged with; :data:`callus.bundle.views.VIEWS`."""

    NONE = "none"
    MIRROR = "mirror"
    ROTATE = "rotate"


class Place(StrEnum):
    """Where an archive is answered."""

    HERE = "here"
    RAY = "ray"


ViewsOption = Annotated[
    list[View] | None,
    typer.Option(
        "--views",
        help="Average each answer with those to the picture mirrored (mirror) or turned a little (rotate), which takes "
        "two or three times as long; none: with no other. May be given twice. What the model was made for where not "
        "given.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("identify")(identify)


def identify(
    *,
    paths: Annotated[
        list[Path], typer.Argument(readable=False, metavar="PATH...", help="Radiographs, or folders of them.")
    ],
    model: ModelOption = DEFAULT,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", readable=False, help="Write each picture with its heat map to this folder, as PNG."
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", readable=False, help="Write the findings to this JSON file.")
    ] = None,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", readable=False, help="Write the findings to this CSV file.")
    ] = None,
    dicom: Annotated[
        Path | None,
        typer.Option(
            "--dicom",
            readable=False,
            help="Write a DICOM report and picture of each DICOM file to this folder, in the file's own study.",
        ),
    ] = None,
    gsps: Annotated[bool, typer.Option("--gsps", help="With --dicom: a presentation state too.")] = False,
    fhir: Annotated[
        Path | None,
        typer.Option("--fhir", readable=False, help="Write a FHIR report of each DICOM file to this folder."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse damaged files that can be read in part.")] = False,
    full_size: Annotated[
        bool, typer.Option("--full-size", help="Draw pictures at the radiograph's own size, not at 1,024 to 1,600.")
    ] = False,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Cores for the network; all where not given.")
    ] = None,
    engine: EngineOption = "auto",
    views: ViewsOption = None,
    throughput: Annotated[
        bool, typer.Option("--throughput", help="Share the cores out for many files instead of for the next answer.")
    ] = False,
    parquet: Annotated[
        Path | None,
        typer.Option(
            "--parquet",
            readable=False,
            help="For an archive: write the findings to this folder, as a stream of Parquet files.",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="With --parquet: go on with what is there; files that failed stay failed."),
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="With --resume: answer the files again that failed.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="With --parquet: processes that read files; one a core where not given."),
    ] = None,
    on: Annotated[
        Place, typer.Option("--on", help="With --parquet: on this machine (here) or on a Ray cluster (ray).")
    ] = Place.HERE,
    ray_address: Annotated[
        str | None,
        typer.Option(
            "--ray-address",
            metavar="HOST:PORT",
            help="With --on ray: the cluster's head; RAY_ADDRESS where not given; without both Ray is started here.",
        ),
    ] = None,
) -> None:
    """Say for each radiograph whether a fracture is seen, with a probability and a heat map.

    A folder is walked with all below it, in the order of names; hidden files and those that are no pictures by their
    ending are passed over. A file that is named is always tried, whatever its name: its content decides.

    Prints a line for each file to stdout, and for each that fails to stderr. Exit code: 0 all answered; 1 some failed
    (missing, unreadable, not an image; the others are answered all the same) or a result could not be written; 2 wrong
    use: no such model, or nothing to identify in what was given.

    \b
    Examples:
      callus identify wrist.dcm
      callus identify wrist.dcm --model runs/mine
      callus identify xrays/ --model mine.callus --out pictures --json findings.json
      callus identify study/ --model mine.callus --dicom results --gsps --fhir results
      callus identify archive/ --model mine.callus --parquet answers --resume
      callus identify /mnt/archive --model /mnt/mine.callus --parquet answers --on ray --ray-address head:6379
    """
    on_ray = on is Place.RAY
    if parquet is not None or resume or retry_failed or workers is not None or on_ray or ray_address is not None:
        from callus.cli.archive import Streaming, identify_archive

        others: dict[str, Path | bool | None] = {"--out": out, "--json": json_file, "--csv": csv_file, "--dicom": dicom}
        others |= {"--gsps": gsps or None, "--fhir": fhir, "--full-size": full_size or None}
        not_streamed = [option for option, given in others.items() if given is not None]
        how = Streaming(
            engine,
            chosen_views(views),
            threads,
            workers,
            strict=strict,
            resume=resume,
            retry_failed=retry_failed,
            on_ray=on_ray,
            ray_address=ray_address,
        )
        identify_archive(paths, model, parquet, how, not_streamed)
        return
    if gsps and dicom is None:
        raise typer.BadParameter("a presentation state goes with --dicom DIR; give that too", param_hint="'--gsps'")
    inputs, failed = gather(paths, out, dicom, fhir)
    check_found(paths, inputs or failed)
    from callus.identify import Identifier

    hint: Hint = "throughput" if throughput else "latency"
    identifier = Identifier(model, engine=engine, threads=threads, hint=hint, views=chosen_views(views))
    for folder in (out, dicom, fhir):
        if folder is not None:
            make_folder(folder)
    hospital = HospitalFiles(identifier, inputs, dicom, fhir, presentation=gsps) if dicom or fhir else None
    run = _Run(identifier, inputs, failed, out, hospital, full_size=full_size)
    stopped = _answer_all(run, json_file, csv_file, strict=strict)
    say(run.summary(), sys.stderr)
    if stopped is not None and not isinstance(stopped, KeyboardInterrupt):
        raise stopped
    leave(stopped=stopped is not None, failed=bool(run.failures or run.undrawn or run.withheld))


def chosen_views(views: list[View] | None) -> tuple[str, ...] | None:
    """What --views means to an identifier; None for the model's own."""
    if views is None:
        return None
    if View.NONE in views and len(views) > 1:
        raise typer.BadParameter("none goes with no other", param_hint="'--views'")
    return tuple(view for view in views if view is not View.NONE)


class _Run:
    """One call of the verb: what is answered, what is shown."""

    def __init__(
        self,
        identifier: Identifier,
        inputs: list[Input],
        failed: list[tuple[str, CallusError]],
        out: Path | None,
        hospital: HospitalFiles | None,
        *,
        full_size: bool,
    ) -> None:
        self.identifier = identifier
        self.inputs = inputs
        self.failed = failed
        self.failures = 0
        self.withheld = 0
        self.undrawn = 0
        self._hospital = hospital
        self._warnings: list[CallusError] = []
        self._levels: Counter[str] = Counter()
        self._pictures = picture_names(inputs, out) if out is not None else None
        self._full_size = full_size
        # On a terminal lines go through sys.stdout as it is then, which prints above the bar; a file or a pipe
        # must get them whatever the bar does to sys.stdout.
        self._stdout = None if sys.stdout.isatty() else sys.stdout

    def answers(self, *, strict: bool) -> Iterator[tuple[str, Finding | CallusError, str | None]]:
        """Answer one file after the other: its name, the answer, and the picture that was written for it."""
        for path, error in self.failed:
            yield path, error, None
        answers = self.identifier.identify_many((item.path for item in self.inputs), strict=strict)
        with contextlib.closing(answers):
            for index, (source, radiograph, answer) in enumerate(answers):
                picture = None
                if self._pictures is not None and radiograph is not None and not isinstance(answer, CallusError):
                    picture = self._draw(self._pictures[index], radiograph, answer)
                if self._hospital is not None and radiograph is not None and not isinstance(answer, CallusError):
                    withheld = self._hospital.write(index, radiograph, answer)
                    self.withheld += withheld is not None
                    self._warnings += [withheld] if withheld is not None else []
                yield str(source), answer, picture

    def summary(self) -> str:
        """Count the levels."""
        undrawn = f", {self.undrawn} without a picture" if self.undrawn else ""
        withheld = f", {self.withheld} without all of their DICOM and FHIR" if self.withheld else ""
        return summary(self._levels, self.failures, undrawn + withheld)

    def _draw(self, file: Path, radiograph: Radiograph, finding: Finding) -> str | None:
        """Write one picture; None where it cannot be made, which costs no other file anything."""
        from callus.atomic import whole_file
        from callus.results.overlay import overlay

        try:
            image = overlay(radiograph, finding, full=self._full_size)
            with whole_file(file) as opened:
                image.save(opened, "PNG", compress_level=3)
        except CallusError:  # the folder cannot be written, so the next picture could not be either
            raise
        except Exception as error:  # noqa: BLE001 - no memory, or a bug: this file's failure
            self.undrawn += 1
            self._warnings.append(unmade("its picture", error, radiograph))
            return None
        return str(file)

    def show(self, path: str, answer: Finding | CallusError) -> None:
        """Print an answer's line, and count it."""
        if isinstance(answer, CallusError):
            self.failures += 1
            say(f"callus: {answer}", sys.stderr)
        else:
            self._levels[answer.level] += 1
            caution = f" (caution: {'; '.join(answer.cautions)})" if answer.cautions else ""
            line = f"{path}: {LEVEL_TEXT[answer.level]}, probability {answer.probability:.3f}{caution}"
            say(line, self._stdout or sys.stdout)
        for warning in self._warnings:
            say(f"callus: warning: {warning}", sys.stderr)
        self._warnings.clear()


def leave(*, stopped: bool, failed: bool, go_on: str = "") -> None:
    """End with the exit code for Ctrl-C or for failed files; go on where there is neither.

    Args:
        stopped: by Ctrl-C.
        failed: any file.
        go_on: how to go on after Ctrl-C, to stand behind the rest.
    """
    if stopped:  # typer would leave without a word
        say(f"callus: stopped; what was finished is kept, nothing half-written stays{go_on}", sys.stderr)
        raise typer.Exit(STOPPED)
    if failed:
        raise typer.Exit(1)


def check_found(paths: list[Path], found: Sized) -> None:
    """Refuse paths that mean nothing to identify."""
    if not found:
        raise RadiographError(
            "holds no radiographs",
            where=", ".join(str(path) for path in paths),
            hint="give image files, DICOM files or folders that hold some",
        )


def summary(levels: Counter[str], failures: int, more: str = "") -> str:
    """Count the levels, in the line that everything ends with."""
    counts = ", ".join(f"{levels[level]} {LEVEL_TEXT[level]}" for level in LEVELS)
    failed = f", {failures} failed" if failures else ""
    return f"{sum(levels.values())} identified: {counts}{failed}{more} ({RESEARCH_ONLY})"


def _answer_all(run: _Run, json_file: Path | None, csv_file: Path | None, *, strict: bool) -> BaseException | None:
    """Answer all files into the tables; what stopped it early, with the tables written for what was finished."""
    from callus.progress import progress
    from callus.results.tables import as_row, csv_writer, json_writer

    with contextlib.ExitStack() as stack:
        writers: list[Callable[[dict[str, Any]], None]] = []
        if json_file is not None:
            writers.append(stack.enter_context(json_writer(json_file, run.identifier.name)))
        if csv_file is not None:
            writers.append(stack.enter_context(csv_writer(csv_file)))
        total = len(run.inputs) + len(run.failed)
        advance: Callable[..., None] = _nothing
        if total >= _BAR_FROM:
            advance = stack.enter_context(progress("identifying", total))
        try:
            for path, answer, picture in run.answers(strict=strict):
                row = as_row(path, answer, picture)
                for write in writers:
                    write(row)
                run.show(path, answer)  # after the tables, which then hold whatever was shown
                advance()
        except OSError:  # a table cannot be written, which must not look whole then
            raise
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the caller raises it, the tables written
            return error
    return None


def say(line: str, stream: Any) -> None:
    """Print one line, whatever a file's name holds."""
    text = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in line)
    encoding = getattr(stream, "encoding", None) or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding), file=stream, flush=True)


def _nothing(*_: object) -> None:
    """Take no notice."""
