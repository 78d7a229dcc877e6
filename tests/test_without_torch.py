"""Identification, evaluation, audit and the service where there is no torch: only what callus asks for without extras.

Installing the project anew would take minutes and a network. So a virtual environment is made that links to packages
installed here, and to those alone that pyproject.toml asks for without extras, and that those need in turn.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import time
import tomllib
import venv
from importlib import metadata
from pathlib import Path

import pytest
import served
import tiny_bundle
from clinic import radiograph
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from callus.cli import TRAINING_PARTS
from callus.dataset.simulated import simulate
from callus.identify import Identifier

ROOT = Path(__file__).parents[1]
ABSENT = sorted({*TRAINING_PARTS, "nncf", "tensorflow", "keras", "pytest"})


def needed(extra: str = "") -> set[str]:
    """The distributions that callus needs, by their names: its own list, and each one's installed metadata."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [
        (line, "") for line in project["dependencies"] + (project["optional-dependencies"][extra] if extra else [])
    ]
    found: set[tuple[str, str]] = set()
    while lines:
        line, of = lines.pop()
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": of}):
            continue
        for one in ("", *requirement.extras):
            entry = (canonicalize_name(requirement.name), one)
            if entry not in found:
                found.add(entry)
                lines += [(line, one) for line in metadata.requires(entry[0]) or []]
    return {name for name, _ in found}


def link(name: str, site: Path) -> None:
    """Link what a distribution has put into the environment of this process."""
    distribution = metadata.distribution(name)
    for part in {file.parts[0] for file in distribution.files or []} - {"..", "__pycache__"}:
        if not (site / part).is_symlink():  # some folders are several distributions'
            (site / part).symlink_to(Path(str(distribution.locate_file(part))).resolve())


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of the environment."""
    folder = tmp_path_factory.mktemp("environment")
    venv.EnvBuilder(with_pip=False, symlinks=os.name != "nt").create(folder)
    paths = {"base": str(folder), "platbase": str(folder)}
    site = Path(sysconfig.get_path("purelib", scheme="venv", vars=paths))
    for name in ("callus", *needed()):
        link(name, site)
    return Path(sysconfig.get_path("scripts", scheme="venv", vars=paths)) / Path(sys.executable).name


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and simulated radiographs."""
    folder = tmp_path_factory.mktemp("place")
    tiny_bundle.write_tiny_bundle(folder / "tiny")
    simulate(folder / "data", 12, seed=3)
    return folder


def run(python: Path, place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    # -I: neither this process's environment nor its folder adds to what the interpreter finds.
    return subprocess.run([python, "-I", *words], cwd=place, capture_output=True, text=True, check=False, timeout=120)


def test_the_environment_has_what_callus_asks_for_and_no_torch(python: Path, place: Path) -> None:
    torch = run(python, place, "-c", "import torch")
    assert torch.returncode == 1
    assert torch.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'torch'"
    code = f"from importlib.util import find_spec; print([name for name in {ABSENT!r} if find_spec(name)])"
    assert run(python, place, "-c", code).stdout == "[]\n"
    assert {"numpy", "openvino", "pandas"} <= needed()
    assert "torch" in needed("train")


def test_identify_answers_the_same(python: Path, place: Path) -> None:
    done = run(python, place, "-m", "callus", "identify", "data/images", "--model", "tiny", "--json", "f.json")
    assert done.returncode == 0, done.stderr
    findings = json.loads((place / "f.json").read_text())["findings"]
    assert len(findings) == 12
    identifier = Identifier(place / "tiny")
    for entry in findings:
        here = identifier.identify(place / entry["path"])
        assert (entry["level"], entry["engine"]) == (here.level, here.engine)
        assert entry["probability"] == pytest.approx(here.probability, abs=1e-6)
        assert entry["boxes"] == [box.as_dict() for box in here.boxes]


def test_the_model_that_comes_with_callus_answers_in_int8(python: Path, place: Path) -> None:
    (file,) = sorted((place / "data" / "images").iterdir())[:1]
    done = run(python, place, "-m", "callus", "identify", str(file), "--json", "shipped.json")
    assert done.returncode == 0, done.stderr
    (entry,) = json.loads((place / "shipped.json").read_text())["findings"]
    assert (entry["model"], entry["engine"], entry["error"]) == ("radiograph", "openvino-int8", None)
    assert entry["probability"] == pytest.approx(Identifier().identify(file).probability, abs=1e-6)


def test_evaluate_writes_its_report(python: Path, place: Path) -> None:
    words = ["evaluate", "--model", "tiny", "--data", "data/manifest.parquet", "--split", "all", "--out", "report"]
    done = run(python, place, "-m", "callus", *words, "--pictures", "1")
    assert done.returncode == 0, done.stderr
    assert json.loads((place / "report" / "metrics.json").read_text())["data"]["judged"] == 12
    assert (place / "report" / "report.html").stat().st_size > 0


def test_audit_finds_its_way(python: Path, place: Path) -> None:
    done = run(python, place, "-m", "callus", "data", "audit", "data/images", "--out", "audit")
    assert done.returncode == 0, done.stderr
    assert any((place / "audit").iterdir())


def test_the_service_answers_and_exports_also_without_node(python: Path, place: Path) -> None:
    (empty := place / "nothing").mkdir()
    service = served.start(
        place / "clinic", place / "tiny", env={"PATH": str(empty), "HOME": str(place)}, python=python
    )
    try:
        service.join()
        sent = service.post("/radiographs", files=[("files", ("1.dcm", radiograph()))])
        assert sent.status_code == 202, sent.text
        (taken,) = sent.json()["taken"]
        image, study, ends = (
            f"/images/{taken['image']}",
            f"/studies/{taken['study']}",
            time.monotonic() + served.LONGEST,
        )
        while service.browser.get(f"{image}/sr.dcm").status_code != 200:
            assert time.monotonic() < ends, service.browser.get(study).text
            time.sleep(0.1)
        assert service.post(f"{image}/verdict", json={"label": 1}).status_code == 201
        for path in ("frame.png", "frame.bin", "heat.png", "overlay.png", "sc.dcm", "pr.dcm", "report.fhir.json"):
            assert service.browser.get(f"{image}/{path}").status_code == 200, path
        for path in ("/verdicts/export", f"{study}/deidentified.zip", "/metrics", "/openapi.json"):
            assert service.browser.get(path).status_code == 200, path
    finally:
        service.close()


@pytest.mark.parametrize("words", [["train", "--data", "data", "--out", "run"], ["export", "run", "--out", "bundle"]])
def test_training_says_what_to_install(python: Path, place: Path, words: list[str]) -> None:
    done = run(python, place, "-m", "callus", *words)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("callus: this verb needs ")
    assert line.endswith(", which is not installed: pip install 'callus[train]'")
