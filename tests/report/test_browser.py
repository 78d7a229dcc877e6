"""The pages in a real browser, at a desk's and at a phone's width."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import tiny_bundle
from browser import needs_browser, open_page

from callus.dataset.simulated import simulate
from callus.report import evaluate
from callus.report.comparison import compare

pytestmark = needs_browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two evaluations with all that a page can hold, and their comparison."""
    folder = tmp_path_factory.mktemp("browser")
    frame = simulate(folder / "data", 60, seed=3, size=(96, 96)).assign(split="test")
    other = simulate(folder / "other", 12, seed=4, size=(96, 96))
    frame["hardware"] = pd.array([number % 5 == 0 for number in range(len(frame))], dtype="boolean")
    for name, points in (("a", (0.3, 0.7)), ("b", (0.2, 0.9))):
        engine = dict(tiny_bundle.tiny_info()["engines"]["onnx-float32"])
        engine["operating_points"] = dict(zip(("high_sensitivity", "high_specificity"), points, strict=True))
        tiny_bundle.write_tiny_bundle(folder / f"model-{name}", name=name, engines={"onnx-float32": engine})
        options = {"disturbed": 12, "external": {"clinic": other}, "prevalence": 0.1} if name == "a" else {}
        evaluate(folder / f"model-{name}", frame, "test", folder / name, **options)
    compare(folder / "a", folder / "b", folder / "compared")
    return folder


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("page", ["a/report.html", "compared/comparison.html"])
def test_pages_open_without_complaint_and_fit(folder: Path, tmp_path: Path, page: str, width: int) -> None:
    seen = open_page(folder / page, width, tmp_path)
    assert seen.console == []
    assert seen.broken == 0
    assert seen.width <= width
    assert seen.height > 2000
    assert seen.title


def test_what_does_not_fit_is_found(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(
        '<title>wide</title><div style="width: 900px">x</div><img src="none.png"><script>console.log("said")</script>'
    )
    seen = open_page(tmp_path / "page.html", 390, tmp_path)
    assert (seen.width >= 900, seen.broken, seen.title) == (True, 1, "wide")
    assert any("said" in line for line in seen.console)
