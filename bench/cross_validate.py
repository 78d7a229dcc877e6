r"""Pooled k-fold figures of a recipe, by group: train on each fold's rest, evaluate the fold, pool the predictions.

Prints one JSON line. Folds that are finished are not trained again, so a stopped run goes on. Give the manifest of an
audit, so that copies of a radiograph do not lie in two folds. ``--only 2`` runs one fold, for ablations.

``--recipe`` given again trains by each of them and evaluates the average of the networks (``callus export RUN RUN``).

``--leave-out hand`` (again for more) trains without a body region and tests on it instead: what a network is worth on
bones that it never saw says more of other sources than folds of one source do. Files of several regions are left out.

``--keep FOLDER`` writes each fold's answers there (``fold1.json``: files' names, groups, labels, probabilities and what
was found by place), and takes those that it holds instead of training them again, so that folds can be measured on
several days or machines. Only folds of the same manifest and recipe are pooled.

``--by-file`` deals files out to the folds as if each were a group of its own, and ``--no-outlines`` hides from training
where fractures are (not from the test): what the one only seems to give, and what the other gives.

What is found by place (the map's highest point, boxes) is pooled by the number of fractured pictures, or of fractures,
that each fold has.

    python bench/cross_validate.py --data runs/audit/manifest.parquet --recipe radiograph \
        --weights ../shared/weights/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5 --out runs/folds
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.special import logit as log_odds
from sklearn.linear_model import LogisticRegression

from callus import dataset
from callus.atomic import whole_file
from callus.dataset.manifest import digest
from callus.dataset.split import split, splittable
from callus.metrics.intervals import auroc_interval
from callus.metrics.scores import auroc, score_table
from callus.report.evaluation import evaluate
from callus.training import Options, train
from callus.training import recipe as recipes
from callus.training.reexport import export_runs

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPECIFICITY = 0.80
"""At which the sensitivity is given, by the pooled scores."""
KEPT = ("path", "group", "label", "probability")
"""Of each answer in the file of a fold that is kept."""
PLACES = ("polygons", "boxes")
"""Of a manifest's columns, those that tell where fractures are."""
BY_PICTURE = ("pointing_game", "images_hit", "images_overlapped", "map_iou")
BY_FRACTURE = ("fractures_hit", "fractures_overlapped")


def main() -> None:
    """Train, evaluate, pool and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--recipe", action="append", help="callus where none is named; again for more, averaged")
    parser.add_argument("--trunk")
    parser.add_argument("--weights")
    parser.add_argument("--set", action="append", default=[], help="section.key=value, as callus train takes it")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--only", type=int, action="append", help="a fold to run; again for more; else all")
    parser.add_argument("--leave-out", action="append", metavar="REGION", help="a region to train without and test on")
    parser.add_argument("--by-file", action="store_true", help="let files of one group stand in several parts")
    parser.add_argument("--no-outlines", action="store_true", help="learn from labels alone")
    parser.add_argument("--precision", default="32-true", help="as callus train takes it")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where folds' answers are kept, and taken from")
    parser.add_argument("--out", type=Path, required=True)
    choice = parser.parse_args()
    if choice.keep and choice.no_outlines:
        parser.error("what is kept does not say that outlines were hidden: --keep goes without --no-outlines")
    choice.recipe = choice.recipe or ["callus"]
    changes = {
        name: tomllib.loads(f"v = {value}")["v"] for name, _, value in (text.partition("=") for text in choice.set)
    }
    data = choice.out / "manifest.parquet"
    if not data.exists():
        given = choice.data
        rows = dataset.read_manifest(given) if given.is_file() else dataset.load(given)
        dataset.write_manifest(rows.assign(group=rows["path"]) if choice.by_file else rows, data)
    followed = "".join(recipes.override(recipes.load(name), changes).to_toml() for name in choice.recipe)
    what = {
        "manifest_sha256": digest(dataset.read_manifest(data)),
        "recipe_sha256": hashlib.sha256(followed.encode()).hexdigest(),
        "trunk": choice.trunk,
        "folds": choice.folds,
    }
    parts, places = [], []
    for number in choice.leave_out or choice.only or range(1, choice.folds + 1):
        kept = choice.keep and choice.keep / f"fold{number}.json"
        if not (kept and kept.exists()):
            part, place = measured(choice, data, number, changes)
            if kept:
                keep(kept, what, part, place)
        else:
            part, place = taken(kept, what)
        parts.append(part.assign(fold=number))
        places.append(place)
    pooled = pd.concat(parts)
    label, probability = pooled["label"].to_numpy(np.int64), pooled["probability"].to_numpy(np.float64)
    around = auroc_interval(label, probability, pooled["group"])
    figures = score_table(label, probability)
    told = {
        "bench": "cross_validate",
        "recipe": choice.recipe,
        "changes": changes,
        "trunk": choice.trunk,
        "folds": [choice.leave_out or choice.only or "all", choice.folds],
        "files": len(pooled),
        "groups": int(pooled["group"].nunique()),
        "fractured": int(label.sum()),
        "pooled_auroc": figures["auroc"],
        "interval_95_by_group": [around.low, around.high],
        "method": around.method,
        "auroc_by_fold": [auroc(part["label"], part["probability"]) for _, part in pooled.groupby("fold")],
        "auprc": figures["auprc"],
        f"sensitivity_at_specificity_{SPECIFICITY}": sensitivity_at(label, probability),
        "sensitivity_at_0.5": figures["sensitivity"],
        "specificity_at_0.5": figures["specificity"],
        "calibration_slope": slope(label, probability),
        **located(places),
    }
    print(json.dumps(rounded(told)))


def measured(
    choice: argparse.Namespace, data: Path, number: int | str, changes: dict[str, Any]
) -> tuple[pd.DataFrame, dict[str, Any] | None]:
    """Train a fold (or without a region) where that is not done, and evaluate it.

    Returns:
        Its answers, the columns KEPT, and what was found by place, as metrics.json has it.
    """
    several = len(choice.recipe) > 1
    model, report = choice.out / f"fold{number}", choice.out / f"fold{number}-report"
    runs = [choice.out / f"fold{number}-{name}" for name in choice.recipe] if several else [model]
    for run, recipe in zip(runs, choice.recipe, strict=True):
        if (run / "bundle").exists():
            continue
        rows = dataset.read_manifest(data)
        if choice.no_outlines:
            rows = rows.assign(**{name: [[]] * len(rows) for name in PLACES})
        train(
            rows if isinstance(number, int) else without(rows, number),
            recipe,
            run,
            trunk=choice.trunk,
            weights=choice.weights,
            # Of several, the average is what int8 is made of.
            overrides={**changes, "export.int8": False} if several else changes,
            fold=(number, choice.folds) if isinstance(number, int) else None,
            allow_leaks=bool(choice.leave_out),
            resume=run.exists(),
            options=Options(precision=choice.precision),
            say=print,
        )
    if several:
        model = model.with_suffix(".callus")
        export_runs(runs, model, int8=changes.get("export.int8", True), say=print)
    tested = dataset.read_manifest(runs[0] / "manifest.parquet")
    if choice.no_outlines:
        known = dataset.read_manifest(data).set_index("path")
        tested = tested.assign(**{name: known[name].reindex(tested["path"]).to_numpy() for name in PLACES})
    evaluate(model, tested, "test", report, allow_leaks=bool(choice.leave_out))
    part = pd.read_parquet(report / "predictions.parquet").dropna(subset=["label", "probability"])
    return part[list(KEPT)], json.loads((report / "metrics.json").read_text())["localisation"]


def keep(file: Path, what: dict[str, Any], part: pd.DataFrame, place: dict[str, Any] | None) -> None:
    """Write a fold's answers; of each path its name alone, which does not say where the data lie."""
    told = part.assign(path=[Path(path).name for path in part["path"]])
    rows = [json.dumps(row) for row in told.astype({"label": int}).round({"probability": 5}).to_numpy().tolist()]
    file.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(file, "w") as out:
        head = json.dumps({**what, "places": place, "columns": list(KEPT)})
        out.write(head[:-1] + ', "rows": [\n' + ",\n".join(rows) + "\n]}\n")


