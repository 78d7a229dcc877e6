"""``callus export``: the bundle of a training run once more."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("export")(export)


def export(
    run: Annotated[
        list[Path],
        typer.Argument(
            readable=False, help="A run folder whose training has ended; several give one model, their average."
        ),
    ],
    *,
    out: Annotated[Path, typer.Option(readable=False, help="The bundle: a folder, or a file that ends with .callus.")],
    int8: Annotated[
        bool | None,
        typer.Option("--int8/--no-int8", help="Whether it holds the network in int8 too.", show_default="the recipe's"),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What the model is called.", show_default="the first run folder's name")
    ] = None,
    card: Annotated[
        Path | None,
        typer.Option(readable=False, metavar="FILE", help="Markdown that the model card is to end with."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            readable=False,
            help="Validation radiographs instead of the run's own: a folder, or a manifest (Parquet or CSV).",
            show_default="the run's",
        ),
    ] = None,
) -> None:
    """Write a bundle from the weights that a training run kept, or several runs.

    Networks of one manifest that differ by chance or by the size of their input are worth more together: their logits
    and maps are averaged, in one graph, and all is measured of the average.

    Calibration, operating points and the map's threshold are measured anew on the validation split, for float32 and for
    int8 each. int8 that loses more than 0.005 AUROC there is left out, and the bundle says why. A bundle that stands at
    --out is replaced; anything else there is refused. Exit code: 0 written; 1 the run has not ended, its radiographs or
    weights are gone, or nothing could be written; 2 wrong use.

    \b
    Examples:
      callus export runs/mine --out mine.callus
      callus export runs/mine --name wrist --card wrist.md --out wrist.callus
      callus export runs/fine runs/coarse --name both --out both.callus
      callus export runs/mine --no-int8 --out float32.callus
      callus export runs/mine --data moved/manifest.parquet --out runs/mine/bundle
    """
    from callus.training.reexport import export_runs

    export_runs(run, out, data=data, int8=int8, name=name, card=card, say=typer.echo)
