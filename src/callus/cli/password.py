"""``callus password``: a link by which who lost a password chooses another, where no administrator can make it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("password")(password)


def password(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The account's name.")],
    *,
    data: Annotated[
        Path | None, typer.Option("--data", "-d", readable=False, help="The service's folder, as callus serve has it.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", readable=False, help="TOML file, as callus serve has it.")
    ] = None,
    database: Annotated[
        str | None, typer.Option("--database", help="URL of its PostgreSQL database, as callus serve has it.")
    ] = None,
) -> None:
    """Make a link by which an account's owner chooses another password, once, within 24 hours.

    For the only administrator who has forgotten theirs; all others are helped by an administrator in the page. The old
    password and all logins of the account end at once. Only who can write the service's folder can do this, and the
    audit log says so. The service may run.

    Exit code: 0 made; 1 the folder cannot be written; 2 there is no such service or account, or its password is
    elsewhere.

    \b
    Examples:
      callus password ada --data clinic
      sudo -u callus /opt/callus/bin/callus password ada --config /etc/callus/clinic.toml
    """
    from callus.service.settings import load_settings

    if data is None and config is None:
        raise typer.BadParameter("give a folder, or a file that names one", param_hint="'--data'")
    settings = load_settings(config, data=data, database=database)

    from callus.service.recovery import reset_password

    key = reset_password(settings, name)
    typer.echo("the old password and all logins have ended; another is chosen once, within 24 hours, at the page's")
    typer.echo(f"address with this behind it: /#reset={key}")
