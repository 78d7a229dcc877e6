r"""The original project's own test, because its users will ask: 13 radiographs in 600 files.

Trains on the training radiographs of the set that the original was made with, one file of each, without those that its
audit finds in both splits; tests on all files of its validation split. Whoever wants the original's way takes
``--recipe seed``. 13 radiographs prove little, and the line that is printed says so.

    callus data audit BONEDATA --out runs/bonedata
    python bench/original.py --data runs/bonedata/manifest.parquet --trunk mobilenet_v2 --weights MOBILENET.h5 \
        --out runs/original
"""

from __future__ import annotations

import argparse
import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from callus import dataset
from callus.dataset.clean import clean, radiograph_keys
from callus.dataset.split import split
from callus.report.evaluation import evaluate
from callus.training import Options, train

if TYPE_CHECKING:
    from typing import Any

ORIGINAL = 0.75
"""Its accuracy on the 600 files, as its text says."""
THEIRS = "val"
"""The split that it was tested on."""


def main() -> None:
    """Train, evaluate and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the audit's manifest")
    parser.add_argument("--recipe", default="radiograph")
    parser.add_argument("--trunk")
    parser.add_argument("--weights")
    parser.add_argument("--set", action="append", default=[], help="section.key=value, as callus train takes it")
    parser.add_argument("--precision", default="32-true", help="as callus train takes it")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    run, report = given.out / "run", given.out / "report"
    frame = parted(dataset.read_manifest(given.data))
    if not (run / "bundle").exists():
        changes = {name: tomllib.loads(f"v = {value}")["v"] for name, _, value in (s.partition("=") for s in given.set)}
        train(
            frame,
            given.recipe,
            run,
            trunk=given.trunk,
            weights=given.weights,
            overrides=changes,
            resume=run.exists(),
            options=Options(precision=given.precision),
            say=print,
        )
    metrics = evaluate(run, frame, "test", report)
    print(json.dumps(told(metrics, given.recipe)))


def parted(frame: pd.DataFrame) -> pd.DataFrame:
    """The manifest with "train" and "val" (one file a radiograph) out of the set's "train", and "test": its "val".

    A radiograph that stands in both is tested on and not learnt from.
    """
    rows = dataset.usable(frame)
    keys = radiograph_keys(rows)
    tested = rows[rows["split"] == THEIRS]
    known = keys.isin(keys[tested.index]) | rows["group"].isin(tested["group"])
    learnt_from, _ = clean(rows[(rows["split"] == "train") & ~known])
    learnt_from = split(learnt_from, test=0.0, val=0.15, seed=0)
    whole = pd.concat([learnt_from, tested.assign(split="test")], ignore_index=True)
    whole.attrs = dict(frame.attrs)
    return whole


def told(metrics: dict[str, Any], recipe: str) -> dict[str, Any]:
    """What is printed: accuracy and AUROC by file and by radiograph, each with its 95 % interval."""
    parts = {"file": metrics, "radiograph": metrics["aggregated"]["radiograph"]}
    shown: dict[str, Any] = {"bench": "original", "recipe": recipe, "original_accuracy_by_file": ORIGINAL}
    for name, part in parts.items():
        for figure in ("accuracy", "auroc"):
            found = part["intervals"]["at_0.5"][figure]
            shown[f"{figure}_by_{name}"] = [round(found[key], 3) for key in ("value", "low", "high")]
    count = parts["radiograph"]["units"]
    return shown | {"said": f"{count} radiographs prove little: one of them is {100 / count:.0f} % of the accuracy"}


if __name__ == "__main__":
    main()
