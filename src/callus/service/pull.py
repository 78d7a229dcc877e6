"""A study pulled from an archive: its radiographs found by QIDO-RS and fetched by WADO-RS."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from callus.errors import CallusError, RadiographError
from callus.results.uids import is_uid
from callus.service import audit, jobs
from callus.service.dicom_node import CLASSES
from callus.service.dicomweb import Session, apart, check_status
from callus.service.intake import BusyError, ConflictError
from callus.service.jobs import ENDED, PULL
from callus.service.objects import FullError
from callus.service.source import text
from callus.service.tables import Image, Job, now
from callus.service.worker import PeerError, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy.orm import Session as Transaction

    from callus.service.database import Database
    from callus.service.intake import Intake
    from callus.service.settings import Source

_PAGE: Final = 200
_MOST: Final = 5000  # instances of a study that are looked at
_WRAPPING: Final = 1 << 16  # bytes of a message around one object
_SERIES, _INSTANCE, _CLASS = "0020000E", "00080018", "00080016"


@dataclass(frozen=True)
class _Instance:
    series: str
    uid: str


def ask(session: Transaction, source: str, study_uid: str, who: str) -> bool:
    """Have a study pulled, in the caller's transaction. One that was pulled before is looked at again.

    Args:
        session: a writing one.
        source: the source's name.
        study_uid: the study.
        who: asks for it.

    Returns:
        Whether there is something new to do: not where it waits or is being pulled already.

    Raises:
        CallusError: the UID is none.
    """
    if not is_uid(study_uid):
        raise CallusError("is no Study Instance UID", hint="copy it from the archive")
    key, about = f"{source} {study_uid}", {"source": source, "study": study_uid, "who": who}
    if jobs.add(session, PULL, key, about=about):
        return True
    done: Any = session.execute(
        sa.update(Job)
        .where(Job.kind == PULL, Job.key == key, Job.state.in_((*ENDED, "stuck")))
        .values(state="waiting", attempts=0, due=now(), about=about, finished=None, error="")
    )
    return bool(done.rowcount)


class Pulling(Worker):
    """Pulls studies, one after the other."""

    def __init__(
        self, database: Database, intake: Intake, sources: Sequence[Source], *, largest: int, came: Callable[[], None]
    ) -> None:
        """Prepare it; ``start`` starts it.

        Args:
            database: where the jobs are.
            intake: where radiographs go.
            sources: where studies may be pulled from.
            largest: bytes of one object.
            came: called after a radiograph came.
        """
        super().__init__(database, PULL, name="pull", most=1)
        self._intake = intake
        self._sources = {source.name: source for source in sources}
        self._largest = largest
        self._told = came

    def work(self, taken: list[Job]) -> None:
        """Pull a study. What becomes of its instances is written into the job's ``about``."""
        for job in taken:
            try:
                counts = self._pull(job)
            except (PeerError, BusyError, FullError) as error:
                self.fail(job, error)
                continue
            if self.stopping.is_set():
                return  # what is left is pulled after the next start
            with self.database.writing() as session:
                if self.finish(session, job):
                    about = {**job.about, "counts": counts}
                    session.execute(sa.update(Job).where(Job.id == job.id).values(about=about))
                    said = " ".join(f"{count} {what}" for what, count in sorted(counts.items()))
                    what = f"job {job.id} from {job.about['source']}: {said}"
                    audit.note(session, who=job.about["who"], did="pulled", what=what)

    def _pull(self, job: Job) -> dict[str, int]:
        """Pull a study.

        Returns:
            How many instances were "taken", here already ("known"), no radiographs ("other"), "refused".
        """
        source = self._sources.get(job.about["source"])
        if source is None:
            raise PeerError(f"source {job.about['source']} is no longer in the settings", is_final=True)
        study, counts = job.about["study"], Counter(taken=0, known=0, other=0, refused=0)
        with Session(source, longest=self._largest + _WRAPPING) as session:
            for instance in found(session, source.url, study):
                if self.stopping.is_set():
                    break
                if instance is None:
                    counts["other"] += 1
                else:
                    counts[self._one(session, source, study, instance)] += 1
                    self._tell(job, counts)
        return dict(counts)

    def _tell(self, job: Job, counts: Counter[str]) -> None:
        """Write down how far it is, for whoever waits for it."""
        with self.database.writing() as session:
            still = sa.update(Job).where(Job.id == job.id, Job.holder == self.holder, Job.state == "taken")
            session.execute(still.values(about={**job.about, "counts": dict(counts)}))

    def _one(self, session: Session, source: Source, study: str, instance: _Instance) -> str:
        with self.database.reading() as reading:
            if reading.scalar(sa.select(Image.id).where(Image.uid == instance.uid)) is not None:
                return "known"
        data = fetched(session, source.url, study, instance)
        try:
            _, identity = self._intake.look(data)
            if (identity.study_uid, identity.sop_instance_uid) != (study, instance.uid):
                return "refused"  # it is another object than the one that was asked for
            is_new = self._intake.take(data, source=PULL, sender=source.name).is_new
        except (RadiographError, ConflictError):
            return "refused"
        self._told()
        return "taken" if is_new else "known"


def found(session: Session, url: str, study: str) -> Iterator[_Instance | None]:
    """A study's radiographs, and None for each other instance (QIDO-RS, PS3.18 10.6).

    Raises:
        PeerError: the source does not answer as it should, or has no such study.
    """
    from dicomweb_client.web import DICOMwebClient  # noqa: PLC0415 - where nothing is pulled it need not be imported

    client = DICOMwebClient(url.rstrip("/"), session=session)
    client.set_http_retry_params(retry=False)
    seen: set[str] = set()
    while len(seen) < _MOST:
        page = _page(client, study, len(seen))
        fresh = [one for one in page if text(one, _INSTANCE) not in seen]
        seen.update(text(one, _INSTANCE) for one in fresh)
        for one in fresh:
            instance = _Instance(text(one, _SERIES), text(one, _INSTANCE))
            fits = text(one, _CLASS) in CLASSES and is_uid(instance.series) and is_uid(instance.uid)
            yield instance if fits else None
        if not fresh:  # the end; or a source that does not turn pages
            break
    if not seen:
        raise PeerError("has no such study", is_final=True)


def _page(client: Any, study: str, offset: int) -> list[dict[str, Any]]:
    import requests  # noqa: PLC0415 - as above

    try:
        page = client.search_for_instances(study, limit=_PAGE, offset=offset, fields=["SeriesInstanceUID"])
    except requests.HTTPError as error:
        if error.response is not None:
            check_status(error.response)
        raise PeerError("does not answer a search") from error
    except ValueError as error:
        raise PeerError("answers a search with something else") from error
    if not isinstance(page, list) or not all(isinstance(one, dict) for one in page):
        raise PeerError("answers a search with something else")
    return page


def fetched(session: Session, url: str, study: str, instance: _Instance) -> bytes:
    """An instance as it is kept there, in whatever transfer syntax (WADO-RS, PS3.18 10.4).

    Raises:
        PeerError: it is not given.
    """
    place = f"{url.rstrip('/')}/studies/{study}/series/{instance.series}/instances/{instance.uid}"
    wanted = 'multipart/related; type="application/dicom"; transfer-syntax=*'
    response = session.get(place, headers={"Accept": wanted})
    check_status(response)
    parts = apart(response.headers.get("Content-Type", ""), response.content)
    if len(parts) != 1:
        raise PeerError(f"gives {len(parts)} objects for one")
    return parts[0]
