"""What is stuck: also jobs for a destination or a source that the settings name no more, which nothing does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from callus.service.jobs import DELIVER, ENDED, PULL
from callus.service.tables import Job

if TYPE_CHECKING:
    from callus.service.database import Database
    from callus.service.settings import Settings

_NAMES: Final = {DELIVER: "destination", PULL: "source"}  # the key of ``Job.about`` that says with whom


def give_up_gone(database: Database, settings: Settings) -> None:
    """Give up, when the service starts, what is for a destination or a source that is not in the settings.

    Where it is put back later, an administrator has it tried again.
    """
    known = {
        DELIVER: [one.name for one in settings.destinations],
        PULL: [one.name for one in settings.sources],
    }
    with database.writing() as session:
        for kind, what in _NAMES.items():
            name = Job.about[what].as_string()
            gone = sa.and_(Job.kind == kind, Job.state.not_in(ENDED), name.not_in(known[kind]))
            for one in session.scalars(sa.select(name).where(gone).distinct()).all():
                values = {"state": "stuck", "lease": None, "error": _gone(what, one)}
                session.execute(sa.update(Job).where(gone, name == one).values(**values))


def why_gone(job: Job, settings: Settings) -> str:
    """Why nothing does a job: the settings do not name what it is for any more; "" where they do."""
    what = _NAMES.get(job.kind)
    if what is None:
        return ""
    name = job.about[what]
    found = settings.destination(name) if job.kind == DELIVER else settings.source(name)
    return "" if found is not None else _gone(what, name)


def stuck_for(destination: str) -> sa.Select[Any]:
    """The numbers of the deliveries to a destination that are stuck."""
    name = Job.about[_NAMES[DELIVER]].as_string()
    return sa.select(Job.id).where(Job.kind == DELIVER, Job.state == "stuck", name == destination)


def _gone(what: str, name: str) -> str:
    return f"{what} {name} is no longer in the settings"
