"""The docs hold: generated help is fresh, links lead somewhere, the Python page's examples run."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
import tiny_bundle

ROOT = Path(__file__).parents[1]
GENERATE = runpy.run_path(str(ROOT / "docs" / "generate.py"))
PAGES = [*sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("*.md"))]


@pytest.mark.parametrize("page", GENERATE["pages"](), ids=lambda page: page.name)
def test_generated_help_is_fresh(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert GENERATE["generated"](text) == text, "run `make docs`"


def test_every_verb_has_its_page() -> None:
    from callus.cli.app import app

    verbs = {str(command.name) for command in app.registered_commands}
    verbs |= {str(group.name) for group in app.registered_groups}
    assert "identify" in verbs
    told = "".join(page.read_text(encoding="utf-8") for page in GENERATE["pages"]())
    assert {verb.split()[0] for verb in re.findall(r"<!-- help: ([a-z ]+) -->", told)} == verbs


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_python_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from callus.dataset.simulated import simulate

    simulate(tmp_path / "radiographs", 40, seed=1)
    tiny_bundle.write_tiny_bundle(tmp_path / "runs" / "mine" / "bundle")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 5
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), names)  # noqa: S102 - our own page
    assert (tmp_path / "wrist.png").stat().st_size > 0
    assert (tmp_path / "report" / "report.html").exists()


def told_in_table(page: str, heading: str) -> list[str]:
    """The names in the first column of the table behind a heading, in order."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8").partition(f"\n{heading}\n")[2]
    table = re.search(r"^\| --- .*\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert table, f"{page} has no table behind {heading!r}"
    return [name for row in table[1].splitlines() for name in re.findall(r"`([^`]+)`", row.split("|")[1])]


def test_the_tables_of_columns_tell_each_column() -> None:
    from callus.archive import parts
    from callus.dataset.columns import COLUMNS
    from callus.results import tables

    assert told_in_table("datasets.md", "## The manifest") == list(COLUMNS)
    assert set(told_in_table("archive.md", "## The parts")) == set(parts.SCHEMA.names)
    assert told_in_table("identify.md", "## The tables: `--json FILE`, `--csv FILE`") == list(tables.COLUMNS)


def test_the_table_of_parts_tells_each_type() -> None:
    from callus.archive import parts

    text = (ROOT / "docs" / "archive.md").read_text(encoding="utf-8")
    names = {"list<element: string>": "list of string", "list<item: string>": "list of string"}
    for field in parts.SCHEMA:
        row = next(row for row in text.splitlines() if row.startswith("| `") and f"`{field.name}`" in row.split("|")[1])
        kind = "list of struct" if field.name == "boxes" else names.get(str(field.type), str(field.type))
        assert row.split("|")[2].strip() == {"double": "float64"}.get(kind, kind), field.name
