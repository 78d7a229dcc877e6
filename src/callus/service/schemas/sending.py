"""Answers to whoever sends something: what became of it, and why it was refused."""

from typing import Annotated, NotRequired

from typing_extensions import TypedDict  # before Python 3.12 pydantic does not read typing's

from callus.service.schemas.fields import told


class Why(TypedDict):
    """What is wrong; nothing that names a patient or repeats what was sent."""

    what: Annotated[str, told("for people")]
    hint: Annotated[str, told("what to do about it, or empty")]


class Refusal(TypedDict):
    """What cannot be done."""

    error: Annotated[Why, told("why not")]


class FileTaken(TypedDict):
    """A radiograph that is on the disk and will be answered."""

    name: Annotated[str, told("the file's name, as it was sent")]
    image: Annotated[int, told("the image's number", minimum=1)]
    study: Annotated[int, told("its study's number", minimum=1)]
    new: Annotated[bool, told("false where the same object was here already")]


class FileRefused(TypedDict):
    """A file that was not taken."""

    name: Annotated[str, told("the file's name, as it was sent")]
    error: Annotated[Why, told("why not")]
    status: Annotated[int, told("what HTTP would have answered to it alone", minimum=400, maximum=599)]


class FilesTaken(TypedDict):
    """What became of each file; one at least was taken."""

    taken: Annotated[list[FileTaken | FileRefused], told("in the order in which they were sent")]


class FilesRefused(Refusal):
    """None was taken; the error is one of theirs, or the request's."""

    taken: NotRequired[Annotated[list[FileRefused], told("what became of each, where they were looked at")]]


class Uid(TypedDict):
    """A UID in DICOM JSON (PS3.18 F.2)."""

    vr: Annotated[str, told("UI")]
    Value: NotRequired[Annotated[list[str], told("the UID; not there where it is not known")]]


class Reason(TypedDict):
    """A number in DICOM JSON."""

    vr: Annotated[str, told("US")]
    Value: Annotated[list[int], told("the Failure Reason (PS3.18 10.5.3, PS3.4 CC.2.3)")]


Stored = TypedDict(
    "Stored",
    {
        "00081150": Annotated[Uid, told("Referenced SOP Class UID")],
        "00081155": Annotated[Uid, told("Referenced SOP Instance UID")],
    },
)
"""An object that was stored."""
NotStored = TypedDict(
    "NotStored",
    {
        "00081150": Annotated[Uid, told("Referenced SOP Class UID")],
        "00081155": Annotated[Uid, told("Referenced SOP Instance UID")],
        "00081197": Annotated[Reason, told("Failure Reason")],
    },
)
"""An object that was not stored."""


class AllStored(TypedDict):
    """A sequence in DICOM JSON."""

    vr: Annotated[str, told("SQ")]
    Value: Annotated[list[Stored], told("an item for each object")]


class NoneStored(TypedDict):
    """A sequence in DICOM JSON."""

    vr: Annotated[str, told("SQ")]
    Value: Annotated[list[NotStored], told("an item for each object")]


StoreAnswer = TypedDict(
    "StoreAnswer",
    {
        "00081199": NotRequired[Annotated[AllStored, told("Referenced SOP Sequence: what is on the disk")]],
        "00081198": NotRequired[Annotated[NoneStored, told("Failed SOP Sequence")]],
    },
)
"""What became of each object (PS3.18 10.5.3.2)."""
