"""A finding as DICOM objects in the radiograph's own study: report, picture, presentation state."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

from callus.errors import PassingError, RadiographError
from callus.results.dicom_capture import secondary_capture
from callus.results.dicom_presentation import presentation_state
from callus.results.dicom_report import structured_report
from callus.results.exam import Algorithm, Exam
from callus.results.hospital import ResultError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from callus.identify import Finding

__all__ = [
    "Algorithm",
    "Exam",
    "ResultError",
    "dicom_results",
    "encoded",
    "presentation_state",
    "secondary_capture",
    "structured_report",
]


def dicom_results(
    exam: Exam, finding: Finding, algorithm: Algorithm, *, presentation: bool = False
) -> dict[str, Dataset]:
    """Make a finding's DICOM objects, all or none.

    Args:
        exam: the image.
        finding: the answer to it.
        algorithm: what gave it.
        presentation: with a presentation state; left out where the image has colours, which it cannot refer to.

    Returns:
        "sr", "sc" and, where wanted and possible, "pr".

    Raises:
        ResultError: the image's attributes do not allow it, or its pixels cannot be decoded again, which a
            presentation state may need.
        PassingError: they cannot be decoded just now.
    """
    where = exam.radiograph.path
    try:
        made: dict[str, Dataset] = {
            "sr": structured_report(exam, finding, algorithm),
            "sc": secondary_capture(exam, finding, algorithm),
        }
        if presentation and exam.has_grey:
            made["pr"] = presentation_state(exam, finding, algorithm)
    except RadiographError as error:  # from decoding, which does not know the file's name
        kind = PassingError if isinstance(error, PassingError) else ResultError
        raise kind(error.what, where=where, hint=error.hint) from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # what highdicom raises for what it cannot use
        reason = f"cannot be made into DICOM results: {error or type(error).__name__}"
        raise ResultError(reason[:300], where=where) from error
    return made


def encoded(dataset: Dataset) -> bytes:
    """A DICOM object as the bytes of a file, preamble and header included."""
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
