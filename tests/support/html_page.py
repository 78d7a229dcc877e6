"""A page as text. Not a test: ``tests/support`` is on the tests' path (pyproject.toml)."""

from __future__ import annotations

import re
from html.parser import HTMLParser


class Page(HTMLParser):
    """What a page asks others for, how many pictures it has, its text, and what its parts are called and refer to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.words = ""
        self.pictures = 0
        self.ids: list[str] = []
        self.meant: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.pictures += tag == "img"
        self.ids += [values["id"] or ""] if "id" in values else []
        for name, value in values.items():
            found = (
                re.match("#(.+)", value or "") if name.endswith("href") else re.search(r"url\(#([^)]+)\)", value or "")
            )
            self.meant |= {found[1]} if found else set()
        self.fetched += [v for k in ("src", "href") if (v := values.get(k)) and not v.startswith(("data:", "#"))]
        if tag == "script":
            self.fetched.append("script")

    def handle_data(self, data: str) -> None:
        self.words += data
