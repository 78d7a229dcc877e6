"""``callus identify``: radiographs to answers."""

from __future__ import annotations

import contextlib
import os
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from callus.errors import CallusError, RadiographError
from callus.labels import LEVEL_TEXT, LEVELS, RESEARCH_ONLY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from callus.identify import Finding, Identifier
    from callus.radiograph import Radiograph

NO_PICTURES: Final = (
    ".txt", ".json", ".csv", ".tsv", ".md", ".html", ".htm", ".xml", ".yaml", ".yml", ".toml", ".log",
    ".py", ".ipynb", ".sh", ".js", ".css", ".pdf", ".doc", ".docx", ".xls", ".xlsx", ".parquet", ".db",
    ".sqlite", ".zip", ".gz", ".tar", ".bz2", ".xz", ".7z", ".rar", ".onnx", ".bin", ".callus", ".h5",
    ".pt", ".pth", ".npy", ".npz", ".pkl", ".safetensors", ".mp4", ".avi", ".mov", ".nii", ".md5", ".sha256",
    ".part",
)  # fmt: skip
"""Endings that are passed over in folders. A file without an ending is tried: DICOM often has none."""
NO_PICTURE_NAMES: Final = ("dicomdir", "thumbs.db", "license", "readme", "makefile")
STOPPED: Final = 130
"""The exit code after Ctrl-C, as shells have it."""
_BAR_FROM: Final = 16
"""Files from which a bar with the time left is worth its line."""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("identify")(identify)


def identify(
    *,
    paths: Annotated[
        list[Path], typer.Argument(readable=False, metavar="PATH...", help="Radiographs, or folders of them.")
    ],
    model: Annotated[
        Path, typer.Option("--model", "-m", readable=False, help="A bundle, a .callus file or a run folder.")
    ],
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
    strict: Annotated[bool, typer.Option("--strict", help="Refuse damaged files that can be read in part.")] = False,
    full_size: Annotated[
        bool, typer.Option("--full-size", help="Draw pictures at the radiograph's own size, not at 1,024 to 1,600.")
    ] = False,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Cores for the network; all where not given.")
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
      callus identify wrist.dcm --model runs/mine
      callus identify xrays/ --model mine.callus --out pictures --json findings.json
    """
    inputs, failed = gather(paths, out)
    if not inputs and not failed:
        raise RadiographError(
            "holds no radiographs",
            where=", ".join(str(path) for path in paths),
            hint="give image files, DICOM files or folders that hold some",
        )
    from callus.identify import Identifier

    identifier = Identifier(model, threads=threads)
    if out is not None:
        make_folder(out)
    run = _Run(identifier, inputs, failed, out, full_size=full_size)
    stopped = _answer_all(run, json_file, csv_file, strict=strict)
    _say(run.summary(), sys.stderr)
    if isinstance(stopped, KeyboardInterrupt):  # typer would leave without a word
        _say("callus: stopped; what was finished is kept, nothing half-written stays", sys.stderr)
        raise typer.Exit(STOPPED)
    if stopped is not None:
        raise stopped
    if run.failures:
        raise typer.Exit(1)


@dataclass(frozen=True)
class Input:
    """A file to identify.

    Attributes:
        path: as it is opened and shown.
        name: where its picture goes below ``--out``, with the file's own ending.
    """

    path: Path
    name: Path


def gather(paths: list[Path], out: Path | None = None) -> tuple[list[Input], list[tuple[str, CallusError]]]:
    """List the files that paths mean, each once, and the paths that cannot be used with the reason.

    Args:
        paths: files and folders.
        out: a folder of results, which is not walked.
    """
    inputs: dict[str, Input] = {}
    failed: list[tuple[str, CallusError]] = []
    skipped = None if out is None else out.resolve()
    for path in paths:
        try:
            if path.is_dir():
                before = len(failed)
                files = list(_walk(path, skipped, failed))
                if not files and len(failed) == before and len(paths) > 1:
                    failed.append((str(path), RadiographError("holds no radiographs", where=path)))
            else:
                files = [Input(path, Path(path.name))]  # one that is missing says so when it is read
        except OSError as error:
            failed.append((str(path), _unreadable(path, error)))
            continue
        for file in files:
            inputs.setdefault(os.path.normpath(file.path), file)
    once = {os.path.normpath(name): (name, error) for name, error in failed}  # paths may overlap
    return list(inputs.values()), list(once.values())


def picture_names(inputs: list[Input], out: Path) -> list[Path]:
    """Where each picture goes: ``<stem>.png`` in the folders' own tree, and never over an input or another picture.

    Where stems collide the file's ending is kept (``hand.jpg.png``), and after that a number is added.
    """
    wanted = Counter(_key(out / item.name.with_suffix(".png")) for item in inputs)
    taken = {_key(item.path) for item in inputs}
    names = []
    for item in inputs:
        target = out / item.name.with_suffix(".png")
        if wanted[_key(target)] > 1 or _key(target) in taken:
            target = out / item.name.with_name(item.name.name + ".png")
        count = 1
        while _key(target) in taken:
            count += 1
            target = out / item.name.with_name(f"{item.name.name}-{count}.png")
        taken.add(_key(target))
        names.append(target)
    return names


def make_folder(folder: Path) -> None:
    """Make a folder for results, or say at once why it cannot be used."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CallusError(
            f"cannot be made: {error.strerror or error}", where=folder, hint="give a folder that is writable"
        ) from error


