"""Public data sets: their licences, where they lie, and how they come here.

The list of files, their sizes and MD5s come from figshare's API when it is asked, so that nothing here goes stale.
"""

from __future__ import annotations

import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pooch

from callus.atomic import whole_file, whole_folder
from callus.dataset.download import ResumingDownloader, check_address, get_json
from callus.dataset.unpack import BrokenArchiveError, unpack
from callus.errors import FetchError

if TYPE_CHECKING:
    from collections.abc import Callable

BASE_VARIABLE: Final = "CALLUS_FETCH_BASE"
"""An environment variable with the address of a mirror that answers as figshare's API and GitHub do."""
_FIGSHARE: Final = "https://api.figshare.com/v2"
_GITHUB: Final = "https://github.com"


@dataclass(frozen=True)
class PublicSet:
    """A public data set.

    Attributes:
        title: its name.
        what: what is in it, in one line.
        licence: what one may do with it.
        terms: where the licence stands.
        cite: the publication to cite.
        article: its number at figshare; 0 where it is not there.
        repository: owner/name at GitHub; empty where it is not there.
        ask: where to ask for it, for sets that nobody may pass on.
    """

    title: str
    what: str
    licence: str
    terms: str
    cite: str
    article: int = 0
    repository: str = ""
    ask: str = ""

    def text(self) -> str:
        """Give what a person has to know before fetching it, as lines."""
        return f"{self.title}: {self.what}\nLicence: {self.licence}\nTerms: {self.terms}\nCite: {self.cite}\n"


@dataclass(frozen=True)
class RemoteFile:
    """One file of a set: ``md5`` is empty and ``size`` None where nobody publishes them."""

    name: str
    url: str
    size: int | None = None
    md5: str = ""


_CC_BY: Final = "CC BY 4.0: share and change it, naming its authors"
_CC_BY_TERMS: Final = "https://creativecommons.org/licenses/by/4.0/"
SETS: Final[dict[str, PublicSet]] = {
    "fracatlas": PublicSet(
        title="FracAtlas",
        what="4,083 radiographs of hand, leg, hip and shoulder, 717 fractured, with masks and boxes",
        licence=_CC_BY,
        terms=_CC_BY_TERMS,
        cite="Abedeen et al., FracAtlas, Scientific Data 2023, doi 10.1038/s41597-023-02432-4",
        article=22363012,
    ),
    "grazpedwri": PublicSet(
        title="GRAZPEDWRI-DX",
        what="20,327 radiographs of children's wrists from 6,091 patients, with boxes",
        licence=_CC_BY,
        terms=_CC_BY_TERMS,
        cite="Nagy et al., GRAZPEDWRI-DX, Scientific Data 2022, doi 10.1038/s41597-022-01328-z",
        article=14825193,
    ),
    "bonedata": PublicSet(
        title="BoneData",
        what="9,463 files, rotated copies of fewer than 200 radiographs of forearms, fractured or not",
        licence="none is stated: the rights stay with the authors; look at it yourself, do not pass it on",
        terms="https://github.com/naveenkumar12624/BoneData",
        cite="naveenkumar12624, BoneData, github.com/naveenkumar12624/BoneData",
        repository="naveenkumar12624/BoneData",
    ),
    "mura": PublicSet(
        title="MURA",
        what="40,561 radiographs of the upper limb from 12,173 patients, normal or abnormal",
        licence="Stanford University's research use agreement: for yourself, not to be passed on",
        terms="https://aimi.stanford.edu/datasets/mura-msk-xrays",
        cite="Rajpurkar et al., MURA, 2017, arXiv 1712.06957",
        ask="https://aimi.stanford.edu/datasets/mura-msk-xrays",
    ),
}


