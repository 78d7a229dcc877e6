"""Downloads that go on where they stopped: a downloader for pooch, which itself begins anew each time."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import requests
import urllib3

from callus.errors import FetchError
from callus.progress import progress

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK: Final = 1 << 18
_MIB: Final = 1 << 20
_TIMEOUT_S: Final = (20, 60)  # to connect, between two chunks
_TRIES: Final = 4
_WAIT_S: Final = 1.0  # before the second try, then twice as long each time
_PARTIAL: Final = 206
_NOT_SATISFIABLE: Final = 416
_TRY_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_AGENT: Final = {"User-Agent": "callus (research software for radiographs)", "Accept-Encoding": "identity"}


class ResumingDownloader:
    """What pooch calls to fetch one file; what has come is kept beside the target until the file is whole.

    Args:
        part: where the bytes that have come are kept, with a ``.json`` beside it that says of which version they are.
        size: how many bytes are expected, None where nobody says.
        what: what the progress bar says.
    """

    def __init__(self, part: Path, *, size: int | None = None, what: str = "") -> None:
        self.part = part
        self.size = size
        self.what = what or part.name

    def __call__(self, url: str, output_file: Any, pooch: Any = None, check_only: bool = False) -> None:  # noqa: ARG002
        """Fetch ``url`` into ``output_file`` (a path), going on with what is there.

        Raises:
            FetchError: the server refuses, or the connection broke again and again; what has come is kept.
        """
        check_address(url)
        self.part.parent.mkdir(parents=True, exist_ok=True)
        problem = ""
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(_WAIT_S * 2 ** (attempt - 1))
            try:
                self._go_on(url)
            except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as error:
                problem = f"the connection failed: {_innermost(error)}"
            except _AgainError as error:
                problem = str(error)
            except requests.RequestException as error:
                raise FetchError(f"cannot be fetched: {_innermost(error)}", where=url) from error
            else:
                shutil.move(self.part, Path(output_file))
                self._version_file.unlink(missing_ok=True)
                return
        came = self.part.stat().st_size if self.part.exists() else 0
        raise FetchError(
            f"{problem} ({_TRIES} tries, {came / _MIB:,.1f} MiB have come)",
            where=url,
            hint="run the same command again: it goes on from there",
        )

    @property
    def _version_file(self) -> Path:
        return self.part.with_name(self.part.name + ".json")

    def _go_on(self, url: str) -> None:
        """Fetch what is missing of the part file; anew where the server has another version or knows no ranges."""
        have = self.part.stat().st_size if self.part.exists() else 0
        version = self._version(url) if have else ""
        headers = dict(_AGENT)
        if have and (version or self.size):  # without either nobody can say that the halves fit
            headers["Range"] = f"bytes={have}-"
            if version:
                headers["If-Range"] = version
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT_S) as answer:
            if answer.status_code == _NOT_SATISFIABLE:
                if self.size is not None and have == self.size:
                    return
                self.part.unlink(missing_ok=True)
                raise _AgainError("the server has not what is missing, beginning anew")
            if answer.status_code in _TRY_AGAIN:
                raise _AgainError(f"the server answers {answer.status_code} {answer.reason}")
            if answer.status_code >= 400:  # noqa: PLR2004 - HTTP's errors begin there
                raise FetchError(f"the server answers {answer.status_code} {answer.reason}", where=url)
            start = have if _begins_at(answer, have) else 0
            left = answer.headers.get("Content-Length")
            total = start + int(left) if left is not None and left.isdigit() else self.size
            self._note_version(url, answer)
            self._write(_pieces(answer), start, total)
        got = self.part.stat().st_size
        if total is not None and got < total:
            raise _AgainError(f"the connection ended after {got:,} of {total:,} bytes")

    def _write(self, chunks: Iterator[bytes], start: int, total: int | None) -> None:
        steps = None if total is None else -(-total // _MIB)
        with self.part.open("r+b" if start else "wb") as file, progress(f"{self.what} (MiB)", steps) as advance:
            file.truncate(start)
            file.seek(start)
            shown = start // _MIB
            advance(shown)
            got = start
            for chunk in chunks:
                file.write(chunk)
                got += len(chunk)
                if self.size is not None and got > self.size:
                    raise FetchError(f"sends more than the {self.size:,} bytes that were announced", where=self.what)
                if got // _MIB > shown:
                    advance(got // _MIB - shown)
                    shown = got // _MIB
            if steps is not None:
                advance(steps - shown)

    def _note_version(self, url: str, answer: requests.Response) -> None:
        """Keep the strong ETag, or the date, by which the server can tell whether the file is still the same."""
        tag = answer.headers.get("ETag", "")
        version = tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified", "")
        self._version_file.write_text(json.dumps({"url": url, "version": version}), encoding="utf-8")

    def _version(self, url: str) -> str:
        try:
            noted = json.loads(self._version_file.read_text(encoding="utf-8"))
            return str(noted["version"]) if noted["url"] == url else ""
        except (OSError, ValueError, KeyError, TypeError):
            return ""


class _AgainError(Exception):
    """Something that may pass: worth another try."""


def get_json(url: str) -> Any:
    """Fetch a JSON answer.

    Raises:
        FetchError: there is no answer, or it is no JSON.
    """
    check_address(url)
    problem = ""
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(_WAIT_S * 2 ** (attempt - 1))
        try:
            answer = requests.get(url, headers=_AGENT, timeout=_TIMEOUT_S)
            if answer.status_code in _TRY_AGAIN:
                problem = f"the server answers {answer.status_code} {answer.reason}"
                continue
            answer.raise_for_status()
            return answer.json()
        except (requests.ConnectionError, requests.Timeout) as error:
            problem = f"the connection failed: {_innermost(error)}"
        except (requests.RequestException, ValueError) as error:
            raise FetchError(f"gives no answer that can be used: {_innermost(error)}", where=url) from error
    raise FetchError(problem, where=url, hint="is there a network? Try again later")


def check_address(url: str) -> None:
    """Raise where an address is not of the web: a mirror's list must not lead to files of this machine."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise FetchError("is not an address that begins with http:// or https://", where=url)


def _pieces(answer: requests.Response) -> Iterator[bytes]:
    """Give the bytes as they come: requests' own iterator drops the piece in which a connection breaks."""
    while piece := answer.raw.read1(_CHUNK, decode_content=False):
        yield piece


def _begins_at(answer: requests.Response, have: int) -> bool:
    return answer.status_code == _PARTIAL and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")


def _innermost(error: BaseException) -> str:
    """Give the cause in a few words: requests wraps it in several layers of representation."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    text = str(error) or type(error).__name__
    return text.splitlines()[0][:200]