def taken(file: Path, what: dict[str, Any]) -> tuple[pd.DataFrame, dict[str, Any] | None]:
    """What :func:`keep` wrote, if it is of the same data and recipe."""
    told = json.loads(file.read_text())
    other = [key for key, value in what.items() if told[key] != value]
    if other:
        raise SystemExit(f"{file} was measured with another {' and '.join(other)}: give another --keep, or none")
    return pd.DataFrame(told["rows"], columns=told["columns"]), told["places"]


def without(frame: pd.DataFrame, region: str) -> pd.DataFrame:
    """A manifest whose test split is one region, and which learns from the others.

    Groups are blocks of numbers, which hold several regions of several patients: they are kept together between
    training and validation, and cannot be between training and test. One patient's leg tells little of another's hand.
    """
    rows = splittable(frame)
    rows = rows[rows["region"] != "mixed"]
    tested = rows["region"] == region
    if not tested.any():
        raise SystemExit(f"no file shows the region {region!r}; there are {', '.join(sorted(set(rows['region'])))}")
    rest = split(rows[~tested], test=0.0, val=0.1, seed=0)
    return rows.assign(split=rest["split"].reindex(rows.index, fill_value="test").astype("str"))


def sensitivity_at(label: NDArray[np.int64], probability: NDArray[np.float64]) -> float:
    """The share of fractured files above the score that leaves SPECIFICITY of the others below it."""
    least = np.quantile(probability[label == 0], SPECIFICITY, method="higher")
    return float((probability[label == 1] > least).mean())


def slope(label: NDArray[np.int64], probability: NDArray[np.float64]) -> float:
    """The calibration slope: that of a logistic regression of the label on the log odds; 1 is right."""
    odds = log_odds(np.clip(probability, 1e-6, 1 - 1e-6))
    return float(LogisticRegression(C=np.inf).fit(odds[:, None], label).coef_[0, 0])


def located(places: list[dict[str, Any] | None]) -> dict[str, float]:
    """Where the maps and boxes were, over all folds; nothing where no fracture has a place."""
    known = [fold for fold in places if fold and "pointing_game" in fold]

    def mean(weight: str, value: Any) -> float | None:
        pairs = [(fold[weight], value(fold)) for fold in known if value(fold) is not None]
        return sum(w * v for w, v in pairs) / sum(w for w, _ in pairs) if pairs else None

    found = {name: mean("fractured", lambda fold, name=name: fold[name]["value"]) for name in BY_PICTURE}
    found |= {name: mean("fractures", lambda fold, name=name: fold[name]["value"]) for name in BY_FRACTURE}
    rates = sorted({rate for fold in known for rate in fold["froc"]}, key=float)
    found |= {f"froc_{r}": mean("fractures", lambda fold, r=r: fold["froc"][r]["value"]) for r in rates}
    found["ap50"] = mean("fractures", lambda fold: fold["ap50"]["value"])
    return {name: value for name, value in found.items() if value is not None}


def rounded(value: Any) -> Any:
    """Numbers to four places."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return round(value, 4) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
