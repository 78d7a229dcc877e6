"""What folders, files and classes are called: labels, splits, regions, views, patients, and families of copies."""

from __future__ import annotations

import re
from typing import Final

from callus.labels import FRACTURED, NOT_FRACTURED, REGIONS

# Words that say nothing about the class: "fractured bones", "normal x-rays", "train_images".
_FILLER: Final = frozenset(
    "a and bone bones case cases class data dataset folder image images img imgs patient patients photo picture "  # noqa: SIM905
    "pictures radiograph radiographs ray rays sample samples scan scans set x xray xrays xr of the is has in".split()
)
_POSITIVE: Final = frozenset(
    "fractured fracture fractures fx frac positive pos broken break breaks abnormal abnormality withfracture "  # noqa: SIM905
    "withfractures".split()
)
_NEGATIVE: Final = frozenset(
    "notfractured nonfractured unfractured nofracture nofractures nonfracture nonfractures notfracture "  # noqa: SIM905
    "withoutfracture withoutfractures fracturefree normal healthy intact negative neg notbroken nonbroken unbroken "
    "nobreak nofx".split()
)
# Names that mean a class only where nothing clearer is there: a folder "1" may be a patient's.
_WEAK: Final = {
    "1": FRACTURED, "yes": FRACTURED, "true": FRACTURED, "y": FRACTURED, "t": FRACTURED,
    "0": NOT_FRACTURED, "no": NOT_FRACTURED, "false": NOT_FRACTURED, "n": NOT_FRACTURED, "f": NOT_FRACTURED,
}  # fmt: skip
_NEGATION: Final = frozenset("no not non without negative healthy normal un".split())  # noqa: SIM905
_SPLITS: Final = {
    "train": "train", "training": "train", "trn": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test", "tst": "test",
}  # fmt: skip
_REGION_WORDS: Final = {
    **{region: region for region in REGIONS if region != "mixed"},
    "hands": "hand", "fingers": "finger", "thumb": "finger", "wrists": "wrist", "radius": "forearm", "ulna": "forearm",
    "elbows": "elbow", "upperarm": "humerus", "shoulders": "shoulder", "clavicle": "shoulder", "hips": "hip",
    "pelvis": "hip", "femur": "leg", "tibia": "leg", "fibula": "leg", "legs": "leg", "lowerleg": "leg", "thigh": "leg",
    "knees": "knee", "ankles": "ankle", "feet": "foot", "toe": "foot", "toes": "foot", "calcaneus": "foot",
}  # fmt: skip
_VIEWS: Final = {
    "frontal": "frontal", "ap": "frontal", "pa": "frontal", "anteroposterior": "frontal", "posteroanterior": "frontal",
    "lateral": "lateral", "lat": "lateral", "ll": "lateral", "rl": "lateral", "side": "lateral",
    "oblique": "oblique", "obl": "oblique", "llo": "oblique", "rlo": "oblique",
}  # fmt: skip
# What tables and anonymisers write where they tell nobody's name.
_NOBODY: Final = frozenset(
    "anonymous anonymized anonymised anon unknown none na nan null notavailable missing deidentified removed patient "  # noqa: SIM905
    "id test xxx".split()
)
_COPY: Final = re.compile(r"(?:-rotated\d+)+$", re.IGNORECASE)
_ROBOFLOW: Final = re.compile(r"\.rf\.[0-9a-z]{16,}$", re.IGNORECASE)
_PATIENT: Final = re.compile(r"^(?:patient|pat|subject|subj)[ _-]*(\d+)$", re.IGNORECASE)
_STUDY: Final = re.compile(r"^(?:study|exam)[ _-]*(\d+)(?:[ _-]+(positive|negative))?$", re.IGNORECASE)

UNDERSTOOD: Final = (
    "fractured, fracture, positive, broken, abnormal, 1 or not fractured, non-fractured, no fracture, normal, healthy, "
    "negative, not broken, 0 (case, spaces, hyphens and underscores do not matter)"
)


def key(name: str) -> str:
    """Give a name without case, spaces, hyphens and underscores: "Non_Fractured" is "nonfractured"."""
    return "".join(_words(name))


class ClassNames:
    """What the names of classes mean: the common ones, or exactly those that a person gave.

    Attributes:
        given: whether a person gave them.
    """

    def __init__(self, positive: tuple[str, ...] = (), negative: tuple[str, ...] = ()) -> None:
        self.given = bool(positive or negative)
        self._mapped = {key(name): NOT_FRACTURED for name in negative} | {key(name): FRACTURED for name in positive}

    def label(self, name: str, *, weak: bool = False) -> int | None:
        """Give the label that a class called ``name`` has, None where it is not a class.

        Args:
            name: of a folder, a class, or a cell of a table.
            weak: whether 1, 0, yes, no, true and false count too.
        """
        whole = key(name)
        if whole in self._mapped:
            return self._mapped[whole]
        core = "".join(word for word in _words(name) if word not in _FILLER)
        for candidate in (whole, core):
            if candidate in _POSITIVE:
                return FRACTURED
            if candidate in _NEGATIVE:
                return NOT_FRACTURED
        if weak:
            return _WEAK.get(whole, _WEAK.get(core))
        return None

    def box_label(self, name: str) -> int | None:
        """Give the label that a box of class ``name`` means: any name with a fracture in it counts as one."""
        exact = self.label(name)
        if exact is not None or self.given:
            return exact
        words = set(_words(name))
        if not any(word.startswith("fractur") or word in _POSITIVE for word in words):
            return None
        return NOT_FRACTURED if words & _NEGATION else FRACTURED


def split_name(name: str) -> str:
    """Give train, val or test for a folder's or a cell's name, empty where it is none of them."""
    return _SPLITS.get("".join(word for word in _words(name) if word not in _FILLER), "")


def region_name(name: str) -> str:
    """Give the body region that a name tells ("XR_WRIST", "Elbow positive"), empty where none or several."""
    words = _words(name)
    found = {_REGION_WORDS[word] for word in [*words, "".join(words)] if word in _REGION_WORDS}
    return found.pop() if len(found) == 1 else ""


def view_name(name: str) -> str:
    """Give frontal, lateral or oblique for a view's name (DICOM's codes too), empty where it is not known."""
    return _VIEWS.get(key(name), "")


def is_structure(name: str) -> bool:
    """Tell whether a folder's name says nothing about its pictures: "images", "data", "train"."""
    return bool(split_name(name)) or all(word in _FILLER for word in _words(name))


def patient_name(name: str) -> str:
    """Give the patient that a folder's name tells, "patient00123"; empty where it tells none."""
    return name.lower() if _PATIENT.match(name) else ""


def study_name(name: str) -> str:
    """Give the study that a folder's name tells, "study1" of "study1_positive"; empty where it tells none."""
    found = _STUDY.match(name)
    return f"study{found[1]}" if found else ""


def study_label(name: str) -> int | None:
    """Give the label at the end of a study's folder: "study1_positive"."""
    found = _STUDY.match(name)
    if not found or not found[2]:
        return None
    return FRACTURED if found[2].lower() == "positive" else NOT_FRACTURED


def is_nobody(name: str) -> bool:
    """Tell whether a patient or study is called nothing, "unknown", "N/A" or "-": it would join everybody into one."""
    whole = key(name)
    return not whole or whole in _NOBODY


def original_stem(stem: str) -> str:
    """Give the stem of the picture that a file is a copy of: "7" of "7-rotated2-rotated1", "a" of "a.rf.0123..."."""
    return _COPY.sub("", _ROBOFLOW.sub("", stem))


def _words(name: str) -> list[str]:
    """Split a name into lower-case words: at anything but letters and digits, and where small meets capital."""
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return [word for word in re.split(r"[\W_]+", parted.casefold()) if word]
