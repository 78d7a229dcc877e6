"""Answers about studies: images, what models and readers say of them, the worklist."""

from typing import Annotated, NotRequired

from typing_extensions import TypedDict  # before Python 3.12 pydantic does not read typing's

from callus.service.schemas.fields import (
    Cautions,
    Columns,
    Count,
    Id,
    Level,
    Millimetres,
    MillimetreSide,
    Moment,
    Notice,
    Pixels,
    PixelSide,
    Probability,
    Rows,
    Score,
    Seconds,
    Spacing,
    told,
)


class AnsweredBox(TypedDict):
    """Where a model sees a fracture."""

    x: Pixels
    y: Pixels
    width: PixelSide
    height: PixelSide
    score: Score


class BoxInMillimetres(TypedDict):
    """The same in millimetres."""

    x: Millimetres
    y: Millimetres
    width: MillimetreSide
    height: MillimetreSide
    score: Score


class ReadersBox(TypedDict):
    """Where a reader sees a fracture."""

    x: Pixels
    y: Pixels
    width: PixelSide
    height: PixelSide


class Patient(TypedDict):
    """Whose radiographs these are, as the objects say; for radiologists and administrators only."""

    name: Annotated[str, told("as DICOM writes it, family name first")]
    id: Annotated[str, told("the patient's number")]
    birth_date: Annotated[str, told("YYYYMMDD, or empty")]
    sex: Annotated[str, told("M, F, O or empty")]


class ImageLine(TypedDict):
    """What an image shows, as its object says."""

    id: Id
    body_part: Annotated[str, told("as DICOM's Body Part Examined, or empty")]
    side: Annotated[str, told("L, R, B, U or empty")]
    view: Annotated[str, told("as DICOM's View Position, or empty")]


class StudyLine(TypedDict):
    """An exam."""

    id: Id
    level: Annotated[
        str, told("the worst among its images", enum=["fracture", "doubt", "unanswered", "none", "waiting"])
    ]
    probability: Annotated[
        float | None, told("the highest among its images; null before one is answered", minimum=0, maximum=1)
    ]
    accession: Annotated[str, told("the accession number, or empty")]
    date: Annotated[str, told("of the exam, YYYYMMDD, or empty")]
    images_count: Count
    received: Moment
    changed: Annotated[str, told("when an image or an answer came last, UTC", format="date-time")]
    patient: NotRequired[Annotated[Patient, told("only for roles that see patients")]]
    description: NotRequired[Annotated[str, told("the exam's description; only for roles that see patients")]]
    uid: NotRequired[Annotated[str, told("Study Instance UID; only for roles that see patients")]]


class StudyListed(StudyLine):
    """An exam in the worklist."""

    stuck: Annotated[int, told("answers, results and deliveries of it that were given up", minimum=0)]
    images: Annotated[list[ImageLine], told("in the order in which they came")]


class Worklist(TypedDict):
    """A page of the worklist."""

    studies: Annotated[list[StudyListed], told("the worst level first, the newest first within each")]
    next: Annotated[str | None, told("to be sent as before for the next page; null on the last one")]
    notice: Notice


class ModelNamed(TypedDict):
    """A model that has answered."""

    id: Id
    name: Annotated[str, told("its name")]
    active: Annotated[bool, told("whether it answers what comes now")]


class AnswerWhole(TypedDict):
    """What a model says of an image."""

    id: Id
    model: Annotated[ModelNamed, told("which says so")]
    probability: Probability
    level: Level
    boxes: Annotated[list[AnsweredBox], told("where; empty for level none")]
    cautions: Cautions
    engine: Annotated[str, told("what ran the model, and in which precision")]
    results: Annotated[
        list[str],
        told(
            'what was made of it, of "fhir", "overlay", "pr", "sc", "sr"; empty until it is made, soon after the answer'
        ),
    ]
    seconds: Seconds
    made: Moment


class VerdictWhole(TypedDict):
    """What a reader says of an image."""

    id: Id
    by: Annotated[str, told("the reader's account")]
    answer: Annotated[int | None, told("the number of the answer that was looked at; null for none", minimum=1)]
    agrees: Annotated[bool | None, told("with the answer; null where it was not said")]
    label: Annotated[int | None, told("1 fractured, 0 not; null where it was not said", minimum=0, maximum=1)]
    boxes: Annotated[list[ReadersBox], told("that the reader drew")]
    comment: Annotated[str, told("in the reader's words, or empty")]
    made: Moment


class ImageWhole(ImageLine):
    """An image with what is said of it. A file's name and a UID may tell whose it is."""

    modality: Annotated[str, told("as DICOM's, or empty")]
    source: Annotated[str, told("how it came", enum=["dicom", "stow", "upload", "pull"])]
    height: Rows
    width: Columns
    spacing_mm: Spacing
    error: Annotated[str, told("why there is no answer; empty where there is one, or will be")]
    received: Moment
    uid: NotRequired[Annotated[str, told("SOP Instance UID; only for roles that see patients")]]
    name: NotRequired[Annotated[str, told("the file's name; only for roles that see patients")]]
    sender: NotRequired[Annotated[str, told("the account or AE title; only for roles that see patients")]]


class ImageAnswered(ImageWhole):
    """An image of a study."""

    answer: Annotated[AnswerWhole | None, told("the one that counts; null where there is none")]
    verdicts: Annotated[list[VerdictWhole], told("the oldest first; a reader's last one counts")]


class JobWhole(TypedDict):
    """Work that is to be done, or was."""

    id: Id
    kind: Annotated[str, told("what is to be done", enum=["identify", "try", "deliver", "pull"])]
    image: Annotated[int | None, told("the image's number; null where it is about none", minimum=1)]
    destination: Annotated[str | None, told("where results are to go; null for other kinds")]
    state: Annotated[str, told("how far it is", enum=["waiting", "taken", "done", "stuck", "dropped"])]
    attempts: Annotated[int, told("how often it was begun", minimum=0)]
    error: Annotated[str, told("why it failed last, or empty")]
    made: Moment
    due: Annotated[str, told("not to be begun before, UTC", format="date-time")]


class StudyWhole(StudyLine):
    """An exam with its images, answers and verdicts."""

    jobs: Annotated[list[JobWhole], told("what is stuck of it")]
    images: Annotated[list[ImageAnswered], told("in the order in which they came")]
    notice: Notice


class Finding(TypedDict):
    """An answer as programs are told it; nothing in it names a patient."""

    id: Id
    study: Annotated[int, told("the study's number", minimum=1)]
    image: Annotated[int, told("the image's number", minimum=1)]
    level: Level
    probability: Probability
    boxes: Annotated[list[AnsweredBox], told("where, in pixels of the image; empty for level none")]
    boxes_mm: Annotated[
        list[BoxInMillimetres] | None, told("the same in millimetres; null where the spacing is not known")
    ]
    spacing_mm: Spacing
    height: Rows
    width: Columns
    cautions: Cautions
    seconds: Seconds
    made: Moment
    notice: Notice


class StudyChanged(TypedDict):
    """What became of a study; nothing in it names a patient."""

    id: Id
    study: Annotated[int, told("the study's number", minimum=1)]
    image: Annotated[int | None, told("the image's number; null where the whole study is meant", minimum=1)]
    what: Annotated[
        str,
        told(
            "an image arrived, gets no answer, waits for one again, has its results made; or the study is gone",
            enum=["arrived", "unanswered", "waiting", "made", "deleted"],
        ),
    ]
    at: Moment
