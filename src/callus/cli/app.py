"""The verbs together."""

from __future__ import annotations

from typing import Annotated

import typer

import callus
from callus.cli import backup, bench, compare, data, demo, evaluate, export, identify, model, password, serve, train
from callus.labels import RESEARCH_ONLY

app = typer.Typer(
    name="callus",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=f"Research only: {RESEARCH_ONLY}.",
)


def _version(*, wanted: bool) -> None:
    if wanted:
        typer.echo(f"callus {callus.__version__} ({RESEARCH_ONLY})")
        raise typer.Exit


@app.callback()
def root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Identify bone fractures in radiographs.

    \b
    Examples:
      callus demo
      callus identify wrist.dcm --out out
      callus data audit radiographs/ --out audit
      callus train --data radiographs/ --recipe callus --out runs/mine
      callus evaluate --model runs/mine --data runs/mine/manifest.parquet --split test --out report
      callus identify wrist.dcm --model runs/mine --out out
      callus serve --data clinic --model runs/mine
    """


data.register(app)
train.register(app)
export.register(app)
evaluate.register(app)
compare.register(app)
identify.register(app)
serve.register(app)
backup.register(app)
password.register(app)
demo.register(app)
bench.register(app)
model.register(app)
