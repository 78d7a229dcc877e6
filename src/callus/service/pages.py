"""The page for people: files built from ``web/``, served as they are. They hold no data, so anybody gets them.

This module does without ``from __future__ import annotations``: FastAPI reads the annotations when it runs.
"""

import gzip
from functools import lru_cache
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request, Response

from callus.labels import RESEARCH_ONLY
from callus.service.access import open_to_all
from callus.service.refusals import MissingError

FOLDER: Final = Path(__file__).parent / "web"
"""What ``hatch_build.py`` builds; not there where it could not."""
_KINDS: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_FOR_EVER: Final = "public, max-age=31536000, immutable"  # a file of another content has another name
_ASK_EACH_TIME: Final = "no-cache"

router = APIRouter(include_in_schema=False)


@router.get("/", dependencies=[open_to_all()])
@router.get("/studies/{number}", dependencies=[open_to_all()])
@router.get("/administration", dependencies=[open_to_all()])
def page() -> Response:
    """The page; which part of it is shown the browser decides by the address."""
    file = FOLDER / "index.html"
    if not file.is_file():
        text = (
            f"callus: {RESEARCH_ONLY}.\n\nThis service's page was not built; its API and its DICOM node work all the "
            "same.\nInstall callus anew where npm reaches its registry.\n"
        )
        return Response(text, 503, media_type="text/plain; charset=utf-8")
    headers = {"Cache-Control": _ASK_EACH_TIME}
    return Response(file.read_bytes(), media_type=_KINDS[".html"], headers=headers)


@router.get("/icon.svg", dependencies=[open_to_all()])
def icon() -> Response:
    """The page's icon."""
    file = FOLDER / "icon.svg"
    if not file.is_file():
        raise _missing()
    return Response(file.read_bytes(), media_type=_KINDS[".svg"], headers={"Cache-Control": _ASK_EACH_TIME})


@router.get("/assets/{name}", dependencies=[open_to_all()])
def asset(name: str, request: Request) -> Response:
    """One of the page's scripts or style sheets."""
    found = _assets().get(name)
    if found is None:
        raise _missing()
    headers = {"Cache-Control": _FOR_EVER, "Vary": "Accept-Encoding"}
    accepted = {one.partition(";")[0].strip() for one in request.headers.get("Accept-Encoding", "").split(",")}
    if "gzip" not in accepted:
        return Response(found.read_bytes(), media_type=_KINDS[found.suffix], headers=headers)
    headers["Content-Encoding"] = "gzip"
    return Response(_packed(found), media_type=_KINDS[found.suffix], headers=headers)


@lru_cache(maxsize=1)
def _assets() -> dict[str, Path]:
    """Files by their names: what is not listed is not served, whatever a request's path looks like."""
    return {file.name: file for file in sorted(FOLDER.glob("assets/*")) if file.suffix in _KINDS}


@lru_cache(maxsize=32)
def _packed(file: Path) -> bytes:
    return gzip.compress(file.read_bytes(), 6, mtime=0)


def _missing() -> MissingError:
    return MissingError("there is no such file")
