"""Radiographs that wait get their answers: identified and told, then made into results, which are put on their way.

An answer stands, with its map and its study's place in the worklist, as soon as the network has given it; results take
longer, and nobody waits for them to be told. They, the deliveries that they bring about and the end of the job are a
second transaction. Killed before the first, the job is done again; killed between the two, the answer is kept as it was
told and only its results are made, under the same UIDs.
"""

from __future__ import annotations

import io
import logging
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
import sqlalchemy as sa

from callus.errors import CallusError, PassingError, RadiographError
from callus.metrics.boxes import Box
from callus.radiograph.limits import one_line
from callus.service import changes, jobs, making
from callus.service.changes import newest_answer
from callus.service.deletion import forget
from callus.service.intake import patient_number
from callus.service.jobs import DELIVER, IDENTIFY, TRY
from callus.service.placing import held_image, hold_study, leave_unanswered, place_study
from callus.service.tables import Answer, Image, Job, Model, Study
from callus.service.underway import Underway
from callus.service.worker import ended

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from callus.identify import Finding
    from callus.labels import Level
    from callus.radiograph import Radiograph
    from callus.service.database import Database
    from callus.service.models import Models
    from callus.service.objects import ObjectStore
    from callus.service.settings import Destination

_ATTEMPTS: Final = 5
_AT_ONCE: Final = 16  # jobs that are held together: each has its radiograph in memory until its results are made
_TRIED: Final = 4  # the same, while a model is tried: what comes meanwhile waits for no more than these
_IDLE: Final = 0.5  # seconds between looks where nobody says that something came
_OF_RESULTS: Final = "results: "  # how the reason begins why a job is stuck whose answer stands
log = logging.getLogger(__name__)


