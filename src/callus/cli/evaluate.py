"""``callus evaluate``: how good a model is on a split of a manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from callus.labels import LABEL_NAMES, LEVEL_TEXT, RESEARCH_ONLY


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("evaluate")(evaluate)


def evaluate(
    *,
    model: Annotated[Path, typer.Option(readable=False, help="A run folder, a bundle's folder or a .callus file.")],
    data: Annotated[Path, typer.Option(readable=False, help="A manifest, .parquet or .csv.")],
    out: Annotated[Path, typer.Option(readable=False, help="Folder to write; a former evaluation there is replaced.")],
    split: Annotated[str, typer.Option(help='Which part: a name in the column "split", or "all".')] = "test",
    allow_leaks: Annotated[
        bool, typer.Option("--allow-leaks", help="Go on where groups of these files stand elsewhere too; OUT says so.")
    ] = False,
    pictures: Annotated[int, typer.Option(min=0, help="At most how many pictures the page shows.")] = 48,
    threads: Annotated[int | None, typer.Option(min=1, help="Cores for the network; all by default.")] = None,
) -> None:
    """Run a model over a split and write its figures, its predictions and a page of pictures.

    OUT gets report.html (open it in a browser), metrics.json and predictions.parquet, one row a file. Refused where
    groups of these files also stand in another split, or were trained on: the figures would be too good.

    \b
    Examples:
      callus evaluate --model runs/mine --data runs/mine/manifest.parquet --split test --out report
      callus evaluate --model wrist.callus --data hospital.parquet --split all --out report
    """
    from callus.dataset.manifest import read_manifest
    from callus.report import evaluate as run

    metrics = run(model, read_manifest(data), split, out, allow_leaks=allow_leaks, pictures=pictures, threads=threads)
    for line in table(metrics):
        typer.echo(line)
    for warning in metrics["warnings"]:
        typer.echo(f"warning: {warning}", err=True)
    for failure in metrics["failures"][:10]:
        typer.echo(f"not read: {failure['path']}: {failure['error']}", err=True)
    if len(metrics["failures"]) > 10:  # noqa: PLR2004
        typer.echo(f"not read: {len(metrics['failures']) - 10} more, all listed in metrics.json", err=True)
    typer.echo(f"page: {out / 'report.html'}")


def table(metrics: dict[str, Any]) -> list[str]:
    """The figures, one line a threshold, and the levels."""
    data, figures = metrics["data"], metrics["figures"]
    head = f"{metrics['model']['name']}, split {data['split']}: {data['judged']} labelled files"
    counts = f"{data['radiographs']} radiographs, {data['groups']} groups; {data['fractured']} fractured"
    columns = ("value", "accuracy", "sensitivity", "specificity", "TP", "FN", "FP", "TN")
    lines = [f"{head}, {counts}", "", _auroc(metrics), "", _row("threshold", columns)]
    for name, figure in figures.items():
        shares = (_figure(figure[key]) for key in ("threshold", "accuracy", "sensitivity", "specificity"))
        cells = (str(figure["confusion"][key]) for key in ("tp", "fn", "fp", "tn"))
        lines.append(_row(name.replace("_", " "), (*shares, *cells)))
    names = list(reversed(LABEL_NAMES.values()))
    lines += ["", f"{'level':<18}" + "".join(f"{name:>16}" for name in names)]
    for level, text in LEVEL_TEXT.items():
        lines.append(f"{text:<18}" + "".join(f"{metrics['levels'][level][name]:>16}" for name in names))
    return [*lines, "", f"For {RESEARCH_ONLY}."]


def _auroc(metrics: dict[str, Any]) -> str:
    """AUROC with its interval."""
    around = metrics["intervals"]["at_0.5"]["auroc"]
    line = f"AUROC {_figure(metrics['figures']['at_0.5']['auroc'])}"
    if around["low"] is None:
        return line
    return f"{line} (95 % interval by group {around['low']:.3f} to {around['high']:.3f})"


def _row(name: str, cells: tuple[str, ...]) -> str:
    widths = (8, 10, 13, 13, 6, 6, 6, 6)
    return f"{name:<18}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
