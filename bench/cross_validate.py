r"""Pooled k-fold figures of a recipe, by group: train on each fold's rest, evaluate the fold, pool the predictions.

Prints one JSON line. Folds that are finished are not trained again, so a stopped run goes on.

    python bench/cross_validate.py --data ../shared/data/fracatlas --trunk mobilenet_v2 \
        --weights ../shared/weights/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5 --out runs/folds
"""

from __future__ import annotations

import argparse
import json
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd

from callus import dataset
from callus.metrics.intervals import auroc_interval
from callus.metrics.scores import auroc, score_table
from callus.report.evaluation import evaluate
from callus.training import train


def main() -> None:
    """Train, evaluate, pool and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--recipe", default="callus")
    parser.add_argument("--trunk")
    parser.add_argument("--weights")
    parser.add_argument("--set", action="append", default=[], help="section.key=value, as callus train takes it")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True)
    choice = parser.parse_args()
    changes = {
        name: tomllib.loads(f"v = {value}")["v"] for name, _, value in (text.partition("=") for text in choice.set)
    }
    data = choice.out / "manifest.parquet"
    if not data.exists():
        dataset.write_manifest(dataset.load(choice.data), data)
    parts = []
    for number in range(1, choice.folds + 1):
        run, report = choice.out / f"fold{number}", choice.out / f"fold{number}-report"
        if not (run / "bundle").exists():
            train(
                data,
                choice.recipe,
                run,
                trunk=choice.trunk,
                weights=choice.weights,
                overrides=changes,
                fold=(number, choice.folds),
                resume=run.exists(),
                say=print,
            )
        evaluate(run, dataset.read_manifest(run / "manifest.parquet"), "test", report)
        part = pd.read_parquet(report / "predictions.parquet").dropna(subset=["label", "probability"])
        parts.append(part.assign(fold=number))
    pooled = pd.concat(parts)
    label, probability = pooled["label"].to_numpy(np.int64), pooled["probability"].to_numpy(np.float64)
    around = auroc_interval(label, probability, pooled["group"])
    figures = score_table(label, probability)
    print(
        json.dumps(
            {
                "bench": "cross_validate",
                "recipe": choice.recipe,
                "changes": changes,
                "trunk": choice.trunk,
                "files": len(pooled),
                "groups": int(pooled["group"].nunique()),
                "fractured": int(label.sum()),
                "pooled_auroc": round(figures["auroc"], 4),
                "interval_95_by_group": [None if end is None else round(end, 4) for end in (around.low, around.high)],
                "method": around.method,
                "auroc_by_fold": [
                    round(auroc(part["label"], part["probability"]) or 0, 4) for _, part in pooled.groupby("fold")
                ],
                "auprc": round(figures["auprc"], 4),
                "sensitivity_at_0.5": round(figures["sensitivity"], 4),
                "specificity_at_0.5": round(figures["specificity"], 4),
            }
        )
    )


if __name__ == "__main__":
    main()
