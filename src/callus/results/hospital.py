"""The files that a hospital's systems take, for one finding: DICOM for the archive, FHIR for the rest.

Light to import: what makes the files (highdicom, fhir.resources) is loaded when the first is made.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from callus.atomic import whole_file
from callus.errors import CallusError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from callus.identify import Finding
    from callus.radiograph import Radiograph
    from callus.results.exam import Algorithm

DICOM_ENDINGS: Final = {"sr": ".callus-sr.dcm", "sc": ".callus-sc.dcm", "pr": ".callus-pr.dcm"}
"""Structured report, secondary capture, presentation state."""
FHIR_ENDING: Final = ".callus-fhir.json"


class ResultError(CallusError):
    """A finding cannot become a result of this kind: no DICOM, no study, a value that cannot be written."""


def write_hospital_files(
    radiograph: Radiograph,
    finding: Finding,
    algorithm: Algorithm,
    *,
    dicom: Path | None = None,
    fhir: Path | None = None,
    presentation: bool = False,
) -> list[Path]:
    """Write a finding's files for the archive and the hospital's systems: all of them or none.

    Args:
        radiograph: as read from a DICOM file.
        finding: the answer to it.
        algorithm: what gave it.
        dicom: where its DICOM files go, without :data:`DICOM_ENDINGS`; None for none.
        fhir: where its FHIR file goes, without :data:`FHIR_ENDING`; None for none.
        presentation: with a presentation state, which only grey images can have.

    Returns:
        What was written.

    Raises:
        ResultError: the radiograph is no DICOM or its attributes do not allow it; nothing is written.
        PassingError: its file cannot be read, or its pixels decoded, just now; nothing is written.
        CallusError: a file cannot be written; none appears.
    """
    # Loaded here: highdicom alone takes more than a second, which those who want no such files need not wait.
    from callus.results.exam import Exam  # noqa: PLC0415

    exam = Exam.of(radiograph)
    files: dict[Path, bytes] = {}
    if dicom is not None:
        from callus.results.dicom_results import dicom_results, encoded  # noqa: PLC0415

        made = dicom_results(exam, finding, algorithm, presentation=presentation)
        files |= {dicom.with_name(dicom.name + DICOM_ENDINGS[kind]): encoded(result) for kind, result in made.items()}
    if fhir is not None:
        from callus.results.fhir import fhir_bundle, fhir_json  # noqa: PLC0415

        files[fhir.with_name(fhir.name + FHIR_ENDING)] = fhir_json(fhir_bundle(exam, finding, algorithm))
    _write_set(files)
    return list(files)


def _write_set(files: Mapping[Path, bytes]) -> None:
    """Write files that belong together: all are on the disk before the first takes its name."""
    for path in files:
        if path.is_dir():  # the one thing that could stop a file from taking its name after the others have
            raise CallusError("cannot be written: a folder stands there", where=path, hint="give another place")
    with ExitStack() as stack:
        for path, data in files.items():
            opened = stack.enter_context(whole_file(path))
            opened.write(data)
            opened.flush()
