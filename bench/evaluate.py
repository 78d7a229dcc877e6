"""What an evaluation costs; one JSON line a part.

``figures``: all figures with intervals by group, at three thresholds. Limits (of the issue): 10,000 predictions in
3,000 groups with 2,000 draws in under 10 s and 1 GiB on 2 cores.

    python bench/evaluate.py figures
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time

import numpy as np

from callus.metrics.intervals import ranking_intervals, threshold_intervals
from callus.metrics.resampling import Resampling

THRESHOLDS = (0.2, 0.5, 0.8)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parts = parser.add_subparsers(dest="part", required=True)
    part = parts.add_parser("figures", help="all figures with intervals")
    part.add_argument("--files", type=int, default=10_000)
    part.add_argument("--groups", type=int, default=3_000)
    part.add_argument("--draws", type=int, default=2_000)
    choice = parser.parse_args()
    print(json.dumps(figures(choice.files, choice.groups, choice.draws)))


def figures(files: int, groups: int, draws: int) -> dict[str, object]:
    """Time all figures, the shared draws included."""
    random = np.random.default_rng(0)
    group = np.concatenate([np.arange(groups), random.integers(0, groups, files - groups)])
    label = (random.random(files) < 0.3).astype(np.int64)
    shared = random.normal(0, 1, groups)[group]
    probability = 1 / (1 + np.exp(-(3 * label - 1.5 + shared + random.normal(0, 1, files))))
    before = peak_mb()
    started = time.perf_counter()
    resampling = Resampling(group, label, draws)
    told = [ranking_intervals(label, probability, resampling)]
    told += [threshold_intervals(label, probability, one, resampling, prevalence=0.1) for one in THRESHOLDS]
    seconds = time.perf_counter() - started
    return {
        "bench": "evaluate",
        "part": "figures",
        "files": files,
        "groups": groups,
        "draws": draws,
        "thresholds": len(THRESHOLDS),
        "intervals": sum(len(one) for one in told),
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
