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
        count = back_up(data, to, advance)
    typer.echo(f"{count} files to {to}")


def restore(
    file: Annotated[Path, typer.Argument(readable=False, metavar="FILE", help="What callus backup wrote.")],
    *,
    to: Annotated[Path, typer.Option("--to", readable=False, help="The folder to make; it may not hold anything.")],
) -> None:
    """Make a service's folder of a backup. Every file is checked first; a damaged backup makes nothing.

    Exit code: 0 restored; 1 it could not be written; 2 it is no backup, is damaged, or the folder is not empty.

    \b
    Examples:
      callus restore /mnt/backup/clinic.tar --to clinic
    """
    from callus.progress import progress
    from callus.service.backup import count_of
    from callus.service.backup import restore as put_back

    with progress("restoring", count_of(file)) as advance:
        count = put_back(file, to, advance)
    typer.echo(f"{count} files to {to}")
