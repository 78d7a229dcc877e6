"""Radiographs on their way in: on the disk and in the database before anybody is told that they arrived."""

from __future__ import annotations

import threading
import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from callus.errors import CallusError, PassingError, RadiographError
from callus.radiograph.dicom import check_kind, stated_identity
from callus.radiograph.elements import DEFLATED, parse
from callus.radiograph.limits import MAX_FILE_BYTES, one_line
from callus.radiograph.picture import Identity
from callus.radiograph.reading import detect
from callus.radiograph.same import is_same
from callus.results.uids import is_uid, made_uid
from callus.service import audit, changes, jobs
from callus.service.jobs import IDENTIFY
from callus.service.tables import RANK, WAITING, Image, Model, Study, now, search_words

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from sqlalchemy.orm import Session

    from callus.service.database import Database
    from callus.service.objects import ObjectStore

_OWN: Final = "callus"
_DEFLATED: Final = DEFLATED.encode()
_HEAD: Final = 2048  # bytes that a file's meta header lies in
_JUST_NOW: Final = 1.0  # seconds
_MADE_BY: Final = 0x00181016  # Secondary Capture Device Manufacturer


class BusyError(CallusError):
    """More work waits than the service was told to take."""


class ConflictError(CallusError):
    """Another object with the same UID is here already."""


@dataclass(frozen=True)
class Taken:
    """What became of a radiograph that came.

    Attributes:
        image_id: its number.
        study_id: its study's number.
        uid: its SOP Instance UID, made for it where it had none.
        is_new: False where the same object was here already.
    """

    image_id: int
    study_id: int
    uid: str
    is_new: bool


class Intake:
    """The one way in, for DICOM, HTTP and people alike."""

    def __init__(
        self, database: Database, objects: ObjectStore, waiting_most: int, largest: int = MAX_FILE_BYTES
    ) -> None:
        """Open it.

        Args:
            database: where it is written down.
            objects: where the bytes go.
            waiting_most: jobs that may wait before :class:`BusyError`.
            largest: bytes that a deflated object may become.
        """
        self._database = database
        self._objects = objects
        self._waiting_most = waiting_most
        self._largest = largest
        self._inflating = threading.Lock()
        self._counted = 0, float("-inf")  # jobs that waited, and when that was

    def check_free(self) -> None:
        """Refuse early what would be refused anyway.

        Raises:
            BusyError: enough waits already.
            FullError: the disk is full.
        """
        with self._database.reading() as session:
            count = jobs.waiting(session, IDENTIFY)
        self._counted = count, time.monotonic()
        if count >= self._waiting_most:
            raise BusyError("too many radiographs wait for an answer", hint="send it again later")

    def was_free(self) -> bool:
        """Whether there was a lot of room just now, so that :meth:`take`, which counts anew, will hardly refuse."""
        count, at = self._counted
        return count < self._waiting_most // 2 and time.monotonic() - at < _JUST_NOW

    def take(
        self,
        data: bytes,
        *,
        source: str,
        sender: str,
        name: str = "",
        address: str = "",
        study_uid: str = "",
        proof: str = "",
    ) -> Taken:
        """Keep a radiograph and have it answered.

        When this returns, its bytes are on the disk and its job is in the database; when it raises, neither counts.

        Args:
            data: the file: DICOM or a picture.
            source: "dicom", "stow", "upload" or "pull".
            sender: the AE title or the account.
            name: the file's name, where it has one.
            address: the sender's.
            study_uid: the study that a picture belongs to; "" for one of its own. A DICOM object says itself.
            proof: what the sender has shown of who it is, for the audit log; "" where the account or the address is
                all there is.

        Raises:
            RadiographError: it is no radiograph.
            ConflictError: another object has its UID.
            BusyError: enough waits already.
            FullError: the disk is full.
        """
        is_dicom, identity = self.look(data)
        self.check_free()
        sha256 = self._objects.put(data)
        uid = identity.sop_instance_uid if is_dicom else made_uid("picture", sha256, study_uid)
        alike = self._alike(uid, sha256, data)
        with self._database.writing() as session:
            exam = identity.study_uid if is_dicom else study_uid or made_uid("study", sha256)
            self._database.hold(session, f"study {exam}")  # always the study first, or two would wait for each other
            self._database.hold(session, f"image {uid}")
            there = session.scalar(sa.select(Image).where(Image.uid == uid))
            if there is not None:
                if there.sha256 not in (sha256, alike):
                    if alike is None:
                        raise BusyError("another object with this UID comes just now", hint="send it again")
                    raise ConflictError("another object with this SOP Instance UID is here already")
                return Taken(there.id, there.study_id, uid, is_new=False)
            study = _study(session, identity, exam)
            image = Image(
                study_id=study.id,
                uid=uid,
                series_uid=identity.series_uid[:64],
                sop_class=identity.sop_class_uid[:64],
                sha256=sha256,
                bytes=len(data),
                name=one_line(name, 200),
                source=source,
                sender=one_line(sender, 100),
                modality=one_line(identity.modality, 16),
                body_part=one_line(identity.body_part, 60),
                side=one_line(identity.image_laterality or identity.laterality, 16),
                view=one_line(identity.view_position, 60),
            )
            session.add(image)
            study.images_count += 1
            if study.rank == RANK["none"]:
                study.rank, study.probability = WAITING, None  # of this one nobody knows yet
            study.changed = now()
            session.flush()
            for model_id in session.scalars(sa.select(Model.id).where(Model.state == "active")):
                jobs.add(session, IDENTIFY, f"{image.id} {model_id}", image_id=image.id, about={"model": model_id})
            what = f"image {image.id}, {proof}" if proof else f"image {image.id}"
            audit.note(session, who=sender, address=address, did="sent", what=what)
            changes.note(session, study.id, "arrived", image.id)
            session.flush()
            self._objects.keep(sha256, data)
            return Taken(image.id, study.id, uid, is_new=True)

    def look(self, data: bytes) -> tuple[bool, Identity]:
        """See :func:`look`; one deflated object after the other."""
        with self.turn(data):
            return look(data, self._largest)

    def turn(self, data: bytes) -> AbstractContextManager[object]:
        """What to hold while a file is looked into: what is deflated may become a thousand times as large."""
        return self._inflating if _DEFLATED in data[:_HEAD] else nullcontext()

    def note_refused(self, sender: str, address: str, proof: str) -> None:
        """Write down that somebody was sent away who showed something, such as a certificate, that is good elsewhere.

        Args:
            sender: the AE title that it claims.
            address: where it came from.
            proof: what it showed.
        """
        with self._database.writing() as session:
            audit.note(session, who=sender, address=address, did="refused", what=f"an association, {proof}")

    def _alike(self, uid: str, sha256: str, data: bytes) -> str | None:
        """Find the file of an object that came before, where it is the same as one that comes now in another encoding.

        Outside of the transaction that takes it in: pixels may have to be decoded, and others would wait for that.

        Returns:
            The SHA-256 of what was kept of the same object; "" where it is another one, None where there is none.

        Raises:
            BusyError: that cannot be told just now.
        """
        with self._database.reading() as session:
            kept = session.scalar(sa.select(Image.sha256).where(Image.uid == uid))
        if kept is None or kept == sha256:
            return kept
        try:
            return kept if is_same(self._objects.get(kept), data) else ""
        except PassingError as error:
            raise BusyError("an object with this UID cannot be looked at just now", hint="send it again") from error
        except CallusError:  # it is damaged or gone: nothing says that this is the same
            return ""