def fetch(name: str, out: Path, *, accept: Callable[[PublicSet], bool], base: str | None = None) -> Path:
    """Fetch a public data set into ``out/name``.

    A download that was stopped goes on where it was. The archives lie in ``out/name.download`` until all is unpacked.

    Args:
        name: of ``SETS``.
        out: the folder that gets it.
        accept: is shown the set and says whether its licence is accepted.
        base: the address of a mirror, instead of figshare's and GitHub's; None: the variable ``CALLUS_FETCH_BASE``.

    Returns:
        The folder with the data; at once where it is there already.

    Raises:
        FetchError: there is no such set, it has to be asked for, its licence was not accepted, a download failed, or
            a file has the wrong checksum (it is removed).
    """
    if name not in SETS:
        raise FetchError(f"there is no data set {name!r}", hint=f"give one of {', '.join(SETS)}")
    public = SETS[name]
    if public.ask:
        raise FetchError(
            f"{public.title} may not be passed on ({public.licence})",
            hint=f"ask for it at {public.ask}, unpack it, then: callus data manifest FOLDER --source {name} --out FILE",
        )
    folder = Path(out) / name
    if folder.is_dir():
        return folder
    if not accept(public):
        raise FetchError(
            f"the licence of {public.title} was not accepted", hint="accept it when asked, or give --accept-licence"
        )
    files = list_remote(public, base or os.environ.get(BASE_VARIABLE) or None)
    downloads = folder.with_name(f"{name}.download")
    fetched = [_fetch_file(file, downloads) for file in files]
    with whole_folder(folder) as whole:
        for path in fetched:
            if path.suffix.lower() == ".zip":
                try:
                    unpack(path, whole)
                except BrokenArchiveError:
                    path.unlink()  # so that the next run fetches it anew
                    raise
            else:
                shutil.copyfile(path, whole / path.name)
        with whole_file(whole / "LICENCE.txt", "w") as file:
            file.write(public.text())
    shutil.rmtree(downloads, ignore_errors=True)
    return folder


def list_remote(public: PublicSet, base: str | None = None) -> list[RemoteFile]:
    """List the files of a set, with sizes and MD5s where they are published.

    Raises:
        FetchError: the address gives no list that can be used.
    """
    if public.repository:
        name = public.repository.rpartition("/")[2]
        return [RemoteFile(f"{name}.zip", f"{base or _GITHUB}/{public.repository}/archive/HEAD.zip")]
    address = f"{base or _FIGSHARE}/articles/{public.article}"
    answer = get_json(address)
    try:
        files = [_remote(entry) for entry in answer["files"]]
    except (KeyError, TypeError, ValueError) as error:
        raise FetchError(f"lists no files that can be used: {type(error).__name__} {error}", where=address) from error
    if not files:
        raise FetchError("lists no files", where=address)
    return files


def _remote(entry: dict[str, Any]) -> RemoteFile:
    name = Path(str(entry["name"]).replace("\\", "/")).name  # a list from elsewhere: no folders in it
    if not name or name.startswith("."):
        raise ValueError(f"a file called {entry['name']!r}")
    url = str(entry["download_url"])
    check_address(url)
    md5 = str(entry.get("computed_md5") or entry.get("supplied_md5") or "")
    return RemoteFile(name, url, int(entry["size"]), md5)


def _fetch_file(file: RemoteFile, downloads: Path) -> Path:
    """Fetch one file through pooch, which checks its MD5 and moves it to its place only where it is right."""
    pooch.get_logger().setLevel(logging.WARNING)  # progress and errors are ours
    downloads.mkdir(parents=True, exist_ok=True)
    downloader = ResumingDownloader(downloads / f".{file.name}.part", size=file.size, what=file.name)
    try:
        fetched = pooch.retrieve(
            file.url,
            known_hash=f"md5:{file.md5}" if file.md5 else None,
            fname=file.name,
            path=downloads,
            downloader=downloader,
        )
    except ValueError as error:
        raise FetchError(
            f"{file.name} has another MD5 than the published {file.md5}; it was removed",
            where=file.url,
            hint="fetch it again; if it happens again, the file at its source has changed or is tampered with",
        ) from error
    except OSError as error:
        raise FetchError(f"{file.name} cannot be kept: {error.strerror or error}", where=downloads) from error
    return Path(fetched)