class _Run:
    """One call of the verb: what is answered, what is shown."""

    def __init__(
        self,
        identifier: Identifier,
        inputs: list[Input],
        failed: list[tuple[str, CallusError]],
        out: Path | None,
        *,
        full_size: bool,
    ) -> None:
        self.identifier = identifier
        self.inputs = inputs
        self.failed = failed
        self.failures = 0
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
                yield str(source), answer, picture

    def summary(self) -> str:
        """Count the levels."""
        counts = ", ".join(f"{self._levels[level]} {LEVEL_TEXT[level]}" for level in LEVELS)
        failed = f", {self.failures} failed" if self.failures else ""
        return f"{sum(self._levels.values())} identified: {counts}{failed} ({RESEARCH_ONLY})"

    def _draw(self, file: Path, radiograph: Radiograph, finding: Finding) -> str:
        from callus.atomic import whole_file
        from callus.results.overlay import overlay

        image = overlay(radiograph, finding, full=self._full_size)
        with whole_file(file) as opened:
            image.save(opened, "PNG", compress_level=3)
        return str(file)

    def show(self, path: str, answer: Finding | CallusError) -> None:
        """Print an answer's line, and count it."""
        if isinstance(answer, CallusError):
            self.failures += 1
            _say(f"callus: {answer}", sys.stderr)
        else:
            self._levels[answer.level] += 1
            caution = f" (caution: {'; '.join(answer.cautions)})" if answer.cautions else ""
            line = f"{path}: {LEVEL_TEXT[answer.level]}, probability {answer.probability:.3f}{caution}"
            _say(line, self._stdout or sys.stdout)


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
        except (CallusError, KeyboardInterrupt) as error:
            return error
    return None


def _walk(folder: Path, skipped: Path | None, failed: list[tuple[str, CallusError]]) -> Iterator[Input]:
    def refuse(error: OSError) -> None:
        failed.append((str(error.filename), _unreadable(Path(error.filename), error)))

    for place, folders, files in os.walk(folder, onerror=refuse):
        here = Path(place)
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and (skipped is None or (here / name).resolve() != skipped)
        )
        for name in sorted(files):
            if not name.startswith(".") and not _is_no_picture(name):
                yield Input(here / name, (here / name).relative_to(folder))


def _is_no_picture(name: str) -> bool:
    small = name.lower()
    return small in NO_PICTURE_NAMES or small.endswith(NO_PICTURES)


def _unreadable(path: Path, error: OSError) -> RadiographError:
    return RadiographError(f"cannot be read: {error.strerror or error}", where=path, hint="check its permissions")


def _key(path: Path) -> str:
    """The same for two paths that some file system takes for one."""
    return os.path.abspath(path).casefold()  # noqa: PTH100 - pathlib has no way that leaves links alone


def _say(line: str, stream: Any) -> None:
    """Print one line, whatever a file's name holds."""
    text = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in line)
    encoding = getattr(stream, "encoding", None) or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding), file=stream, flush=True)


def _nothing(*_: object) -> None:
    """Take no notice."""