class Answering(threading.Thread):
    """The thread that answers. Set :attr:`came` when a radiograph has come; call :meth:`stop` to end in order."""

    def __init__(
        self,
        database: Database,
        objects: ObjectStore,
        models: Models,
        destinations: Sequence[Destination],
        tell: Callable[[int], None] | None = None,
        made: Callable[[], None] | None = None,
    ) -> None:
        """Prepare it; ``start`` starts it.

        Args:
            database: where jobs are taken from and answers go.
            objects: where radiographs are, and maps and results go.
            models: what answers.
            destinations: where results are to be delivered.
            tell: told each answer's number once it stands; its results are made later.
            made: called when results are made, which may be to be delivered.
        """
        super().__init__(name="answering", daemon=True)
        self._database = database
        self._objects = objects
        self._models = models
        self._destinations = destinations
        self._tell = tell
        self._made = made
        self._holder = uuid.uuid4().hex
        self._held: set[int] = set()  # jobs that are being answered
        self._stopping = threading.Event()
        self.came = threading.Event()
        self._underway = Underway(self.came.set)  # when something has ended there may be room for another one

    def run(self) -> None:
        """Answer until stopped."""
        renewing = threading.Thread(target=self._renew, name="leases", daemon=True)
        renewing.start()
        making.begin()
        while not self._stopping.is_set():
            try:
                if not self._some():
                    self.came.wait(_IDLE)
                    self.came.clear()
            except Exception as error:  # noqa: BLE001 - nothing may end the thread: what comes is acknowledged
                # Not its text nor its trace, which may hold what the database holds.
                log.error("answering waits: %s", type(error).__name__)  # noqa: TRY400
                self._stopping.wait(_IDLE)
        self._underway.end()
        with suppress(Exception):  # else the lease ends
            jobs.release(self._database, self._holder)

    def stop(self) -> None:
        """End after what the network is at, and wait for that. What is not done by then is done after the next start.

        Raises:
            StuckError: that takes too long.
        """
        self._stopping.set()
        self.came.set()
        ended(self)

    def _some(self) -> int:
        """Take some jobs and answer them; how many. Results of those before may still be made meanwhile."""
        taken = self._take()
        by_model: dict[int, list[Job]] = {}
        for job in taken:
            by_model.setdefault(int(job.about["model"]), []).append(job)
        deadly = any(job.killed for job in taken)  # perhaps: nothing else is to be killed with it
        try:
            if deadly:
                self._underway.wait(self._stopping)
            for model_id, group in by_model.items():
                self._answer(model_id, group)
            if deadly:
                self._underway.wait(self._stopping)
        except Exception as error:
            for job in taken:  # those that have ended do not change any more
                if job.id not in self._underway.jobs():
                    self._failed(job, error)
            raise
        finally:
            self._held = set()
        return len(taken)

    def _take(self) -> list[Job]:
        """The next jobs: what somebody waits for, or else what is tried."""
        free = _AT_ONCE - len(self._underway.jobs())
        taken = jobs.take(self._database, IDENTIFY, self._holder, free) if free > 0 else []
        if not taken and (free := _TRIED - len(self._underway.jobs())) > 0:
            taken = jobs.take(self._database, TRY, self._holder, free)
        self._held = {job.id for job in taken}
        return taken

    def _answer(self, model_id: int, group: list[Job]) -> None:
        try:
            identifier = self._models.identifier(model_id)
        except CallusError as error:
            for job in group:
                self._failed(job, error)
            return
        with self._database.reading() as session:
            wanted = [job.image_id for job in group]
            images = {image.id: image for image in session.scalars(sa.select(Image).where(Image.id.in_(wanted)))}
            of = sa.select(Image.id, Study.patient_id).join(Study, Study.id == Image.study_id)
            patients = {row.id: row.patient_id for row in session.execute(of.where(Image.id.in_(wanted)))}
        asked: dict[str, list[Job]] = {}  # images of different studies may be the same bytes
        for job in group:
            if job.image_id in images:
                asked.setdefault(str(self._objects.path(images[job.image_id].sha256)), []).append(job)
        begun, count = time.monotonic(), 0
        answers = identifier.identify_many(list(asked))
        for path, radiograph, finding in takewhile(lambda _: not self._stopping.is_set(), answers):
            count += 1
            seconds = (time.monotonic() - begun) / count
            for job in asked[path]:
                image = images[job.image_id or 0]
                if isinstance(finding, CallusError) or radiograph is None:
                    self._refused(job, image, finding)
                    continue
                try:
                    cautions = (*_other_patient(radiograph, patients.get(image.id, "")), *finding.cautions)
                    # A file's name may be its patient's, and no result names it.
                    told = replace(finding, path=None, cautions=cautions)
                    stands = self._stand(job, image, radiograph, told, seconds)
                except Exception as error:  # noqa: BLE001 - whatever went wrong with one costs that one
                    self._failed(job, error)
                    continue
                if stands is not None:
                    answer, told = stands
                    order = making.Order(self._objects, radiograph, told, identifier.name, identifier.bundle.digest)
                    self._underway.add(job.id, partial(self._make, job, image, answer, order))

    def _stand(
        self, job: Job, image: Image, radiograph: Radiograph, finding: Finding, seconds: float
    ) -> tuple[Answer, Finding] | None:
        """Write an answer down and tell it, before anything is made of it.

        Returns:
            The answer, and the finding as it was told; None where there is nothing to be made any more.
        """
        heat = _saved(finding.map)
        new = Answer(
            image_id=image.id,
            model_id=int(job.about["model"]),
            probability=finding.probability,
            level=finding.level,
            boxes=[box.as_dict() for box in finding.boxes],
            cautions=list(finding.cautions),
            engine=finding.engine,
            map=self._objects.put(heat),
            results={},
            seconds=round(seconds, 3),
        )
        answer, is_news = None, False
        try:
            with self._database.writing() as session:
                hold_study(session, image.study_id)  # before its rows, as deleting does
                if not jobs.holds(session, job, self._holder):  # the image was deleted meanwhile
                    return None
                found, is_news = self._write_down(session, job, new, image.study_id, radiograph)
                if found.map == new.map:
                    self._objects.keep(new.map, heat)
                is_made = bool(found.results)  # as where it was tried, and is what answers now
                if is_made:
                    jobs.finish(session, job, self._holder)
                    self._deliver(session, job, found)
            answer = found
        finally:
            if answer is None or answer.map != new.map:
                forget(self._database, self._objects, [new.map])
        if is_news and job.kind == IDENTIFY:
            self._tell_all(answer)
        if is_made:
            self._say_made()
            return None
        return answer, finding if answer is new else self._as_told(finding, answer)

    def _write_down(
        self, session: Session, job: Job, answer: Answer, study_id: int, radiograph: Radiograph
    ) -> tuple[Answer, bool]:
        """Have an answer stand; the one that stands, and whether it counts from now on.

        Where the service was killed before its results were made there is one already, which was told and is kept.
        """
        state = sa.select(Model.state).where(Model.id == answer.model_id).with_for_update(read=True)
        is_active = session.scalar(state) == "active"  # and stays so until this answer stands
        tried = job.kind == TRY and not is_active
        its = sa.and_(Answer.image_id == answer.image_id, Answer.model_id == answer.model_id)
        there = session.scalar(sa.select(Answer).where(its))
        if there is not None and (tried or not there.tried):
            return there, False
        if there is not None:
            answer = there
        else:
            if self._database.is_sqlite:
                answer.id = newest_answer(session) + 1
            session.add(answer)
        answer.tried = tried
        session.flush()
        height, width = radiograph.shape
        image = sa.update(Image).where(Image.id == answer.image_id)
        session.execute(image.values(height=height, width=width, spacing=_listed(radiograph.spacing_mm)))
        # What came before a switch is answered, shown and delivered by the model that was active when it came.
        if not tried:
            session.execute(image.values(error=""))
            place_study(session, study_id)
        return answer, True

    def _tell_all(self, answer: Answer) -> None:
        if self._tell is not None:
            try:
                self._tell(answer.id)
            except Exception as error:  # noqa: BLE001 - it stands, and whoever comes back will hear of it
                log.error("a finding was not told: %s", type(error).__name__)  # noqa: TRY400 - texts may quote rows

    def _as_told(self, finding: Finding, answer: Answer) -> Finding:
        """A finding as it was told before the service was killed: this time another engine may have calculated it."""
        return replace(
            finding,
            probability=answer.probability,
            level=cast("Level", answer.level),
            boxes=tuple(Box.from_dict(box) for box in answer.boxes),
            cautions=tuple(answer.cautions),
            engine=answer.engine,
            map=np.load(io.BytesIO(self._objects.get(answer.map)), allow_pickle=False),
        )

    def _make(self, job: Job, image: Image, answer: Answer, order: making.Order) -> None:
        try:
            self._complete(job, image, answer, self._underway.make(order))
        except making.StoppedError:
            pass
        except Exception as error:  # noqa: BLE001 - whatever went wrong with one costs that one
            self._failed(job, error, _OF_RESULTS)

    def _complete(self, job: Job, image: Image, answer: Answer, made: making.Made) -> None:
        """Write down what was made of an answer, put it on its way, and end its job."""
        stands = False
        try:
            with self._database.writing() as session:
                hold_study(session, image.study_id)
                if jobs.finish(session, job, self._holder):
                    found = session.get_one(Answer, answer.id, with_for_update=True)
                    if not found.results:
                        found.results = dict(made.hashes)
                        found.cautions = [*found.cautions, *made.cautions]
                        self._check_there(made)
                    self._deliver(session, job, found)
                    if not found.tried:
                        changes.note(session, image.study_id, "made", image.id)
                    stands = True
        finally:
            if not stands:  # the image was deleted meanwhile, or it goes wrong
                self._forget(made, answer)
        if stands:
            self._say_made()

    def _say_made(self) -> None:
        if self._made is not None:
            self._made()

    def _check_there(self, made: making.Made) -> None:
        """Look for the results in the transaction that names them: deleting others' equal ones may have come between.

        Raises:
            CallusError: one is gone; the job is done again.
        """
        if not all(self._objects.path(sha256).exists() for sha256 in made.hashes.values()):
            raise CallusError("its results were deleted while they were made")

    def _forget(self, made: making.Made, answer: Answer) -> None:
        """Delete results that are not to be named; those of the same answer that are named already have equal bytes."""
        with self._database.reading() as session:
            named = session.scalar(sa.select(Answer.results).where(Answer.id == answer.id)) or {}
        forget(self._database, self._objects, set(made.hashes.values()) - set(named.values()))

    def _deliver(self, session: Session, job: Job, answer: Answer) -> None:
        for one in self._destinations if job.kind == IDENTIFY else ():
            if any(kind in answer.results for kind in one.results):
                about = {"answer": answer.id, "destination": one.name}
                jobs.add(session, DELIVER, f"{answer.id} {one.name}", image_id=answer.image_id, about=about)

    def _refused(self, job: Job, image: Image, error: object) -> None:
        """A radiograph that cannot be answered: it says so in the worklist, and is not tried again."""
        if not isinstance(error, RadiographError) or isinstance(error, PassingError):
            self._failed(job, error)
            return
        answered = sa.and_(Answer.image_id == image.id, Answer.model_id == int(job.about["model"]))
        with self._database.writing() as session:
            hold_study(session, image.study_id)
            if session.scalar(sa.select(Answer.id).where(answered)) is not None:
                # It could be answered before the service was killed, and what is missing is to be seen.
                jobs.fail(session, job, self._holder, _OF_RESULTS + _said(error), most=_ATTEMPTS)
            elif jobs.finish(session, job, self._holder) and job.kind == IDENTIFY:
                leave_unanswered(session, image.id, _said(error))

    def _failed(self, job: Job, error: object, of: str = "") -> None:
        """Something went wrong that may go right later. An image that has its answer keeps it."""
        said = of + _said(error).removeprefix(of)
        with self._database.writing() as session:
            image = held_image(session, job.image_id)
            if jobs.fail(session, job, self._holder, said, most=_ATTEMPTS) and job.kind == IDENTIFY and image:
                leave_unanswered(session, image.id, said)

    def _renew(self) -> None:
        while not self._stopping.wait(jobs.LEASE.total_seconds() / 3):
            with suppress(Exception):  # the next time, before the lease ends
                if held := {*self._held, *self._underway.jobs()}:
                    jobs.renew(self._database, self._holder, held)


def _other_patient(radiograph: Radiograph, patient_id: str) -> tuple[str, ...]:
    """Say that a radiograph's patient is not the one that its study is shown under: somebody has mixed them up."""
    stated = patient_number(radiograph.identity) if radiograph.identity else ""
    if not stated or not patient_id or stated == patient_id:
        return ()
    return ("another patient: its patient number is not that of its study, which is shown under the other one",)


def _saved(heat: NDArray[np.float32]) -> bytes:
    """A map as its file holds it: NumPy's format."""
    buffer = io.BytesIO()
    np.save(buffer, heat, allow_pickle=False)
    return buffer.getvalue()


def _said(error: object) -> str:
    """An error for people, without the name of the file that it is about."""
    return one_line(error.what if isinstance(error, CallusError) else type(error).__name__, 300)


def _listed(values: Any) -> list[float] | None:
    return None if values is None else [float(value) for value in values]
