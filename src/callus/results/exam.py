"""What a result for a hospital's systems points back to: the image, its study, its patient, and what judged it.

Nothing is invented: what the file does not tell, or tells in a form that DICOM forbids, is empty in every result.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Final

from pydicom.dataset import Dataset
from pydicom.uid import UID

import callus
from callus.errors import PassingError, RadiographError
from callus.radiograph import limits
from callus.radiograph.dicom import stated_layout
from callus.radiograph.elements import Elements, parse
from callus.results.hospital import ResultError
from callus.results.uids import is_uid, made_uid

if TYPE_CHECKING:
    import os

    from callus.identify import Finding, Identifier
    from callus.radiograph import Identity, Radiograph

UTF8: Final = "ISO_IR 192"
_LONGEST: Final = {"LO": 64, "SH": 16}
_TIME: Final = re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?")
_OFFSET: Final = re.compile(r"([+-])(0\d|1[0-4])([0-5]\d)")
_MOST_WEST, _MOST_EAST = timedelta(hours=-12), timedelta(hours=14)
_DATES: Final = ("ContentDate", "InstanceCreationDate", "DateOfSecondaryCapture", "PresentationCreationDate")
_TIMES: Final = ("ContentTime", "InstanceCreationTime", "TimeOfSecondaryCapture", "PresentationCreationTime")
"""When a result was made, as highdicom writes it: by the clock of this machine, wherever that stands."""
_AGE: Final = re.compile(r"\d{3}[DWMY]")
_MOST_IS: Final = 2**31 - 1
"""The largest number that an IS value can be (PS3.5 6.2)."""
_NAME_GROUPS, _NAME_COMPONENTS = 3, 5
"""Alphabetic, ideographic, phonetic; family, given, middle, prefix, suffix (PS3.5 6.2.1)."""


@dataclass(frozen=True)
class Algorithm:
    """What made the findings, as results name it.

    Attributes:
        name: the bundle's name.
        digest: of the bundle, the ``bundle_sha256`` of an evaluation; "" where it is not known.
    """

    name: str
    digest: str = ""

    @classmethod
    def of(cls, identifier: Identifier) -> Algorithm:
        """Name the model that an identifier runs."""
        return cls(identifier.name, identifier.bundle.digest)

    def parameters(self, finding: Finding) -> tuple[str, ...]:
        """Model, engine and bundle, a line each."""
        bundle = (f"bundle SHA-256: {self.digest}",) if self.digest else ()
        return (f"model: {limits.one_line(self.name, 200)}", f"engine: {finding.engine}", *bundle)


@dataclass(frozen=True, eq=False)
class Exam:
    """An image in a study. Make it with :meth:`of`.

    Attributes:
        image: what a reference to the image needs: its UIDs, size and modality; the patient's values are empty in it.
        header: what every result of the study has in common with it: patient and study, in UTF-8.
        tags: the file's own elements.
        radiograph: the image, read.
        identity: the same as ``radiograph.identity``.
    """

    image: Dataset
    header: Dataset
    tags: Elements
    radiograph: Radiograph
    identity: Identity

    @classmethod
    def of(cls, radiograph: Radiograph, source: str | os.PathLike[str] | bytes | None = None) -> Exam:
        """Find out where a radiograph's results belong.

        Args:
            radiograph: as read.
            source: the file that it was read from, or its bytes; None for ``radiograph.path``.

        Raises:
            ResultError: it is no DICOM, holds several frames, has changed since it was read, or lacks what a result
                has to name (UIDs), or its patient's ID cannot be written as it stands.
            PassingError: the file cannot be read just now.
        """
        where = radiograph.path or "the given bytes"
        try:
            return cls._of(radiograph, radiograph.path if source is None else source)
        except (ResultError, RadiographError) as error:
            kind = PassingError if isinstance(error, PassingError) else ResultError
            raise kind(error.what, where=where, hint=error.hint) from error

    @classmethod
    def _of(cls, radiograph: Radiograph, source: str | os.PathLike[str] | bytes | None) -> Exam:
        identity = radiograph.identity
        if identity is None:
            raise ResultError("is no DICOM, so there is no study to put a result in")
        if source is None:
            raise ResultError("were not given again", hint="give the bytes that the radiograph was read from")
        data = limits.load(source)
        if hashlib.sha256(data).hexdigest() != radiograph.sha256:
            raise ResultError("has changed since it was read, so no result of it is written")
        tags = parse(data)
        frames = tags.number(0x00280008, 1)
        if frames > 1:
            raise ResultError(f"holds {frames} frames; results point at files of one frame")
        return cls(_image(identity, radiograph), _header(identity, tags), tags, radiograph, identity)

    @property
    def side(self) -> str:
        """L or R; "" where the image does not tell, or its body part has no sides."""
        sides = (self.identity.image_laterality.upper(), self.identity.laterality.upper())
        return next((side for side in sides if side in ("L", "R")), "")

    @property
    def number(self) -> int:
        """Instance number, 1 or more, which results take over: so those of one series can be told apart by it."""
        text = self.identity.instance_number
        return min(max(int(text), 1), _MOST_IS) if re.fullmatch(r"[+-]?[0-9]{1,12}", text) else 1

    def series_uid(self, kind: str, algorithm: Algorithm, side: str = "") -> str:
        """A UID for the series of one kind of result.

        Args:
            kind: "sr", "sc" or "pr".
            algorithm: what gave the answer.
            side: what the results say of their series' laterality, which is one thing for all of a series, while
                a series of radiographs may hold both sides.
        """
        return made_uid(self.identity.series_uid, f"{kind} series", algorithm.name, algorithm.digest, *side)

    @property
    def has_grey(self) -> bool:
        """Whether its pixels are grey, which a grayscale presentation state asks for."""
        layout = stated_layout(self.tags)
        return layout.samples == 1 and layout.photometric != "PALETTE COLOR"

    def uid(self, *parts: str) -> str:
        """A UID for something of this image: the same parts give the same UID."""
        return made_uid(self.identity.sop_instance_uid, *parts)

    def put_header(self, result: Dataset) -> None:
        """Give a result the patient and the study of the image, and UTF-8 for both.

        Where the image says its offset from UTC, which counts for all times of a data set, those of the making are
        written in it too.
        """
        for element in self.header:
            result[element.tag] = element
        zone = _zone(self.header.get("TimezoneOffsetFromUTC", ""))
        if zone is None:
            return
        now = datetime.now(zone)
        for keywords, form in ((_DATES, "%Y%m%d"), (_TIMES, "%H%M%S.%f")):
            for keyword in keywords:
                if keyword in result:
                    setattr(result, keyword, now.strftime(form))
        for equipment in result.get("ContributingEquipmentSequence") or ():
            if "ContributionDateTime" in equipment:
                equipment.ContributionDateTime = now.strftime("%Y%m%d%H%M%S.%f")


def answer_key(exam: Exam, finding: Finding, algorithm: Algorithm) -> str:
    """All that an answer says and of what: another answer, model or version has another key."""
    said: list[Any] = [exam.radiograph.sha256, callus.__version__, algorithm.name, algorithm.digest, finding.engine]
    said += [finding.probability, finding.level, finding.cautions, [box.as_dict() for box in finding.boxes]]
    said.append(hashlib.sha256(finding.map.tobytes()).hexdigest())
    return json.dumps(said)


def code_string(value: str) -> str:
    """A CS value; "" where it is none."""
    value = value.strip().upper()
    return value if re.fullmatch(r"[A-Z0-9 _]{1,16}", value) else ""


def date(value: str) -> str:
    """A DA value, YYYYMMDD; "" where it is none. The ACR-NEMA form with dots is understood."""
    value = value.replace(".", "")
    try:
        return value if len(value) == 8 and datetime.strptime(value, "%Y%m%d") else ""  # noqa: PLR2004, DTZ007 - a date
    except ValueError:
        return ""


def _image(identity: Identity, radiograph: Radiograph) -> Dataset:
    image = Dataset()
    image.SpecificCharacterSet = UTF8
    image.SOPClassUID = _sop_class(identity.sop_class_uid)
    image.SOPInstanceUID = _uid(identity.sop_instance_uid, "SOP Instance UID")
    image.StudyInstanceUID = _uid(identity.study_uid, "Study Instance UID")
    image.SeriesInstanceUID = _uid(identity.series_uid, "Series Instance UID")
    for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"):
        setattr(image, keyword, "")
    image.StudyDate = image.StudyTime = None
    image.ReferringPhysicianName = ""
    image.Modality = code_string(identity.modality) or "OT"
    image.Rows, image.Columns = radiograph.shape
    image.SamplesPerPixel = 1
    for keyword, value in (
        ("Manufacturer", identity.manufacturer),
        ("ManufacturerModelName", identity.manufacturer_model),
        ("InstitutionName", identity.institution),
        ("StationName", _text(identity.station, "SH")),
    ):
        if text := _text(value, "LO"):
            setattr(image, keyword, text)
    return image


def _header(identity: Identity, tags: Elements) -> Dataset:
    header = Dataset()
    header.SpecificCharacterSet = UTF8
    header.PatientID = _exact(tags, 0x00100020, identity.patient_id, "patient ID")
    if identity.issuer_of_patient_id:
        issuer = _exact(tags, 0x00100021, identity.issuer_of_patient_id, "issuer of the patient ID")
        header.IssuerOfPatientID = issuer
    header.PatientName = _person(identity.patient_name)
    header.PatientBirthDate = date(identity.patient_birth_date)
    sex = identity.patient_sex.strip().upper()
    header.PatientSex = sex if sex in ("M", "F", "O") else ""
    header.StudyInstanceUID = identity.study_uid
    header.StudyID = _text(identity.study_id, "SH")
    header.StudyDate = date(identity.study_date)
    header.StudyTime = _time(identity.study_time)
    if _zone(identity.timezone_offset) is not None:
        header.TimezoneOffsetFromUTC = identity.timezone_offset
    header.AccessionNumber = _text(identity.accession_number, "SH")
    header.ReferringPhysicianName = _person(identity.referring_physician)
    if _AGE.fullmatch(identity.patient_age):
        header.PatientAge = identity.patient_age
    if description := _text(identity.study_description, "LO"):
        header.StudyDescription = description
    return header


def _sop_class(value: str) -> str:
    # A name that the dictionary does not have stands for a private or a damaged class, which no viewer would look for.
    if "ImageStorage" not in UID(_uid(value, "SOP Class UID")).keyword:
        raise ResultError(f"has the SOP Class UID {value}, which is no image that results can point at")
    return value


def _uid(value: str, name: str) -> str:
    if not value:
        raise ResultError(f"lacks its {name}, so a result cannot point at it")
    if not is_uid(value):
        raise ResultError(f"has the {name} {limits.one_line(value, 80)!r}, which is no UID")
    return value


def _exact(tags: Elements, tag: int, value: str, name: str) -> str:
    """What tells patients apart is written as it stands or not at all: cut short, it could be another patient's."""
    raw = bytes(tags.by_tag[tag].value) if tag in tags.by_tag else b""
    if raw.isascii():  # the reader's text has each run of spaces as one
        value = raw.decode("ascii").strip("\0 ")
    if value and not _text(value, "LO"):
        raise ResultError(
            f"has the {name} {limits.one_line(value, 80)!r}, which cannot be written: at most 64 characters are"
            " allowed, and neither backslashes nor control characters",
            hint="correct it in the archive",
        )
    return value


def _text(value: str, kind: str) -> str:
    """A text value of a VR; "" where that VR cannot hold it."""
    value = value.strip()
    sound = value.isprintable() and not set(value) & {"\\", "\N{REPLACEMENT CHARACTER}"}
    return value if sound and len(value) <= _LONGEST[kind] else ""


def _person(value: str) -> str:
    groups = value.strip().split("=")
    fits = len(groups) <= _NAME_GROUPS and all(
        _text(group, "LO") == group.strip() and group.count("^") < _NAME_COMPONENTS for group in groups
    )
    return value.strip() if fits else ""


def _time(value: str) -> str:
    value = value.replace(":", "")
    return value if _TIME.fullmatch(value) else ""


def _zone(value: str) -> timezone | None:
    """A Timezone Offset From UTC (PS3.3 C.12.1.1.8); None where it is none."""
    found = _OFFSET.fullmatch(value)
    if found is None or value == "-0000":
        return None
    offset = timedelta(hours=int(found[2]), minutes=int(found[3])) * (-1 if found[1] == "-" else 1)
    return timezone(offset) if _MOST_WEST <= offset <= _MOST_EAST else None
