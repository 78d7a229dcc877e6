"""``callus compare``: two evaluations of the same radiographs, side by side."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from callus.labels import RESEARCH_ONLY

if TYPE_CHECKING:
    from collections.abc import Iterator


class Together(StrEnum):
    """How files of one radiograph are put together; typer offers these words."""

    MEAN = "mean"
    MAX = "max"


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("compare")(compare)


def compare(
    a: Annotated[Path, typer.Argument(readable=False, metavar="A", help="A folder that callus evaluate wrote.")],
    b: Annotated[Path, typer.Argument(readable=False, metavar="B", help="Another, of the same radiographs.")],
    *,
    out: Annotated[Path, typer.Option(readable=False, help="Folder to write; a former comparison there is replaced.")],
    aggregate: Annotated[
        Together, typer.Option(help="How files of one radiograph are put together: mean or max of their probabilities.")
    ] = Together.MEAN,
    prevalence: Annotated[
        float | None, typer.Option(help="Share of fractured radiographs for which PPV and NPV are wanted as well.")
    ] = None,
) -> None:
    """Put two evaluations side by side: what differs, and whether that could be chance.

    Files are matched by SHA-256, or else by path, and both models are judged on those that both answered. Every figure
    comes with the difference, its 95 % interval by group and its p value. OUT gets comparison.html (open it in a
    browser) and comparison.json. Exit code: 0 written; 1 it could not be written; 2 the two cannot be compared.

    \b
    Examples:
      callus compare reports/old reports/new --out reports/old-new
      callus compare reports/old reports/new --aggregate max --prevalence 0.2 --out reports/old-new
    """
    from callus.report.comparison import compare as run

    numbers = run(a, b, out, how=aggregate.value, prevalence=prevalence)
    for line in table(numbers):
        typer.echo(line)
    for warning in numbers["warnings"]:
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(f"page: {out / 'comparison.html'}")


def table(numbers: dict[str, Any]) -> list[str]:
    """What came out in words, and the figures that say most."""
    from callus.report.comparison_page import summary

    lines = [*summary(numbers)[:2], "", _line(("", "A", "B", "A less B", "95 % interval", "p"))]
    lines += [_line(cells) for cells in _rows(numbers["figures"])]
    return [*lines, "", "The p values are not adjusted for how many they are.", f"For {RESEARCH_ONLY}."]


def _rows(figures: dict[str, dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    """AUROC and Brier score, then what each threshold gives."""
    names = {"auroc": "AUROC", "brier": "Brier score"}
    for name, text in names.items():
        yield _cells(text, figures["at_0.5"][name])
    for point, of in figures.items():
        for name in ("sensitivity", "specificity"):
            yield _cells(f"{name}, {point.replace('_', ' ')}", of[name])


def _cells(name: str, told: dict[str, Any]) -> tuple[str, ...]:
    values = [_number(told["a"]), _number(told["b"]), _number(told["difference"], "+.3f")]
    ends = "-"
    if told["low"] is not None and told["high"] is not None:
        ends = f"{told['low']:+.3f} to {told['high']:+.3f}"
    return name, *values, ends, _p(told["p"])


def _number(value: float | None, form: str = ".3f") -> str:
    return "-" if value is None else format(value, form)


def _p(p: float | None) -> str:
    return "< 0.001" if p is not None and p < 0.001 else _number(p)  # noqa: PLR2004


def _line(cells: tuple[str, ...]) -> str:
    widths = (30, 8, 8, 10, 20, 9)
    return f"{cells[0]:<30}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells[1:], widths[1:], strict=True))
