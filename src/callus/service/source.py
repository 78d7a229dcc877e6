"""An archive that studies are fetched from, asked which ones it has (QIDO-RS, PS3.18 10.6)."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from callus.radiograph.limits import one_line
from callus.results.uids import is_uid
from callus.service.dicomweb import Session, check_status
from callus.service.refusals import ElsewhereError, TooManyError, UnfitError
from callus.service.worker import PeerError

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator

    from callus.service.schemas.running import StudyThere
    from callus.service.settings import Source

MOST: Final = 50
"""Studies that a search gives."""
_WITHIN: Final = 20.0  # seconds that somebody waits for a search
_LONGEST: Final = 4 << 20  # bytes of its answer
_AT_ONCE: Final = 4  # searches; each holds one of the threads that requests are answered by
_WILD: Final = "*?\\"  # PS3.4 C.2.2.2: they stand for any text, and for a list of texts
_SHOWN: Final = ("ModalitiesInStudy", "StudyDescription", "PatientBirthDate", "PatientSex", "AccessionNumber")
_searches = threading.BoundedSemaphore(_AT_ONCE)


def search(source: Source, *, patient_id: str, accession: str, date: dt.date | None) -> list[StudyThere]:
    """The studies that a source has of a patient, an accession or a day; all that are given have to fit.

    Args:
        source: it.
        patient_id: "" for any.
        accession: Accession Number; "" for any.
        date: Study Date; None for any.

    Returns:
        The newest first, one more than :data:`MOST` where there are more.

    Raises:
        UnfitError: nothing is asked for, or all that there is.
        TooManyError: enough others search just now.
        ElsewhereError: the source does not answer as it should.
    """
    if not (patient_id or accession or date):
        raise UnfitError("nothing is searched for", hint="give a patient's number, an accession number or a day")
    if set(patient_id + accession) & set(_WILD) or not (patient_id + accession).isprintable():
        raise UnfitError("a number holds * ? or \\, which would search for others too")
    asked = {"PatientID": patient_id, "AccessionNumber": accession, "StudyDate": f"{date:%Y%m%d}" if date else ""}
    try:
        with _turn(), Session(source, longest=_LONGEST, within=_WITHIN) as session:
            response = session.get(
                f"{source.url.rstrip('/')}/studies",
                params={name: value for name, value in asked.items() if value}
                | {"limit": str(MOST + 1), "includefield": ",".join(_SHOWN)},
                headers={"Accept": "application/dicom+json"},
            )
            check_status(response)
        found = _studies(response.content)
    except PeerError as error:
        raise ElsewhereError(f"the source {error.what}") from error
    return sorted(found, key=lambda one: one["date"], reverse=True)[: MOST + 1]


@contextmanager
def _turn() -> Iterator[None]:
    if not _searches.acquire(blocking=False):
        raise TooManyError("others search just now", hint="try again", retry_after=2)
    try:
        yield
    finally:
        _searches.release()


def _studies(body: bytes) -> list[StudyThere]:
    if not body.strip():  # 204: there is none
        return []
    try:
        told = json.loads(body)
    except ValueError as error:
        raise PeerError("answers a search with something else") from error
    if not isinstance(told, list) or not all(isinstance(one, dict) for one in told):
        raise PeerError("answers a search with something else")
    return [
        {
            "study_uid": uid,
            "date": text(one, "00080020", 16),
            "patient": {
                "name": text(one, "00100010", 400),
                "id": text(one, "00100020", 200),
                "birth_date": text(one, "00100030", 16),
                "sex": text(one, "00100040", 16),
            },
            "accession": text(one, "00080050", 64),
            "description": text(one, "00081030", 200),
            "modalities": [one_line(kind, 16) for kind in _values(one, "00080061")],
            "study": None,
        }
        for one in told
        if is_uid(uid := text(one, "0020000D", 64))
    ]


def text(one: dict[str, Any], tag: str, most: int = 64) -> str:
    """A value of an object's DICOM JSON (PS3.18 F.2) in one line; "" where it is missing.

    Args:
        one: the object.
        tag: as it writes them.
        most: letters.
    """
    values = _values(one, tag)
    first = values[0] if values else ""
    if isinstance(first, dict):  # a person's name, in up to three ways of writing
        first = next((first[way] for way in ("Alphabetic", "Ideographic", "Phonetic") if first.get(way)), "")
    return one_line(str(first), most)


def _values(one: dict[str, Any], tag: str) -> list[Any]:
    element = one.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []
