r"""What a network's figures owe to things that are no bone: the same test with and without each of them.

Prints one JSON line for each: pictures with hardware left out; blocks of numbers in which every picture is fractured
left out; files with a corrupt ending left out; letters and arrows painted over; the grey levels and the file made
anew (a JPEG of quality 90 of the picture's own pixels, so that no file differs from another by how it was written).
Paths of runs and bundles are taken, of several in turn: folds pool their tests.

    python bench/confounders.py runs/folds/fold1 runs/folds/fold2
    python bench/confounders.py runs/folds/fold1 --model radiograph
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pandas as pd

from callus.dataset.manifest import read_manifest, usable
from callus.dataset.suspicious import suspect
from callus.identify import Identifier
from callus.metrics.intervals import auroc_interval
from callus.metrics.scores import auroc
from callus.progress import track
from callus.radiograph import read
from callus.report.answers import answer

if TYPE_CHECKING:
    from callus.dataset.marks import Mark

SPECIFICITY = 0.80
QUALITY = 90
MARGIN = 3
"""Pixels about a mark that are painted over with it."""


def main() -> None:
    """Answer each run's test as it is and changed, and print what is left of the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders, whose manifests and bundles are taken")
    parser.add_argument("--model", help="a bundle to ask in place of the runs' own")
    parser.add_argument("--split", default="test")
    choice = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        parts = [asked(run, choice.model, choice.split, Path(folder) / str(i)) for i, run in enumerate(choice.runs)]
    pooled = pd.concat(parts, ignore_index=True)
    whole_blocks = pooled.groupby("group")["label"].transform("min") == 1
    kinds = {
        "as it is": (pooled, "plain"),
        "without hardware": (pooled[~pooled["hardware"]], "plain"),
        "without blocks that are all fractured": (pooled[~whole_blocks], "plain"),
        "without corrupt endings": (pooled[~pooled["truncated"]], "plain"),
        "marked pictures only": (pooled[pooled["marks"] > 0], "plain"),
        "marked pictures only, painted over": (pooled[pooled["marks"] > 0], "painted"),
        "all, marks painted over": (pooled, "painted"),
        "all, written anew": (pooled, "anew"),
        "without all of these, marks painted over": (
            pooled[~pooled["hardware"] & ~whole_blocks & ~pooled["truncated"]],
            "painted",
        ),
    }
    for kind, (rows, answers) in kinds.items():
        print(json.dumps({"bench": "confounders", "kind": kind, **figures(rows, answers)}), flush=True)


def asked(run: Path, model: str | None, split: str, folder: Path) -> pd.DataFrame:
    """The split's pictures with the logits that they get as they are, with marks painted over, and written anew."""
    rows = usable(read_manifest(run / "manifest.parquet"))
    rows = rows[rows["split"] == split]
    identifier = Identifier(model or run / "bundle")
    changed = {"plain": rows, "painted": rows.copy(), "anew": rows.copy()}
    marks = []
    for kind in ("painted", "anew"):
        (folder / kind).mkdir(parents=True)
    for i, path in enumerate(track(list(rows["path"]), "changing pictures")):
        seen = read(path)
        found = suspect(seen).marks
        marks.append(len(found))
        pixels = seen.pixels if seen.pixels.dtype == np.uint8 else (seen.pixels >> 8).astype(np.uint8)
        if found:
            file = folder / "painted" / f"{i}.png"
            cv2.imwrite(str(file), painted(pixels, found))
            changed["painted"].iloc[i, rows.columns.get_loc("path")] = str(file)
        file = folder / "anew" / f"{i}.jpg"
        cv2.imwrite(str(file), pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        changed["anew"].iloc[i, rows.columns.get_loc("path")] = str(file)
    told = rows[["label", "group"]].reset_index(drop=True)
    told["label"] = told["label"].astype(int)
    told["hardware"] = rows["hardware"].fillna(value=False).astype(bool).to_numpy()
    told["truncated"] = rows["note"].fillna("").str.startswith("truncated").to_numpy()
    told["marks"] = marks
    for kind, frame in changed.items():
        answers = answer(identifier, frame, kind)
        told[kind] = [answers.findings[path].logit for path in frame["path"]]
    return told


def painted(pixels: np.ndarray[Any, Any], marks: tuple[Mark, ...]) -> np.ndarray[Any, Any]:
    """A picture with what was written and drawn in it filled from around it; watermarks, which are all over, stay."""
    hole = np.zeros(pixels.shape, np.uint8)
    for mark in marks:
        if mark.kind != "watermark":
            left, top = max(0, mark.x - MARGIN), max(0, mark.y - MARGIN)
            hole[top : mark.y + mark.height + MARGIN, left : mark.x + mark.width + MARGIN] = 255
    return cv2.inpaint(pixels, hole, 5, cv2.INPAINT_TELEA)


def figures(rows: pd.DataFrame, answers: str) -> dict[str, Any]:
    """AUROC with its interval by group, and the sensitivity at the fixed specificity; None without both labels."""
    label, logit = rows["label"].to_numpy(np.int64), rows[answers].to_numpy(np.float64)
    told: dict[str, Any] = {"files": len(rows), "fractured": int(label.sum()), "groups": int(rows["group"].nunique())}
    if len(set(label)) < 2:
        return {**told, "auroc": None}
    least = np.quantile(logit[label == 0], SPECIFICITY, method="higher")
    around = auroc_interval(label, logit, rows["group"])
    return {
        **told,
        "auroc": round(float(auroc(label, logit) or 0), 4),
        "low": round(around.low, 4),
        "high": round(around.high, 4),
        f"sensitivity_at_specificity_{SPECIFICITY}": round(float((logit[label == 1] > least).mean()), 4),
    }


if __name__ == "__main__":
    main()
