"""What ``callus identify`` writes for hospitals: what cannot be made costs its own input and no other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callus.errors import CallusError, RadiographError
from callus.results.places import result_stems

if TYPE_CHECKING:
    from pathlib import Path

    from callus.archive.listing import Input
    from callus.identify import Finding, Identifier
    from callus.radiograph import Radiograph


class HospitalFiles:
    """Where each input's DICOM and FHIR files go."""

    def __init__(
        self,
        identifier: Identifier,
        inputs: list[Input],
        dicom: Path | None,
        fhir: Path | None,
        *,
        presentation: bool,
    ) -> None:
        """Name the files.

        Args:
            identifier: whose answers they will hold.
            inputs: in the order of their index.
            dicom: the folder of DICOM results; None for none.
            fhir: the folder of FHIR bundles; None for none.
            presentation: whether a presentation state is wanted too.
        """
        from callus.results.exam import Algorithm
        from callus.results.hospital import DICOM_ENDINGS, FHIR_ENDING

        self._algorithm = Algorithm.of(identifier)
        self._dicom = result_stems(inputs, dicom, DICOM_ENDINGS.values()) if dicom is not None else None
        self._fhir = result_stems(inputs, fhir, (FHIR_ENDING,)) if fhir is not None else None
        self._presentation = presentation

    def write(self, index: int, radiograph: Radiograph, finding: Finding) -> CallusError | None:
        """Write one input's files; why some or all of them were not made, which costs no other file anything."""
        from callus.results.hospital import DICOM_ENDINGS, ResultError, write_hospital_files

        try:
            written = write_hospital_files(
                radiograph,
                finding,
                self._algorithm,
                dicom=self._dicom[index] if self._dicom is not None else None,
                fhir=self._fhir[index] if self._fhir is not None else None,
                presentation=self._presentation,
            )
        except (ResultError, RadiographError) as error:
            return error
        except CallusError:  # the folder cannot be written, so the next files could not be either
            raise
        except Exception as error:  # noqa: BLE001 - no memory, or a bug: this file's failure
            return unmade("its DICOM and FHIR files", error, radiograph)
        if self._presentation and not any(file.name.endswith(DICOM_ENDINGS["pr"]) for file in written):
            reason = "has colours, so it gets no presentation state, which is for grey images; the rest was written"
            return ResultError(reason, where=radiograph.path)
        return None


def unmade(what: str, error: Exception, radiograph: Radiograph) -> CallusError:
    """Say what of a radiograph cannot be made, whatever went wrong."""
    reason = "there is not enough memory" if isinstance(error, MemoryError) else f"{error!r}"[:300]
    return CallusError(f"{what} cannot be made: {reason}", where=radiograph.path)
