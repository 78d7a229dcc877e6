"""What is made of findings: pictures (``overlay``), JSON and CSV (``tables``), DICOM and FHIR (``hospital``)."""

from __future__ import annotations
