"""``callus evaluate``: how good a model is on a split of a manifest."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from callus.cli.compare import Together
from callus.cli.identify import EngineOption
from callus.cli.model import DEFAULT, ModelOption
from callus.errors import CallusError
from callus.labels import LABEL_NAMES, LEVEL_TEXT, RESEARCH_ONLY


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("evaluate")(evaluate)


def evaluate(
    *,
    data: Annotated[Path, typer.Option(readable=False, help="A manifest, .parquet or .csv.")],
    out: Annotated[Path, typer.Option(readable=False, help="Folder to write; a former evaluation there is replaced.")],
    model: ModelOption = DEFAULT,
    split: Annotated[str, typer.Option(help='Which part: a name in the column "split", or "all".')] = "test",
    external: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=MANIFEST", help="Other data to test on too, all of its files; may be repeated."),
    ] = None,
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Disturb radiographs and show how the figures move; takes long.")
    ] = False,
    robustness_files: Annotated[int, typer.Option(min=1, help="At most how many files are disturbed.")] = 400,
    prevalence: Annotated[
        float | None, typer.Option(help="Share of fractures where it is to be used: PPV, NPV and net benefit for it.")
    ] = None,
    aggregate: Annotated[
        Together, typer.Option(help="How files of one radiograph, and of one study, are put together.")
    ] = Together.MEAN,
    allow_leaks: Annotated[
        bool, typer.Option("--allow-leaks", help="Go on where groups of these files stand elsewhere too; OUT says so.")
    ] = False,
    pictures: Annotated[int, typer.Option(min=0, help="At most how many pictures the page shows.")] = 48,
    threads: Annotated[int | None, typer.Option(min=1, help="Cores for the network; all by default.")] = None,
    engine: EngineOption = "auto",
) -> None:
    """Run a model over a split and write its figures, its predictions, a page of pictures and a model card.

    OUT gets report.html (open it in a browser), metrics.json, model_card.md and predictions.parquet, one row a file.
    Refused where groups of these files also stand in another split, or were trained on: the figures would be too good.

    \b
    Examples:
      callus evaluate --model runs/mine --data runs/mine/manifest.parquet --split test --out report
      callus evaluate --model wrist.callus --data hospital.parquet --split all --out report
      callus evaluate --model wrist.callus --data split.parquet --out report --robustness \\
        --external elsewhere=elsewhere.parquet --prevalence 0.1
    """
    from callus.dataset.manifest import read_manifest
    from callus.report import evaluate as run

    metrics = run(
        model,
        read_manifest(data),
        split,
        out,
        allow_leaks=allow_leaks,
        pictures=pictures,
        threads=threads,
        engine=engine,
        external={name: read_manifest(Path(place)) for name, place in named(external or ()).items()},
        disturbed=robustness_files if robustness else 0,
        prevalence=prevalence,
        how=aggregate.value,
    )
    for line in table(metrics):
        typer.echo(line)
    told = [("", metrics), *((f"external test {name}: ", part) for name, part in metrics["external"].items())]
    for prefix, part in told:
        for warning in part["warnings"]:
            typer.echo(f"warning: {prefix}{warning}", err=True)
        for failure in part["failures"][:10]:
            typer.echo(f"not read: {prefix}{failure['path']}: {failure['error']}", err=True)
        if len(part["failures"]) > 10:  # noqa: PLR2004
            typer.echo(f"not read: {prefix}{len(part['failures']) - 10} more, all listed in metrics.json", err=True)
    typer.echo(f"page: {out / 'report.html'}")


def named(words: Iterable[str]) -> dict[str, str]:
    """Read NAME=MANIFEST.

    Raises:
        CallusError: one is not of that form, or a name comes twice.
    """
    found: dict[str, str] = {}
    for word in words:
        name, equals, place = word.partition("=")
        if not equals or not name or not place:
            raise CallusError(f"--external {word!r} does not name a manifest", hint="write NAME=MANIFEST")
        if name in found:
            raise CallusError(f"--external names {name!r} twice", hint="give each its own name")
        found[name] = place
    return found


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
    for name, part in metrics["external"].items():
        lines.append(f"\nexternal test {name}: {part['data']['judged']} labelled files; {_auroc(part)}")
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
        return f"{line} ({around['reason']})"
    return f"{line} (95 % interval by group {around['low']:.3f} to {around['high']:.3f})"


def _row(name: str, cells: tuple[str, ...]) -> str:
    widths = (8, 10, 13, 13, 6, 6, 6, 6)
    return f"{name:<18}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
