r"""The original project's own test, because its users will ask: 13 radiographs in 600 files.

Trains on the training radiographs of the set that the original was made with, the best file of each and ``--copies`` of
its others, without those that its audit finds in both splits; tests on all files of its validation split. Whoever wants
the original's way takes ``--recipe seed``. 13 radiographs prove little, and the line that is printed says so.

Some hundred radiographs are too few to set some aside for the calibration, which decides what is called fractured at
0.5. So ``--runs`` networks are trained, each calibrated on another part of them, and their probabilities are averaged.
``--only 2`` trains the second one and says nothing more, so that two cores can each have one at a time.

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
from callus.dataset.split import folds
from callus.metrics.operating_points import OperatingPoints
from callus.report.evaluation import evaluate
from callus.report.measures import Measuring, measure
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
    parser.add_argument("--copies", type=int, default=0, help="more files of each radiograph to learn from")
    parser.add_argument("--runs", type=int, default=5, help="networks that are averaged")
    parser.add_argument("--only", type=int, action="append", help="a run to train, from 1; again for more; else all")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    changes = {name: tomllib.loads(f"v = {value}")["v"] for name, _, value in (s.partition("=") for s in given.set)}
    learnt_from, tested = parted(dataset.read_manifest(given.data), given.runs, given.copies)
    answers = []
    for number in given.only or range(1, given.runs + 1):
        run, report = given.out / f"run{number}", given.out / f"report{number}"
        frame = pd.concat([validating(learnt_from, number), tested], ignore_index=True)
        frame.attrs = dict(learnt_from.attrs)
        if not (run / "bundle").exists():
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
        evaluate(run, frame, "test", report)
        answers.append(pd.read_parquet(report / "predictions.parquet"))
    if not given.only:
        print(json.dumps(told(averaged(answers), given.recipe)))


def parted(frame: pd.DataFrame, parts: int, copies: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The set's "train" in folds by group, and its "val" as "test".

    A radiograph that stands in both is tested on and not learnt from. Of the others the best file is learnt from, and
    some more, drawn at random: what is tested on are copies too, turned, squashed and small.
    """
    rows = dataset.usable(frame)
    keys = radiograph_keys(rows)
    tested = rows[rows["split"] == THEIRS]
    known = keys.isin(keys[tested.index]) | rows["group"].isin(tested["group"])
    learnt_from, left = clean(rows[(rows["split"] == "train") & ~known])
    if copies:
        others = left.copies.sample(frac=1, random_state=0)
        more = pd.concat([learnt_from, others.groupby(radiograph_keys(others)).head(copies)], ignore_index=True)
        more.attrs = dict(learnt_from.attrs)
        learnt_from = more
    return folds(learnt_from, parts), tested.assign(split="test")


def validating(learnt_from: pd.DataFrame, number: int) -> pd.DataFrame:
    """Those of the folds to learn from, and the one to validate and calibrate on."""
    chosen = learnt_from["split"] == f"fold{number - 1}"
    return learnt_from.assign(split=chosen.map({True: "val", False: "train"}).astype("str"))


def averaged(answers: list[pd.DataFrame]) -> dict[str, Any]:
    """The figures of the mean of calibrated probabilities."""
    together = pd.concat(answers).groupby("path", sort=False)["probability"].mean()
    first = answers[0]
    mean = first.assign(probability=together.reindex(first["path"]).to_numpy())
    return measure(mean, Measuring(OperatingPoints(), 0.5))


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
