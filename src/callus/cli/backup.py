"""``callus backup`` and ``callus restore``: a service's data in one file, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add both verbs."""
    app.command("backup")(backup)
    app.command("restore")(restore)


def backup(
    data: Annotated[Path, typer.Argument(readable=False, metavar="DATA", help="The service's folder.")],
    *,
    to: Annotated[Path, typer.Option("--to", readable=False, help="The file to write, a TAR.")],
) -> None:
    """Write a service's database, radiographs, results and models to one file, while it runs.

    The file is as private as what is in it, and only its owner can read it. A database on a PostgreSQL server is backed
    up there (pg_dump), and the folder's objects and models by any means that copies files: they never change.

    Exit code: 0 written; 1 it could not be written; 2 there is no service in that folder.

    \b
    Examples:
      callus backup clinic --to /mnt/backup/clinic.tar
    """
    from callus.progress import progress
    from callus.service.backup import back_up

    with progress("backing up", None) as advance:
        made = back_up(data, to, advance)
    typer.echo(f"{made.count} files to {to}")
    for name in made.doubtful:
        typer.echo(f"{name} is damaged on the disk, and in this backup: take it from an older one", err=True)


def restore(
    file: Annotated[Path, typer.Argument(readable=False, metavar="FILE", help="What callus backup wrote.")],
    *,
    to: Annotated[Path, typer.Option("--to", readable=False, help="The folder to make; it may not hold anything.")],
) -> None:
    """Make a service's folder of a backup, which is checked; one that is damaged or cut makes nothing.

    Every file is held against the list at its end. One of an earlier version has none; what it names and does not
    hold is told.

    Exit code: 0 restored; 1 it could not be written; 2 it is no backup, is damaged, or the folder is not empty.

    \b
    Examples:
      callus restore /mnt/backup/clinic.tar --to clinic
    """
    from callus.progress import progress
    from callus.service.backup import count_of
    from callus.service.backup import restore as put_back

    with progress("restoring", count_of(file)) as advance:
        made = put_back(file, to, advance)
    typer.echo(f"{made.count} files to {to}")
    if made.doubtful:
        typer.echo(
            f"this backup is of an earlier version and lists {len(made.doubtful)} files that it does not hold: their "
            "studies were deleted while it was written, or they are lost",
            err=True,
        )
