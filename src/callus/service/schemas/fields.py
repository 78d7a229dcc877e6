"""What several answers have in common: numbers with their units, words, moments."""

from typing import Annotated, Any

from pydantic import Field


def told(description: str, **schema: Any) -> Any:
    """What a field holds.

    Args:
        description: for people, with the unit.
        **schema: more of its JSON schema: ``minimum``, ``maximum``, ``enum``, ``format``.
    """
    return Field(description=description, json_schema_extra=schema or None)


Id = Annotated[int, told("the row's number", minimum=1)]
Count = Annotated[int, told("how many", minimum=0)]
Moment = Annotated[str, told("a point in time, UTC", format="date-time")]
MaybeMoment = Annotated[str | None, told("a point in time, UTC; null where it has not come", format="date-time")]
Notice = Annotated[str, told("what none of this is meant for, to be shown with it")]
Probability = Annotated[float, told("of a fracture, calibrated", minimum=0, maximum=1)]
Level = Annotated[str, told("the answer", enum=["fracture", "doubt", "none"])]
RoleName = Annotated[str, told("what an account may do", enum=["reader", "radiologist", "administrator"])]
Pixels = Annotated[float, told("pixels of the image, from its upper left corner to the right or down", minimum=0)]
PixelSide = Annotated[float, told("pixels of the image", minimum=0)]
Millimetres = Annotated[
    float, told("millimetres of the detector, or as calibrated, from the image's upper left corner", minimum=0)
]
MillimetreSide = Annotated[float, told("millimetres of the detector, or as calibrated", minimum=0)]
Score = Annotated[float, told("the heat map's highest value in the box", minimum=0, maximum=1)]
Rows = Annotated[int | None, told("the image's height in pixels; null until it is read", minimum=1)]
Columns = Annotated[int | None, told("the image's width in pixels; null until it is read", minimum=1)]
Spacing = Annotated[
    list[float] | None,
    told("millimetres between rows, then between columns; null where they are not known", minItems=2, maxItems=2),
]
Cautions = Annotated[list[str], told("what speaks against trusting the answer, for people")]
Seconds = Annotated[float, told("seconds that the answer took, reading included", minimum=0)]
Csrf = Annotated[str, told("to be sent as the header X-CSRF-Token with what changes something; empty for a token")]
