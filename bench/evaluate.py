"""What an evaluation costs; one JSON line a part.

``figures``: all that ``metrics.json`` holds of predictions: figures with intervals by group at three thresholds,
levels, calibration, curves with bands, decision curve. Limits: 10,000 predictions in 3,000 groups with 2,000 draws in
under 10 s and 1 GiB on 2 cores.

``claim``: what an accuracy of 75 % on 600 files that are rotated copies of 13 radiographs is worth, from these numbers
alone: as if files were independent, and as if the copies of a radiograph were all alike.

``report``: a page of simulated radiographs, answered by a bundle: seconds and size. Limit: 3,000 files in under 5 MB.

    python bench/evaluate.py figures
    python bench/evaluate.py claim
    python bench/evaluate.py report --model BUNDLE --files 3000 --out runs/large
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from callus.dataset.simulated import simulate
from callus.metrics.operating_points import OperatingPoints
from callus.metrics.proportions import wilson
from callus.metrics.resampling import alike_size
from callus.report import evaluate
from callus.report.measures import Measuring, measure


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parts = parser.add_subparsers(dest="part", required=True)
    part = parts.add_parser("figures", help="all figures with intervals")
    part.add_argument("--files", type=int, default=10_000)
    part.add_argument("--groups", type=int, default=3_000)
    part.add_argument("--draws", type=int, default=2_000)
    parts.add_parser("claim", help="75 %% on 600 copies of 13 radiographs")
    part = parts.add_parser("report", help="the page of a large test")
    part.add_argument("--model", type=Path, required=True)
    part.add_argument("--files", type=int, default=3_000)
    part.add_argument("--out", type=Path, required=True)
    choice = parser.parse_args()
    made = {
        "figures": lambda: figures(choice.files, choice.groups, choice.draws),
        "claim": claim,
        "report": lambda: report(choice.model, choice.files, choice.out),
    }
    print(json.dumps(made[choice.part]()))


def claim() -> dict[str, object]:
    """Files of each validation radiograph, as the set's file names tell them; two also stand in its training part."""
    files = np.array([67.0] * 3 + [40] * 9 + [39])
    right = 0.75 * files.sum()
    known = files[[0, 3]].sum()  # the two, if they are of either class; all of them right, having been learnt
    rest = np.delete(files, [0, 3])
    return {
        "bench": "evaluate",
        "part": "claim",
        "files": int(files.sum()),
        "radiographs": len(files),
        "accuracy": 0.75,
        "as_if_files_were_independent": rounded(wilson(0.75, files.sum())),
        "worth_in_radiographs": round(alike_size(files), 1),
        "by_radiograph": rounded(wilson(0.75, alike_size(files))),
        "without_two_learnt": {
            "accuracy": round((right - known) / rest.sum(), 3),
            "by_radiograph": rounded(wilson((right - known) / rest.sum(), alike_size(rest))),
        },
    }


def rounded(ends: tuple[float, float]) -> list[float]:
    """Ends of an interval, to the third digit."""
    return [round(end, 3) for end in ends]


def report(model: Path, files: int, out: Path) -> dict[str, object]:
    """Simulate, answer, count, write."""
    with tempfile.TemporaryDirectory() as folder:
        frame = simulate(Path(folder) / "simulated", files, seed=3, size=(320, 280))
        started = time.perf_counter()
        metrics = evaluate(model, frame.assign(split="test"), "test", out)
        seconds = time.perf_counter() - started
    return {
        "bench": "evaluate",
        "part": "report",
        "files": metrics["data"]["judged"],
        "seconds": round(seconds, 1),
        "page_mb": round((out / "report.html").stat().st_size / 1e6, 2),
        "metrics_mb": round((out / "metrics.json").stat().st_size / 1e6, 2),
        "peak_mb": round(peak_mb()),
    }


def figures(files: int, groups: int, draws: int) -> dict[str, object]:
    """Time all figures, the shared draws included."""
    random = np.random.default_rng(0)
    group = np.concatenate([np.arange(groups), random.integers(0, groups, files - groups)])
    label = (random.random(files) < 0.3).astype(np.int64)
    shared = random.normal(0, 1, groups)[group]
    probability = 1 / (1 + np.exp(-(3 * label - 1.5 + shared + random.normal(0, 1, files))))
    before = peak_mb()
    started = time.perf_counter()
    predictions = pd.DataFrame(
        {
            "path": [f"{number}.png" for number in range(files)],
            "label": label,
            "probability": probability,
            "group": group.astype(str),
            "level": "none",
            "radiograph": "",
            "study": "",
            "source": "",
            "error": "",
        }
    )
    told = measure(predictions, Measuring(OperatingPoints(0.2, 0.8), 0.5, prevalence=0.1, draws=draws))
    seconds = time.perf_counter() - started
    return {
        "bench": "evaluate",
        "part": "figures",
        "files": files,
        "groups": groups,
        "draws": draws,
        "intervals": sum(len(one) for one in told["intervals"].values()),
        "seconds": round(seconds, 2),
        "peak_mb": round(peak_mb()),
        "peak_mb_before": round(before),
        "cores": len(os.sched_getaffinity(0)),
    }


def peak_mb() -> float:
    """The most memory that this process has held, in MiB."""
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


if __name__ == "__main__":
    main()
