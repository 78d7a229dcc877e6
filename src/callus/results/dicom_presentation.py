"""The boxes as a DICOM presentation state: a viewer lays them over the radiograph itself, and can switch them off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import highdicom as hd
import numpy as np
from pydicom.dataset import Dataset
from pydicom.valuerep import format_number_as_ds

import callus
from callus.labels import RESEARCH_ONLY
from callus.radiograph.dicom import of_frame, stated_layout
from callus.results.dicom_grey import Lut, Window, grey_steps
from callus.results.dicom_report import comments, region
from callus.results.exam import answer_key
from callus.results.hospital import ResultError
from callus.results.overlay import BOX

if TYPE_CHECKING:
    from callus.identify import Finding
    from callus.results.dicom_grey import GreySteps
    from callus.results.exam import Algorithm, Exam

SERIES_NUMBER = 9003
DOTS = 0b0011_0011_0011_0011
"""Line Pattern: of 16 parts two are drawn, two are left out, and so on."""
LINE_THICKNESS = 2.0
"""In times the thinnest line that the display draws (PS3.3 C.10.5.1.4)."""
TEXT_BOX = (0.01, 0.01, 0.6, 0.14)
"""Left, top, right and bottom of the text, as parts of the displayed area."""


def presentation_state(exam: Exam, finding: Finding, algorithm: Algorithm) -> hd.pr.GrayscaleSoftcopyPresentationState:
    """Write the boxes and the answer in words as a presentation state of the image.

    Boxes are solid at level fracture and dotted at doubt. The dots are a Line Style, which the IOD allows and which
    viewers may leave out (it is type 3): the text says the level as well.

    The grey scale is the one that the answer was given on: a presentation state replaces the image's own steps, and one
    that says nothing of them would show most radiographs too dark or inverted (PS3.4 N.2).

    Args:
        exam: the image.
        finding: the answer to it.
        algorithm: what gave it.

    Raises:
        ResultError: the image has colours; a grayscale presentation state cannot refer to it.
    """
    if not exam.has_grey:
        raise ResultError(
            "has colours, and a grayscale presentation state is for grey images", where=exam.radiograph.path
        )
    key = answer_key(exam, finding, algorithm)
    layer = hd.pr.GraphicLayer("CALLUS", order=1, description="callus", display_color=_colour())
    references = hd.ReferencedImageSequence([exam.image])
    steps = grey_steps(of_frame(exam.tags, 0), stated_layout(exam.tags), exam.radiograph)
    state = hd.pr.GrayscaleSoftcopyPresentationState(
        referenced_images=[exam.image],
        series_instance_uid=exam.series_uid("pr", algorithm, exam.side),
        series_number=SERIES_NUMBER,
        series_description=f"callus boxes ({RESEARCH_ONLY.partition(',')[0]} only)",
        sop_instance_uid=exam.uid("pr", key),
        instance_number=exam.number,
        manufacturer="callus",
        manufacturer_model_name="callus",
        software_versions=callus.__version__,
        device_serial_number=algorithm.digest or "unknown",
        content_label="CALLUS",
        content_description=RESEARCH_ONLY,
        graphic_layers=[layer],
        graphic_annotations=[_annotation(exam, finding, layer)],
        modality_lut_transformation=_modality(steps),
        voi_lut_transformations=[_voi(steps, references)],
        presentation_lut_transformation=hd.PresentationLUTTransformation(
            # The image's photometric interpretation does not count here (PS3.3 C.11.6): this shape says it alone.
            presentation_lut_shape="INVERSE" if steps.inverted else "IDENTITY"
        ),
        specific_character_set="ISO_IR 192",
    )
    exam.put_header(state)
    state.Laterality = exam.side
    _keep_aspect(exam, state)
    return state


def _annotation(exam: Exam, finding: Finding, layer: hd.pr.GraphicLayer) -> hd.pr.GraphicAnnotation:
    objects = []
    for box in finding.boxes:
        # PIXEL coordinates begin at the outer corner of the first pixel, as Box does (PS3.3 C.10.5.1.2).
        drawn = hd.pr.GraphicObject("POLYLINE", region(box), "PIXEL")
        drawn.LineStyleSequence = [_line_style(dotted=finding.level == "doubt")]
        objects.append(drawn)
    text = hd.pr.TextObject(
        "\r\n".join(comments(finding))[:1024], "DISPLAY", bounding_box=TEXT_BOX, text_justification="LEFT"
    )
    return hd.pr.GraphicAnnotation([exam.image], layer, graphic_objects=objects, text_objects=[text])


def _line_style(*, dotted: bool) -> Dataset:
    """A Line Style (PS3.3 Table 10-17a), without a shadow and in the layer's colour."""
    style = Dataset()
    style.PatternOnColorCIELabValue = list(_colour().value)
    style.PatternOnOpacity = 1.0
    style.LineThickness = LINE_THICKNESS
    style.LineDashingStyle = "DASHED" if dotted else "SOLID"
    if dotted:
        style.LinePattern = DOTS
        style.PatternOffColorCIELabValue = list(_colour().value)
        style.PatternOffOpacity = 0.0
    style.ShadowStyle = "OFF"
    style.ShadowOffsetX = style.ShadowOffsetY = 0.0
    style.ShadowColorCIELabValue = [0, 0x8080, 0x8080]
    style.ShadowOpacity = 0.0
    return style


def _colour() -> hd.color.CIELabColor:
    return hd.color.CIELabColor.from_rgb(*BOX)


def _modality(steps: GreySteps) -> hd.ModalityLUTTransformation:
    step = steps.modality
    if isinstance(step, Lut):
        table = hd.ModalityLUT("US", step.first, step.entries)
        return hd.ModalityLUTTransformation(modality_lut=table)
    return hd.ModalityLUTTransformation(step.intercept, step.slope, step.kind)


def _voi(steps: GreySteps, references: hd.ReferencedImageSequence) -> hd.pr.SoftcopyVOILUTTransformation:
    step = steps.view
    options: dict[str, Any] = {"referenced_images": references}
    if isinstance(step, Window):
        options |= {"window_center": step.center, "window_width": step.width, "voi_lut_function": step.function}
    else:
        options["voi_luts"] = [hd.VOILUT(step.first, step.entries)]
    return hd.pr.SoftcopyVOILUTTransformation(**options)


def _keep_aspect(exam: Exam, state: Dataset) -> None:
    """Say the pixels' size where they are no squares, else a viewer would squeeze the radiograph."""
    spacing = exam.radiograph.spacing_mm
    if spacing is None or np.isclose(spacing[0], spacing[1], rtol=1e-3):
        return
    area = state.DisplayedAreaSelectionSequence[0]
    del area.PresentationPixelAspectRatio
    area.PresentationPixelSpacing = [format_number_as_ds(float(value)) for value in spacing]
