"""``callus identify --parquet``: an archive answered as a stream, on this machine or on a Ray cluster."""

from __future__ import annotations

import sys
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from callus.archive.listing import list_files
from callus.cli.identify import check_found, leave, say, summary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from callus.archive.parts import Parts
    from callus.bundle import Bundle

    Answering = Callable[[Parts], str]
    """Answers the files into the parts; what there is to say afterwards, "" where nothing is."""


@dataclass(frozen=True)
class Streaming:
    """The options that say how; see the verb's help."""

    engine: str
    views: tuple[str, ...] | None
    threads: int | None
    workers: int | None
    strict: bool
    resume: bool
    retry_failed: bool
    on_ray: bool
    ray_address: str | None


def identify_archive(
    paths: list[Path], model: Path, folder: Path | None, how: Streaming, not_streamed: list[str]
) -> None:
    """Answer files into a folder of Parquet parts; nothing is told of each file but in these.

    Args:
        paths: files and folders.
        model: the bundle.
        folder: of the parts; None where ``--parquet`` was left out.
        how: the options.
        not_streamed: options that were given and do not go with an archive.
    """
    folder = _checked(folder, how, not_streamed)
    files, failed = list_files(paths, folder)
    check_found(paths, files or failed)
    for _, error in failed:  # these have no row: what such a folder holds may be there another time
        say(f"callus: {error}", sys.stderr)
    from callus.archive.parts import open_parts

    stopped, told = False, ""
    place = _on_ray if how.on_ray else _here
    with (
        place(model, files, how) as (bundle, answer),
        open_parts(folder, bundle, resume=how.resume, retry_failed=how.retry_failed) as parts,
    ):
        try:
            told = answer(parts)
        except KeyboardInterrupt:
            stopped = True
    failures = parts.failures + len(failed)
    before = f"; {parts.before} of them before" if parts.before else ""
    say(summary(parts.levels, failures, before + told), sys.stderr)
    leave(stopped=stopped, failed=failures > 0, go_on="; the same command with --resume goes on")


def _checked(folder: Path | None, how: Streaming, not_streamed: list[str]) -> Path:
    """Refuse options that do not go together."""
    if folder is None:
        raise typer.BadParameter(
            "--resume, --retry-failed, --workers, --on and --ray-address go with it; give --parquet DIR too",
            param_hint="'--parquet'",
        )
    if not_streamed:
        raise typer.BadParameter(
            f"does not go with {' and '.join(not_streamed)}; run callus twice", param_hint="'--parquet'"
        )
    if how.retry_failed and not how.resume:
        raise typer.BadParameter("goes with --resume; give that too", param_hint="'--retry-failed'")
    if how.ray_address is not None and not how.on_ray:
        raise typer.BadParameter("goes with --on ray; give that too", param_hint="'--ray-address'")
    return folder


@contextmanager
def _here(model: Path, files: list[str], how: Streaming) -> Iterator[tuple[Bundle, Answering]]:
    from callus.archive.preparing import starting
    from callus.bundle.engine import usable_cores
    from callus.workers import prefer_throughput

    prefer_throughput()
    with starting(how.workers or usable_cores()):
        from callus.archive.stream import answer_files
        from callus.identify import Identifier

        identifier = Identifier(model, engine=how.engine, threads=how.threads, hint="throughput", views=how.views)
    # loky replaces processes that have grown; that is no news for who waits for answers.
    warnings.filterwarnings("ignore", "A worker (stopped|was restarted)", UserWarning)

    def answer(parts: Parts) -> str:
        answer_files(identifier, files, parts, workers=how.workers, strict=how.strict)
        return ""

    yield identifier.bundle, answer


@contextmanager
def _on_ray(model: Path, files: list[str], how: Streaming) -> Iterator[tuple[Bundle, Answering]]:
    from callus.archive.parts import ArchiveError
    from callus.bundle import Bundle

    try:
        from callus.archive.cluster import Model, cluster
        from callus.archive.on_ray import answer_on_ray
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "ray":
            raise
        raise ArchiveError("--on ray needs Ray, which is not installed", hint="pip install 'callus[ray]'") from error
    bundle = Bundle.load(model)
    same = Model.of(bundle, model, how.engine, how.views)

    def answer(parts: Parts) -> str:
        again = answer_on_ray(same, files, parts, threads=how.threads, workers=how.workers, strict=how.strict)
        return f"; {again} given out twice, for nodes were lost" if again else ""

    with cluster(how.ray_address):
        yield bundle, answer
