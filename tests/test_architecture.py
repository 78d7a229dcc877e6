"""Imports go one way: a room imports from rows above its own in the design's table, and heavy libraries stay out."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "callus"

# docs/architecture.md tells what each room holds; the order is the order of imports.
ROOMS = [
    "errors",
    "labels",
    "interrupts",
    "atomic",
    "cache",
    "memory",
    "progress",
    "workers",
    "radiograph",
    "dataset",
    "preprocess",
    "metrics",
    "model",
    "bundle",
    "training",
    "identify",
    "results",
    "measure",
    "archive",
    "report",
    "service",
    "cli",
]
FORBIDDEN = {
    "model": {"dataset"},
    "training": {"identify"},
    "identify": {"training", "model"},
    "results": {"training", "model"},
    "measure": {"training", "model"},
    "archive": {"training", "model"},
    "report": {"training", "model"},
    "service": {"training", "model"},
}
WITHOUT_TORCH = {"errors", "labels", "interrupts", "atomic", "cache", "memory", "progress", "workers", "radiograph"}
WITHOUT_TORCH |= {
    "dataset",
    "preprocess",
    "metrics",
    "bundle",
    "identify",
    "results",
    "measure",
    "archive",
    "report",
    "service",
}
TORCH = {"torch", "lightning_fabric", "safetensors", "onnx", "tensorboard", "h5py"}
LAZY_ROOT = {"__init__", "__main__"}


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Every module that a file imports when it is imported or run; what only type checkers see does not count."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for child in node.orelse:
                visit(child)
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(str(node.module))
            if node.module == "callus":
                found.update(f"callus.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


FILES = sorted(path for path in SOURCE.rglob("*.py") if room_of(path) not in LAZY_ROOT)


def test_every_room_stands_in_the_table() -> None:
    assert {room_of(path) for path in FILES} <= set(ROOMS)
    assert len(FILES) > 30


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_room_imports_from_rooms_above_it_only(path: Path) -> None:
    own = room_of(path)
    for module in imports(path):
        parts = module.split(".")
        if parts[0] == "callus" and len(parts) > 1 and parts[1] in ROOMS and parts[1] != own:
            assert ROOMS.index(parts[1]) < ROOMS.index(own), f"{own} imports {module}"
            assert parts[1] not in FORBIDDEN.get(own, set()), f"{own} imports {module}"
        if own in WITHOUT_TORCH:
            assert parts[0] not in TORCH, f"{own} imports {module}"
        if own == "labels":
            assert parts[0] in {"__future__", "typing"}


@pytest.mark.parametrize(
    "statement",
    [
        "import callus",
        "import callus; callus.read; callus.Identifier",
        "import callus.cli",
        "import callus.report, callus.results, callus.dataset, callus.metrics, callus.bundle",
    ],
)
def test_no_torch_where_nothing_is_trained(statement: str) -> None:
    code = f"{statement}; import sys; sys.exit(any(name in sys.modules for name in {sorted(TORCH)!r}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_command_line_imports_nothing_heavy_for_its_help() -> None:
    heavy = ["numpy", "pandas", "cv2", "onnxruntime", "torch", "matplotlib", "sklearn", "pydicom", "PIL"]
    code = f"import callus.cli, sys; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
