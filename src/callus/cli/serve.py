"""``callus serve``: a clinic's radiographs in, answers back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from callus.labels import RESEARCH_ONLY

_QUOTING: Final = ("urllib3", "pynetdicom", "pydicom", "dicomweb_client", "py.warnings")
"""Loggers of others that write down addresses and values that hold whose radiograph it is."""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("serve")(serve)


def serve(
    *,
    data: Annotated[
        Path | None,
        typer.Option("--data", "-d", readable=False, help="Folder of the database, the radiographs and the models."),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            "-m",
            readable=False,
            help="What answers at first; later the model switched to does. The one that comes with callus where "
            "not given.",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", "-c", readable=False, help="TOML file: DICOM node, destinations, OpenID and the rest."
        ),
    ] = None,
    host: Annotated[str | None, typer.Option("--host", help="Address to listen at; 127.0.0.1 where not given.")] = None,
    port: Annotated[
        int | None, typer.Option("--port", "-p", min=0, max=65535, help="Port; 8080 where not given; 0: a free one.")
    ] = None,
    tls_certificate: Annotated[
        Path | None, typer.Option("--tls-certificate", readable=False, help="TLS certificate with its chain (PEM).")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", readable=False, help="Its private key (PEM).")] = None,
    behind_proxy: Annotated[
        bool | None,
        typer.Option("--behind-proxy", help="A proxy in front speaks TLS; its X-Forwarded-* headers are believed."),
    ] = None,
    database: Annotated[
        str | None,
        typer.Option("--database", help="URL of a PostgreSQL database; SQLite in the data folder where not given."),
    ] = None,
    retention_days: Annotated[
        int | None,
        typer.Option("--retention-days", min=0, help="Delete studies whose last image came earlier; 0 keeps them."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Cores for the network; all where not given.")
    ] = None,
) -> None:
    """Take radiographs by HTTP and DICOM, answer them, and show the answers to people and to the archive.

    Listens on this machine only; another --host needs a certificate, or a proxy that has one. The first start prints a
    link that makes the administrator's account, once; it works for a day, and a new start prints a new one until there
    is an account. Stops at Ctrl-C or SIGTERM; what was taken in and not answered is answered after the next start, also
    after a crash.

    Exit code: 0 stopped in order; 1 it cannot listen or write; 2 wrong settings, no model.

    \b
    Examples:
      callus serve --data clinic
      callus serve --data clinic --model runs/mine
      callus serve --data clinic --port 9000 --retention-days 90
      callus serve --config clinic.toml --host 0.0.0.0 --tls-certificate cert.pem --tls-key key.pem
      callus serve --config clinic.toml --behind-proxy
    """
    import gc
    import logging

    gc.disable()  # what is imported stays; looking through it again and again takes a fifth of the start
    from callus.service.settings import load_settings

    given: dict[str, object] = {"data": data, "host": host, "port": port, "behind_proxy": behind_proxy}
    given |= {"database": database, "retention_days": retention_days}
    paths = {"model": model, "certificate": tls_certificate, "key": tls_key}
    given |= {name: None if path is None else str(path) for name, path in paths.items()}
    if data is None and config is None:
        raise typer.BadParameter("give a folder, or a file that names one", param_hint="'--data'")
    settings = load_settings(config, **given)

    from callus.service.accounts import first_key
    from callus.service.listening import address_of, bind
    from callus.service.listening import serve as listen
    from callus.service.serving import build

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.captureWarnings(capture=True)  # as py.warnings
    for name in _QUOTING:  # after the imports above: pydicom's sets the level of its own anew
        logging.getLogger(name).setLevel(logging.CRITICAL)
    listener = bind(settings)
    parts = build(settings, threads=threads)
    gc.freeze()
    gc.enable()
    address = address_of(settings, listener)

    def ready() -> None:
        typer.echo(f"callus serves at {address} ({RESEARCH_ONLY})")
        if (key := first_key(parts.database)) is not None:
            typer.echo(f"make the administrator's account, once, within a day: {address}#first={key}")

    listen(parts, listener, ready)
