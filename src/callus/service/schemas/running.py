"""Answers for whoever runs the service: health, jobs, models; and that something is done."""

from typing import Annotated

from typing_extensions import TypedDict  # before Python 3.12 pydantic does not read typing's

from callus.service.schemas.fields import Count, Id, Level, Moment, Notice, Probability, told
from callus.service.schemas.studies import JobWhole, Patient


class Nothing(TypedDict):
    """It is done, and there is no more to say."""


class Counted(TypedDict):
    """It is done, and to how many."""

    count: Annotated[int, told("how many it was done to", minimum=1)]


class Health(TypedDict):
    """That the service lives."""

    alive: Annotated[bool, told("true")]
    openid: Annotated[bool, told("whether people can log in at an identity provider")]
    notice: Notice


class Checks(TypedDict):
    """What has to be so for the service to do its work."""

    running: Annotated[bool, told("its parts were started")]
    disk: Annotated[bool, told("the disk has room")]
    database: Annotated[bool, told("the database answers")]
    model: Annotated[bool, told("a model is active")]
    answering: Annotated[bool, told("radiographs are being answered")]


class Ready(TypedDict):
    """Whether the service can do its work."""

    ready: Annotated[bool, told("whether all checks are true")]
    checks: Annotated[Checks, told("one by one")]
    notice: Notice


class JobCount(TypedDict):
    """How many jobs there are."""

    kind: Annotated[str, told("of the jobs")]
    state: Annotated[str, told("that they are in")]
    count: Count


class Jobs(TypedDict):
    """Jobs of a state."""

    jobs: Annotated[list[JobWhole], told("the oldest first")]
    counts: Annotated[list[JobCount], told("of each kind and state")]


class Pulled(TypedDict):
    """A study that is to be fetched."""

    new: Annotated[bool, told("false where it was asked for already, and waits")]


class Brought(TypedDict):
    """What became of a study's objects."""

    taken: Annotated[int, told("objects that came", minimum=0)]
    known: Annotated[int, told("objects that were here already", minimum=0)]
    other: Annotated[int, told("objects that are no radiographs", minimum=0)]
    refused: Annotated[int, told("objects that could not be taken", minimum=0)]


class AskedFor(TypedDict):
    """A study that was asked for."""

    id: Id
    source: Annotated[str, told("its name in the service's settings")]
    study_uid: Annotated[str, told("Study Instance UID")]
    by: Annotated[str, told("the account that asked")]
    state: Annotated[str, told("how far it is", enum=["waiting", "taken", "done", "stuck", "dropped"])]
    counts: Annotated[Brought | None, told("of its objects so far; null before the first")]
    error: Annotated[str, told("why it failed the last time, or empty")]
    due: Annotated[str, told("when it is tried, or was tried, UTC", format="date-time")]
    study: Annotated[int | None, told("its number here, once something of it has come", minimum=1)]


class Pulls(TypedDict):
    """From where studies come, and which were asked for."""

    sources: Annotated[list[str], told("names that may be asked")]
    pulls: Annotated[list[AskedFor], told("the latest first, 10 at most")]


class StudyThere(TypedDict):
    """A study that a source has."""

    study_uid: Annotated[str, told("Study Instance UID")]
    patient: Annotated[Patient, told("whose it is, as the source says")]
    date: Annotated[str, told("Study Date, YYYYMMDD, or empty")]
    accession: Annotated[str, told("Accession Number, or empty")]
    description: Annotated[str, told("Study Description, or empty")]
    modalities: Annotated[list[str], told("Modalities in Study, as DICOM's Modality")]
    study: Annotated[int | None, told("its number here, where something of it is here already", minimum=1)]


class StudiesThere(TypedDict):
    """What a source has that fits."""

    studies: Annotated[list[StudyThere], told("the newest first, 50 at most")]
    more: Annotated[bool, told("whether there are more than these")]


class ModelWhole(TypedDict):
    """A model that is here."""

    id: Id
    name: Annotated[str, told("its name")]
    digest: Annotated[str, told("SHA-256 of the bundle, 64 hexadecimal digits")]
    state: Annotated[str, told("whether it answers", enum=["active", "trial", "retired"])]
    added: Moment
    answers: Annotated[int, told("radiographs that it has answered, those of trials too", minimum=0)]


class Models(TypedDict):
    """The models."""

    models: Annotated[list[ModelWhole], told("the oldest first")]


class ModelAdded(TypedDict):
    """A model that was put in."""

    id: Id


class TrialBegun(TypedDict):
    """A trial that was begun."""

    waiting: Annotated[int, told("radiographs that the model has not answered yet", minimum=0)]


class Said(TypedDict):
    """What a model says of an image, in short."""

    level: Level
    probability: Probability


Changed = TypedDict(
    "Changed",
    {
        "image": Annotated[int, told("the image's number", minimum=1)],
        "study": Annotated[int, told("its study's number", minimum=1)],
        "from": Annotated[Said, told("by the answer that counts")],
        "to": Annotated[Said, told("by the model that is tried")],
    },
)
"""An image whose level a model would change."""


class Tried(TypedDict):
    """What a model changes."""

    model: Id
    waiting: Annotated[int, told("radiographs that it has not answered yet", minimum=0)]
    failed: Annotated[int, told("radiographs that it could not answer", minimum=0)]
    answered: Annotated[int, told("radiographs that it and another one have answered", minimum=0)]
    changed: Annotated[int, told("of these, those whose level it changes", minimum=0)]
    levels: Annotated[dict[str, dict[str, int]], told("radiographs by the level that counts, then by its own")]
    changes: Annotated[list[Changed], told("the largest differences of probability first, 1,000 at most")]
