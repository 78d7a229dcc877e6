"""``callus identify --parquet``: an archive answered as a stream."""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import typer

from callus.archive.listing import list_files
from callus.cli.identify import check_found, leave, say, summary


@dataclass(frozen=True)
class Streaming:
    """The options that say how; see the verb's help."""

    engine: str
    views: tuple[str, ...]
    threads: int | None
    workers: int | None
    strict: bool
    resume: bool
    retry_failed: bool


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
    if folder is None:
        raise typer.BadParameter(
            "--resume, --retry-failed and --workers go with it; give --parquet DIR too", param_hint="'--parquet'"
        )
    if not_streamed:
        raise typer.BadParameter(
            f"does not go with {' and '.join(not_streamed)}; run callus twice", param_hint="'--parquet'"
        )
    if how.retry_failed and not how.resume:
        raise typer.BadParameter("goes with --resume; give that too", param_hint="'--retry-failed'")
    files, failed = list_files(paths, folder)
    check_found(paths, files or failed)
    from callus.archive.parts import open_parts
    from callus.archive.stream import answer_files
    from callus.identify import Identifier

    identifier = Identifier(model, engine=how.engine, threads=how.threads, hint="throughput", views=how.views)
    for _, error in failed:  # these have no row: what such a folder holds may be there another time
        say(f"callus: {error}", sys.stderr)
    # loky replaces processes that have grown; that is no news for who waits for answers.
    warnings.filterwarnings("ignore", "A worker (stopped|was restarted)", UserWarning)
    stopped = False
    with open_parts(folder, identifier.bundle, resume=how.resume, retry_failed=how.retry_failed) as parts:
        try:
            answer_files(identifier, files, parts, workers=how.workers, strict=how.strict)
        except KeyboardInterrupt:
            stopped = True
    failures = parts.failures + len(failed)
    before = f"; {parts.before} of them before" if parts.before else ""
    say(summary(parts.levels, failures, before), sys.stderr)
    leave(stopped=stopped, failed=failures > 0)
