"""``callus demo``: the whole way on simulated radiographs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from callus.errors import CallusError
from callus.labels import RESEARCH_ONLY

COMMANDS = (
    "callus data audit radiographs/ --out audit",
    "callus data split audit/manifest.parquet --test 0.2 --val 0.1 --out split.parquet",
    "callus train --data split.parquet --recipe callus --out runs/mine",
    "callus evaluate --model runs/mine --data runs/mine/manifest.parquet --split test --out report",
    "callus identify radiographs/*.dcm --model runs/mine --out out --json findings.json",
)
"""What a user types for each step on data of their own."""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("demo")(demo)


def demo(
    *,
    out: Annotated[Path, typer.Option(readable=False, help="Folder to write; a former demo there is replaced.")] = Path(
        "runs/demo"
    ),
    count: Annotated[int, typer.Option(min=60, help="How many radiographs to simulate.")] = 900,
    seed: Annotated[int, typer.Option(help="Of everything that is drawn.")] = 0,
) -> None:
    """Go the whole way on simulated radiographs: simulate, split, train, evaluate, identify; ends with a page.

    Takes under three minutes on two cores and no network. OUT gets index.html (open it in a browser), data/,
    manifest.parquet, run/ (with the bundle), report/ and identified/.

    \b
    Examples:
      callus demo
      callus demo --out /tmp/demo --count 2000
    """
    from callus.dataset.manifest import write_manifest
    from callus.dataset.simulated import simulate
    from callus.dataset.split import split
    from callus.report.demonstration import Step, identify_examples, write_page
    from callus.report.evaluation import evaluate
    from callus.training import train  # before anything is written: it needs torch, which may not be there

    _clear(out)
    took = []

    def done(what: str, started: float) -> None:
        took.append(time.monotonic() - started)
        typer.echo(f"{len(took)}/{len(COMMANDS)} {what} ({took[-1]:.1f} s)")

    started = time.monotonic()
    frame = simulate(out / "data", count, seed=seed, plain=True)
    done(f"simulated {len(frame)} radiographs of {frame['patient'].nunique()} patients", started)

    started = time.monotonic()
    frame = split(frame, test=0.25, val=0.15, seed=seed)
    write_manifest(frame, out / "manifest.parquet")
    sizes = ", ".join(f"{name} {int((frame['split'] == name).sum())}" for name in ("train", "val", "test"))
    done(f"split by patient: {sizes}", started)

    started = time.monotonic()
    run = train(out / "manifest.parquet", "demo", out / "run", weights="none", overrides={"seed": seed})
    done(f"trained: {run}", started)

    started = time.monotonic()
    metrics = evaluate(run, frame, "test", out / "report")
    figures = metrics["figures"]["at_0.5"]
    said = ", ".join(f"{name} {_figure(figures[name.lower()])}" for name in ("AUROC", "sensitivity", "specificity"))
    done(f"evaluated on patients it has never seen: {said}", started)

    started = time.monotonic()
    identified = identify_examples(run, frame[frame["split"] == "test"], out / "identified")
    done(f"identified {len(identified)} radiographs with heat maps: {out / 'identified'}", started)

    titles = ("simulate", "split", "train", "evaluate", "identify")
    steps = [Step(*step) for step in zip(titles, took, COMMANDS, strict=True)]
    page = write_page(out, frame, metrics, identified, steps)
    typer.echo(f"page: {page}")
    typer.echo(f"For {RESEARCH_ONLY}; simulated bones say nothing about people.")


def _clear(out: Path) -> None:
    """Remove a former demo; refuse where anything else lies there."""
    import shutil

    from callus.report.demonstration import NAMES

    if not out.exists():
        return
    if not out.is_dir():
        raise CallusError("is a file; the demo is written to a folder", where=out, hint="name another --out")
    strange = sorted(child.name for child in out.iterdir() if child.name not in NAMES and not _left_over(child.name))
    if strange:
        raise CallusError(
            f"holds {strange[0]!r}, which no demo wrote", where=out, hint="name an empty or a new folder with --out"
        )
    shutil.rmtree(out)


def _left_over(name: str) -> bool:
    """Tell whether a killed demo left it: the temporary name of something that it would have written."""
    return name.startswith(".") and name.endswith(".part")


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
