"""The scripts of ``bench/`` are run by hand and seldom: each must start, and what they share must fit its callers."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import create_autospec

import pytest
import tiny_bundle

from callus.bundle import Bundle
from callus.training import quantise

BENCH = Path(__file__).resolve().parents[1] / "bench"
SCRIPTS = sorted(file.stem for file in BENCH.glob("*.py") if "__main__" in file.read_text(encoding="utf-8"))
START_ALL = """
import io, json, os, runpy, sys, traceback
from contextlib import redirect_stdout
told = {}
bench, *scripts = sys.argv[1:]
for script in scripts:
    sys.argv, sys.path[0] = [script, "--help"], bench
    try:
        with redirect_stdout(io.StringIO()) as shown:
            runpy.run_path(os.path.join(bench, script + ".py"), run_name="__main__")
        told[script] = "does not know --help"
    except SystemExit as end:
        told[script] = "" if end.code == 0 and "usage:" in shown.getvalue() else f"ends with {end.code}"
    except Exception:
        told[script] = traceback.format_exc()
print(json.dumps(told))
"""
"""One process for all, so that what they import is imported once."""


@pytest.fixture(scope="module")
def started() -> dict[str, str]:
    """What is wrong with each script, "" where it shows its help."""
    done = subprocess.run(
        [sys.executable, "-c", START_ALL, str(BENCH), *SCRIPTS],
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    told: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return told


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a script by its name; nothing of it stays."""
    before, environment = set(sys.modules), dict(os.environ)
    monkeypatch.setattr(sys, "path", [str(BENCH), *sys.path])

    def script(name: str) -> ModuleType:
        return importlib.import_module(name)

    yield script
    for name in set(sys.modules) - before:
        if str(BENCH) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    os.environ.clear()
    os.environ.update(environment)


def test_there_are_scripts() -> None:
    assert {"archive", "engines", "fuzz", "peers", "start"} <= set(SCRIPTS)


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_starts(script: str, started: dict[str, str]) -> None:
    assert started[script] == ""


@pytest.mark.slow
def test_a_bundle_of_a_network_that_has_learnt_nothing(scripts: Any, tmp_path: Path) -> None:
    before = sys.float_info.min / 2, quantise.MOST_LOST
    made = scripts("engines").made(tmp_path, "small", 64, "none", int8=False)
    assert Bundle.load(made).spec.height == 64
    assert (sys.float_info.min / 2, quantise.MOST_LOST) == before  # other tests count on both


def test_who_makes_such_a_bundle_calls_it_rightly(
    scripts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    tiny = tiny_bundle.write_tiny_bundle(tmp_path / "bundle")
    engines = scripts("engines")
    stands_in = create_autospec(engines.made, return_value=tiny)  # refuses other arguments than made takes
    monkeypatch.setattr(engines, "made", stands_in)
    assert scripts("start").made(tmp_path / "start", "small", 64) == tiny

    archive = scripts("archive")
    monkeypatch.setattr(archive, "on_ray", lambda model, _: {"model": str(model)})
    monkeypatch.setattr(archive, "made_images", lambda folder: folder)
    monkeypatch.setattr(archive, "list_files", lambda _: ([], []))
    monkeypatch.setattr(archive, "link", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["archive.py", "--ray"])
    archive.main()

    networks = scripts("peer_networks")
    arrays = np.zeros((1, 3, 64, 64), np.float32)
    work = networks.Work([], arrays, 1, 1, tmp_path / "peers", "small")
    stands_in.side_effect = lambda folder, *_, **__: tiny_bundle.write_tiny_bundle(folder / "bundle")
    networks.callus_peer(work, "openvino-float32")
    assert stands_in.call_count == 3


def test_the_answers_of_a_fold_are_kept_and_taken_for_the_same_recipe_alone(scripts: Any, tmp_path: Path) -> None:
    import pandas as pd

    bench = scripts("cross_validate")
    what, file = {"manifest_sha256": "a", "recipe_sha256": "b", "trunk": "small", "folds": 5}, tmp_path / "fold1.json"
    part = pd.DataFrame(
        {"path": ["/data/1.png", "/data/2.png"], "group": ["g", "h"], "label": [1.0, 0.0], "probability": [0.75, 0.2]}
    )
    bench.keep(file, what, part, {"fractured": 1})
    assert "/data" not in file.read_text()
    again, places = bench.taken(file, what)
    assert places == {"fractured": 1}
    pd.testing.assert_frame_equal(again, part.assign(path=["1.png", "2.png"], label=[1, 0]), check_dtype=False)
    with pytest.raises(SystemExit, match="another recipe_sha256"):
        bench.taken(file, {**what, "recipe_sha256": "c"})
