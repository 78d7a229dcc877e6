"""Radiographs that wait get their answers: identified, made into results, written down and put on their way.

An answer, its study's place in the worklist, the deliveries that it brings about and the end of its job are one
transaction. Killed before it, the job is done again, and gives the same results under the same UIDs.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from callus.errors import CallusError, PassingError, RadiographError
from callus.radiograph.limits import one_line
from callus.service import jobs, making
from callus.service.changes import newest_answer
from callus.service.deletion import forget
from callus.service.jobs import DELIVER, IDENTIFY, TRY
from callus.service.placing import held_image, hold_study, leave_unanswered, place_study
from callus.service.tables import Answer, Image, Job, Model
from callus.service.worker import ended

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy.orm import Session

    from callus.identify import Finding, Identifier
    from callus.radiograph import Radiograph
    from callus.service.database import Database
    from callus.service.models import Models
    from callus.service.objects import ObjectStore
    from callus.service.settings import Destination

_ATTEMPTS: Final = 5
_AT_ONCE: Final = 16  # jobs that are taken together
_TRIED: Final = 4  # the same, while a model is tried: what comes meanwhile waits for no more than these
_IDLE: Final = 0.5  # seconds between looks where nobody says that something came
_MAKERS: Final = min(4, os.cpu_count() or 1)  # processes that make results while the network goes on
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
    ) -> None:
        """Prepare it; ``start`` starts it.

        Args:
            database: where jobs are taken from and answers go.
            objects: where radiographs are and results go.
            models: what answers.
            destinations: where results are to be delivered.
            tell: told each answer's number once it stands.
        """
        super().__init__(name="answering", daemon=True)
        self._database = database
        self._objects = objects
        self._models = models
        self._destinations = destinations
        self._tell = tell
        self._holder = uuid.uuid4().hex
        self._held: set[int] = set()
        self._stopping = threading.Event()
        self.came = threading.Event()

    def run(self) -> None:
        """Answer until stopped."""
        renewing = threading.Thread(target=self._renew, name="leases", daemon=True)
        renewing.start()
        making.begin()
        with ThreadPoolExecutor(_MAKERS, thread_name_prefix="results") as makers:
            while not self._stopping.is_set():
                try:
                    if not self._some(makers):
                        self.came.wait(_IDLE)
                        self.came.clear()
                except Exception as error:  # noqa: BLE001 - nothing may end the thread: what comes is acknowledged
                    # Not its text nor its trace, which may hold what the database holds.
                    log.error("answering waits: %s", type(error).__name__)  # noqa: TRY400
                    self._stopping.wait(_IDLE)
        with suppress(Exception):  # else the lease ends
            jobs.release(self._database, self._holder)

    def stop(self) -> None:
        """End after what is being answered, and wait for that.

        Raises:
            StuckError: that takes too long.
        """
        self._stopping.set()
        self.came.set()
        ended(self)

    def _some(self, makers: ThreadPoolExecutor) -> int:
        """Take some jobs and answer them; how many."""
        taken = jobs.take(self._database, IDENTIFY, self._holder, _AT_ONCE)
        taken = taken or jobs.take(self._database, TRY, self._holder, _TRIED)
        self._held = {job.id for job in taken}
        by_model: dict[int, list[Job]] = {}
        for job in taken:
            by_model.setdefault(int(job.about["model"]), []).append(job)
        try:
            for model_id, group in by_model.items():
                self._answer(model_id, group, makers)
        except Exception as error:
            for job in taken:  # those that have ended do not change any more
                self._failed(job, error)
            raise
        finally:
            self._held = set()
        return len(taken)

    def _answer(self, model_id: int, group: list[Job], makers: ThreadPoolExecutor) -> None:
        try:
            identifier = self._models.identifier(model_id)
        except CallusError as error:
            for job in group:
                self._failed(job, error)
            return
        with self._database.reading() as session:
            wanted = [job.image_id for job in group]
            images = {image.id: image for image in session.scalars(sa.select(Image).where(Image.id.in_(wanted)))}
        asked: dict[str, list[Job]] = {}  # images of different studies may be the same bytes
        for job in group:
            if job.image_id in images:
                asked.setdefault(str(self._objects.path(images[job.image_id].sha256)), []).append(job)
        begun, count = time.monotonic(), 0
        waiting: list[tuple[Job, Future[None]]] = []
        try:
            for path, radiograph, answer in identifier.identify_many(list(asked)):
                count += 1
                seconds = (time.monotonic() - begun) / count
                for job in asked[path]:
                    image = images[job.image_id or 0]
                    if isinstance(answer, CallusError) or radiograph is None:
                        self._refused(job, image, answer)
                        continue
                    work = makers.submit(self._complete, job, image, identifier, radiograph, answer, seconds)
                    waiting.append((job, work))
        finally:
            for job, work in waiting:
                try:
                    work.result()
                except Exception as error:  # noqa: BLE001 - whatever went wrong with one costs that one
                    self._failed(job, error)

    def _complete(
        self, job: Job, image: Image, identifier: Identifier, radiograph: Radiograph, finding: Finding, seconds: float
    ) -> None:
        """Have an answer's results made and write it down."""
        # A file's name may be its patient's, and no result names it.
        order = making.Order(
            self._objects, radiograph, replace(finding, path=None), identifier.name, identifier.bundle.digest
        )
        made = making.make(order)
        answer = Answer(
            image_id=image.id,
            model_id=int(job.about["model"]),
            probability=finding.probability,
            level=finding.level,
            boxes=[box.as_dict() for box in finding.boxes],
            cautions=[*finding.cautions, *made.cautions],
            engine=finding.engine,
            map=made.hashes["map"],
            results={kind: sha256 for kind, sha256 in made.hashes.items() if kind != "map"},
            seconds=round(seconds, 3),
        )
        stands = False
        try:
            with self._database.writing() as session:
                hold_study(session, image.study_id)  # before its rows, as deleting does
                if jobs.finish(session, job, self._holder):
                    self._write_down(session, job, answer, image.study_id, radiograph)
                    self._check_there(made)
                    stands = True
        finally:
            if not stands:  # another has done it, the image was deleted meanwhile, or it goes wrong
                forget(self._database, self._objects, made.hashes.values())
        if stands and job.kind == IDENTIFY and self._tell is not None:
            self._tell(answer.id)

    def _check_there(self, made: making.Made) -> None:
        """Look for the results in the transaction that names them: deleting others' equal ones may have come between.

        Raises:
            CallusError: one is gone; the job is done again.
        """
        if not all(self._objects.path(sha256).exists() for sha256 in made.hashes.values()):
            raise CallusError("its results were deleted while they were made")

    def _write_down(self, session: Session, job: Job, answer: Answer, study_id: int, radiograph: Radiograph) -> None:
        state = sa.select(Model.state).where(Model.id == answer.model_id).with_for_update(read=True)
        is_active = session.scalar(state) == "active"  # and stays so until this answer stands
        answer.tried = job.kind == TRY and not is_active
        if self._database.is_sqlite:
            answer.id = newest_answer(session) + 1
        session.add(answer)
        session.flush()
        height, width = radiograph.shape
        image = sa.update(Image).where(Image.id == answer.image_id)
        session.execute(image.values(height=height, width=width, spacing=_listed(radiograph.spacing_mm)))
        # What came before a switch is answered, shown and delivered by the model that was active when it came.
        if not answer.tried:
            session.execute(image.values(error=""))
            place_study(session, study_id)
        if job.kind == IDENTIFY:
            self._deliver(session, answer)

    def _deliver(self, session: Session, answer: Answer) -> None:
        for one in self._destinations:
            if any(kind in answer.results for kind in one.results):
                about = {"answer": answer.id, "destination": one.name}
                jobs.add(session, DELIVER, f"{answer.id} {one.name}", image_id=answer.image_id, about=about)

    def _refused(self, job: Job, image: Image, error: object) -> None:
        """A radiograph that cannot be answered: it says so in the worklist, and is not tried again."""
        if not isinstance(error, RadiographError) or isinstance(error, PassingError):
            self._failed(job, error)
            return
        with self._database.writing() as session:
            hold_study(session, image.study_id)
            if jobs.finish(session, job, self._holder) and job.kind == IDENTIFY:
                leave_unanswered(session, image.id, _said(error))

    def _failed(self, job: Job, error: object) -> None:
        """Something went wrong that may go right later."""
        with self._database.writing() as session:
            image = held_image(session, job.image_id)
            if jobs.fail(session, job, self._holder, _said(error), most=_ATTEMPTS) and job.kind == IDENTIFY and image:
                leave_unanswered(session, image.id, _said(error))

    def _renew(self) -> None:
        while not self._stopping.wait(jobs.LEASE.total_seconds() / 3):
            with suppress(Exception):  # the next time, before the lease ends
                if held := set(self._held):
                    jobs.renew(self._database, self._holder, held)


def _said(error: object) -> str:
    """An error for people, without the name of the file that it is about."""
    return one_line(error.what if isinstance(error, CallusError) else type(error).__name__, 300)


def _listed(values: Any) -> list[float] | None:
    return None if values is None else [float(value) for value in values]