def look(data: bytes, most: int = MAX_FILE_BYTES) -> tuple[bool, Identity]:
    """Whether some bytes are DICOM, and whose; without decoding their pixels.

    Args:
        data: the file.
        most: bytes that a deflated one may become.

    Raises:
        RadiographError: they are neither a DICOM radiograph with its UIDs nor a picture.
    """
    kind = detect(data)
    if kind is None:
        raise RadiographError("is neither a DICOM object nor a picture", hint="send DICOM, PNG, JPEG or TIFF")
    if kind != "DICOM":
        return False, Identity()
    tags = parse(data, most=most)
    identity = stated_identity(tags)
    check_kind(tags, identity)
    if tags.text(_MADE_BY) == _OWN:  # else an archive that sends on what it gets has results made of results, for ever
        raise RadiographError("is no radiograph: callus made this picture of one", hint="leave it out")
    for uid, what in ((identity.study_uid, "Study"), (identity.sop_instance_uid, "SOP")):
        if not is_uid(uid):
            raise RadiographError(f"has no valid {what} Instance UID")
    return True, identity


def patient_number(identity: Identity) -> str:
    """A patient's number as it is kept."""
    return one_line(identity.patient_id, 200)


def _study(session: Session, identity: Identity, uid: str) -> Study:
    """The study of a UID, made where it is new; what its first object did not tell later ones may."""
    told = {
        "patient_id": patient_number(identity),
        "patient_name": one_line(identity.patient_name, 400),
        "birth_date": one_line(identity.patient_birth_date, 16),
        "sex": one_line(identity.patient_sex, 16),
        "date": one_line(identity.study_date, 16),
        "accession": one_line(identity.accession_number, 64),
        "description": one_line(identity.study_description, 200),
    }
    study = session.scalar(sa.select(Study).where(Study.uid == uid).with_for_update())
    if study is None:
        study = Study(uid=uid, **told)
        session.add(study)
    elif study.patient_id in ("", told["patient_id"]):  # of another patient nothing is taken over
        more = {name: value for name, value in told.items() if value and not getattr(study, name)}
        for name, value in more.items():
            setattr(study, name, value)
        if more:
            study.words = search_words(study.accession, study.patient_name, study.patient_id)
    session.flush()
    return study
