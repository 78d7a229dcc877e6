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
    model: Annotated[Path, typer.Option(help="A run folder, a bundle's folder or a .callus file.")],
    data: Annotated[Path, typer.Option(help="A manifest, .parquet or .csv.")],
    out: Annotated[Path, typer.Option(help="Folder to write; a former evaluation there is replaced.")],
    split: Annotated[str, typer.Option(help='Which part: a name in the column "split", or "all".')] = "test",
    pictures: Annotated[int, typer.Option(min=0, help="At most how many pictures the page shows.")] = 48,
    threads: Annotated[int | None, typer.Option(min=1, help="Cores for the network; all by default.")] = None,
) -> None:
    """Run a model over a split and write its figures, its predictions and a page of pictures.

    OUT gets report.html (open it in a browser), metrics.json and predictions.parquet, one row a file.

    \b
    Examples:
      callus evaluate --model runs/mine --data runs/mine/manifest.parquet --split test --out report
      callus evaluate --model wrist.callus --data hospital.parquet --split all --out report
    """
    from callus.dataset.manifest import read_manifest
    from callus.report import evaluate as run

    metrics = run(model, read_manifest(data), split, out, pictures=pictures, threads=threads)
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
    data = metrics["data"]
    lines = [
        f"{metrics['model']['name']}, split {data['split']}: {data['judged']} labelled files, "
        f"{data['radiographs']} radiographs, {data['groups']} groups; "
        f"{data['fractured']} fractured, {data['not_fractured']} not",
        "",
        f"AUROC {_figure(metrics['figures']['at_0.5']['auroc'])}",
        "",
        f"{'threshold':<18}{'value':>9}{'accuracy':>10}{'sensitivity':>13}{'specificity':>13}"
        f"{'TP':>7}{'FN':>7}{'FP':>7}{'TN':>7}",
    ]
    for name, figure in metrics["figures"].items():
        counts = figure["confusion"]
        lines.append(
            f"{name.replace('_', ' '):<18}{_figure(figure['threshold']):>9}{_figure(figure['accuracy']):>10}"
            f"{_figure(figure['sensitivity']):>13}{_figure(figure['specificity']):>13}"
            f"{counts['tp']:>7}{counts['fn']:>7}{counts['fp']:>7}{counts['tn']:>7}"
        )
    lines += ["", f"{'level':<18}" + "".join(f"{name:>16}" for name in reversed(LABEL_NAMES.values()))]
    for level, counts in metrics["levels"].items():
        lines.append(
            f"{LEVEL_TEXT[level]:<18}" + "".join(f"{counts[name]:>16}" for name in reversed(LABEL_NAMES.values()))
        )  # type: ignore[index]
    return [*lines, "", f"For {RESEARCH_ONLY}."]


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
