"""Write the parts of docs/ that come from the code: each verb's help, and the comments of the recipes' fields.

`make docs` runs it; tests/test_docs.py says when a page is stale.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parent
_HELP = re.compile(r"(<!-- help: (?P<verb>[a-z ]*) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def help_of(verb: str) -> str:
    """What ``callus VERB --help`` prints, 100 columns wide."""
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1"}
    call = [sys.executable, "-m", "callus", *verb.split(), "--help"]
    done = subprocess.run(call, check=True, capture_output=True, text=True, env=environment)  # noqa: S603 - our own verb
    return "\n".join(line.rstrip() for line in done.stdout.replace("python -m callus", "callus").strip().splitlines())


def generated(text: str) -> str:
    """A page with its generated parts written anew."""
    return _HELP.sub(lambda m: f"{m[1]}```text\n{help_of(m['verb'])}\n```\n{m[4]}", text)


def pages() -> list[Path]:
    """The pages that have generated parts."""
    return sorted(page for page in DOCS.glob("*.md") if _HELP.search(page.read_text(encoding="utf-8")))


def main() -> None:
    """Write every page anew."""
    for page in pages():
        page.write_text(generated(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
