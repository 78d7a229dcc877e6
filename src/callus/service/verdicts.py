"""What readers said, as a manifest for the next training."""

from __future__ import annotations

import hmac
import os
import secrets
import tempfile
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import pandas as pd
import sqlalchemy as sa

from callus.dataset.columns import COLUMNS, conform
from callus.dataset.groups import name_groups
from callus.dataset.sources.names import region_name, view_name
from callus.errors import DatasetError
from callus.labels import FRACTURED, NOT_FRACTURED
from callus.service.tables import Answer, Image, Study, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sqlalchemy.orm import Session

    from callus.service.objects import ObjectStore

SOURCE: Final = "callus verdicts"
_KEY: Final = "names.key"
_KEY_BYTES: Final = 32
_OF_LEVEL: Final = {"fracture": FRACTURED, "none": NOT_FRACTURED}


def verdict_manifest(session: Session, objects: ObjectStore) -> pd.DataFrame:
    """A row for each image that a reader has judged. Comments stay behind.

    Patients and studies are named by hashes with a secret of the service.

    Each reader's last verdict counts. Where readers disagree the row has no label and says so. Boxes are those that
    were drawn, by whoever drew last of those whose label is the row's; never the model's own.

    Args:
        session: any.
        objects: where the radiographs lie; the manifest names these files.

    Returns:
        A manifest, as :func:`callus.dataset.manifest.write_manifest` takes it.

    Raises:
        DatasetError: there is no verdict.
    """
    last: dict[int, dict[int, tuple[Verdict, Answer | None]]] = {}
    for verdict, answer in session.execute(
        sa.select(Verdict, Answer).outerjoin(Answer, Answer.id == Verdict.answer_id).order_by(Verdict.id)
    ):
        last.setdefault(verdict.image_id, {})[verdict.user_id] = (verdict, answer)
    if not last:
        raise DatasetError("there is no verdict yet", hint="readers give them in the page")
    key = _key(objects.folder.parent / _KEY)
    rows = []
    for image, study in session.execute(
        sa.select(Image, Study).join(Study, Study.id == Image.study_id).where(Image.verdicts.any()).order_by(Image.id)
    ):
        said = list(last[image.id].values())
        rows.append(_row(image, study, said, key) | {"path": str(objects.path(image.sha256).resolve())})
    unique = {row["path"]: row for row in rows}  # equal bytes sent as two images are one file
    frame = pd.DataFrame(list(unique.values()), columns=list(COLUMNS), dtype="object").fillna("")
    for column in ("boxes", "polygons"):
        frame[column] = [cell or [] for cell in frame[column]]
    frame = conform(frame)
    frame["group"] = name_groups(frame, pd.Series("", index=frame.index, dtype="str"))
    return frame


def label_of(verdict: Verdict, answer: Answer | None) -> int | None:
    """What a reader means: the label that they gave, else what agreeing or disagreeing with the answer says.

    Args:
        verdict: it.
        answer: that was looked at; None where there was none.

    Returns:
        1 for fractured, 0 for not, None where it cannot be told (nobody can agree or disagree with a doubt).
    """
    if verdict.label is not None:
        return verdict.label
    shown = None if answer is None else _OF_LEVEL.get(answer.level)
    if shown is None or verdict.agrees is None:
        return None
    return shown if verdict.agrees else 1 - shown


def _row(image: Image, study: Study, said: Sequence[tuple[Verdict, Answer | None]], key: bytes) -> dict[str, Any]:
    labels = Counter(label for label in (label_of(*one) for one in said) if label is not None)
    agreed = len(labels) == 1
    label = next(iter(labels)) if agreed else None
    drawn = [verdict.boxes for verdict, answer in said if verdict.boxes and label_of(verdict, answer) == label]
    boxes = drawn[-1] if label == FRACTURED and drawn else []
    readers = f"{len(said)} reader{'' if len(said) == 1 else 's'}"
    return {
        "sha256": image.sha256,
        "width": image.width,
        "height": image.height,
        "label": label,
        "radiograph": image.sha256,
        "study": _hidden(key, "study", study.uid),
        "patient": _hidden(key, "patient", study.patient_id.strip()),
        "source": SOURCE,
        "region": region_name(image.body_part),
        "view": view_name(image.view),
        "boxes": [[box["x"], box["y"], box["width"], box["height"]] for box in boxes],
        "note": readers if agreed or not labels else f"{readers} disagree",
    }


def _hidden(key: bytes, kind: str, value: str) -> str:
    """A name that tells nobody whose it is but joins what belongs together.

    By a secret: of a plain hash all numbers that a patient can have are tried in seconds.
    """
    if not value:
        return ""
    return f"{kind}-" + hmac.digest(key, f"{kind}\0{value}".encode(), "sha256").hex()[:16]


def _key(file: Path) -> bytes:
    """The service's secret for names; made at its first use, and not in backups."""
    if not file.exists():
        with tempfile.NamedTemporaryFile(dir=file.parent) as made:  # readable for its owner alone
            made.write(secrets.token_bytes(_KEY_BYTES))
            made.flush()
            with suppress(FileExistsError):  # another export was quicker
                os.link(made.name, file)
    return file.read_bytes()
