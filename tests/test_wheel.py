"""The wheel that is built of what git tracks: all of it is inside, nothing else, and it runs where it is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zlib
from collections.abc import Iterator
from email.parser import BytesParser
from pathlib import Path
from zipfile import ZipFile

import pytest
from programs import missing

import callus

ROOT = Path(__file__).resolve().parents[1]
PAGE = Path("src/callus/service/web")
INFO = f"callus-{callus.__version__}.dist-info"
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "npm_config_offline": "true"}


def run(*line: str | Path, cwd: Path, **environment: str) -> str:
    """Run a program; what it says, errors included."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    ran = subprocess.run(
        [str(word) for word in line],
        cwd=cwd,
        env=kept | OFFLINE | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=600,
    )
    assert ran.returncode == 0, ran.stdout
    return ran.stdout


def tracked() -> list[Path]:
    if not shutil.which("git") or not (ROOT / ".git").exists():
        missing("git, or the checkout's history")
    names = run("git", "ls-files", "-z", cwd=ROOT).split("\0")
    return [Path(name) for name in names if name and (ROOT / name).is_file()]


def page() -> list[Path]:
    """The page's files as they were built; ``make test`` builds them before the tests, as npm needs its registry."""
    if not (ROOT / PAGE / "index.html").is_file():
        missing("the service's page (make page)")
    return [file.relative_to(ROOT) for file in (ROOT / PAGE).rglob("*") if file.is_file()]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git tracks and of the built page, with their times: they tell whether the page is new enough."""
    copy = tmp_path_factory.mktemp("source")
    for file in (*tracked(), *page()):
        (copy / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / file, copy / file)
    return copy


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built without a network: with what is installed here, but Node, which only a page that is out of date needs."""
    out = tmp_path_factory.mktemp("dist")
    build = ("-m", "build", "--wheel", "--no-isolation", "--skip-dependency-check", "--outdir", out, source)
    said = run(sys.executable, *build, cwd=out)
    assert "page is not built" not in said, said
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def inside(wheel: Path) -> Iterator[ZipFile]:
    with ZipFile(wheel) as opened:
        yield opened


def test_the_wheel_holds_the_package_and_nothing_else(source: Path, inside: ZipFile) -> None:
    expected = {
        file.relative_to("src") if file.parts[0] == "src" else Path("callus", file): source / file
        for file in (*tracked(), *page())
        if file.parts[0] == "recipes" or file.parts[:2] == ("src", "callus")
    }
    information = {f"{INFO}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")}
    held = {one.filename: one.CRC for one in inside.infolist()}
    assert held.keys() == {file.as_posix() for file in expected} | information
    for name, file in expected.items():
        assert held[name.as_posix()] == zlib.crc32(file.read_bytes()), name
    assert {"callus/models/radiograph.callus", "callus/recipes/radiograph.toml"} <= held.keys()


def test_the_page_is_inside_with_all_that_it_loads(inside: ZipFile) -> None:
    folder = "callus/service/web/"
    index = inside.read(f"{folder}index.html").decode()
    loaded = re.findall(r'(?:src|href)="/?([^"]+)"', index)
    assert any(name.endswith(".js") for name in loaded)
    assert any(name.endswith(".css") for name in loaded)
    held = set(inside.namelist())
    assert {folder + name for name in loaded} <= held
    scripts = [name for name in held if name.startswith(folder) and name.endswith(".js")]
    for script in scripts:  # what is loaded later, such as the viewer
        later = re.findall(r"""["'`]\./([\w.-]+\.(?:js|css))["'`]""", inside.read(script).decode())
        assert {f"{folder}assets/{name}" for name in later} <= held, script
    assert len(scripts) > 1


def test_a_container_is_built_of_all_that_the_wheel_needs(source: Path, inside: ZipFile, tmp_path: Path) -> None:
    """deploy/Containerfile gets what .dockerignore leaves."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    ignored = {line for line in lines if line and not line.startswith("#")}
    assert {".*", "**/__pycache__", "tests", "docs"} <= ignored
    for file in source.rglob("*"):
        place = file.relative_to(source)
        hidden, named = place.parts[0].startswith("."), {place.as_posix(), *(one.as_posix() for one in place.parents)}
        if file.is_file() and not hidden and "__pycache__" not in place.parts and not named & ignored:
            (tmp_path / "context" / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, tmp_path / "context" / place)
    assert not (tmp_path / "context" / "tests").exists()
    build = ("-m", "build", "--wheel", "--no-isolation", "--skip-dependency-check", "--outdir", tmp_path / "dist")
    assert "page is not built" not in run(sys.executable, *build, tmp_path / "context", cwd=tmp_path)
    (built,) = (tmp_path / "dist").iterdir()
    with ZipFile(built) as opened:
        assert set(opened.namelist()) == set(inside.namelist())


def test_the_wheel_is_of_this_version(wheel: Path, inside: ZipFile) -> None:
    assert wheel.name == f"callus-{callus.__version__}-py3-none-any.whl"
    told = BytesParser().parsebytes(inside.read(f"{INFO}/METADATA"))
    assert (told["Name"], told["Version"]) == ("callus", callus.__version__)


def test_what_is_installed_from_the_wheel_runs_by_itself(wheel: Path, tmp_path: Path) -> None:
    target, elsewhere = tmp_path / "installed", tmp_path / "elsewhere"
    elsewhere.mkdir()
    pip = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--target", target, wheel)
    run(sys.executable, *pip, cwd=elsewhere)

    def there(*line: str | Path) -> str:
        return run(*line, cwd=elsewhere, PYTHONPATH=str(target), PYTHONDONTWRITEBYTECODE="1")

    places = "import callus, callus.service.pages as pages; print(callus.__file__, pages.FOLDER, sep='\\n')"
    assert there(sys.executable, "-c", places).split() == [
        str(target / "callus" / "__init__.py"),
        str(target / "callus" / "service" / "web"),
    ]
    assert "identify" in there(sys.executable, "-m", "callus", "--help")
    assert "radiograph (taken where none is named)" in there(target / "bin" / "callus", "model", "list")
