r"""Fit the weights by which callus.dataset.verdicts tells copies from look-alikes. Prints JSON lines, to be pasted.

Copies: random pairs among changed copies of each of some radiographs (callus.dataset.changes). Look-alikes: each
radiograph's nearest others that share some places. FracAtlas' own copies, by the verdicts that the tests keep, are left
out.

    python bench/fit_copies.py --data ../shared/data/fracatlas/images --count 300 --seed 0
"""

from __future__ import annotations

import argparse
import csv
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from callus import radiograph
from callus.dataset.changes import CHANGES
from callus.dataset.files import list_files
from callus.dataset.keypoints import describe
from callus.dataset.neighbours import Neighbours, Vocabulary, learnt_from
from callus.dataset.registration import lay_over
from callus.dataset.verdicts import COARSE_LEAST, fine_detail
from callus.errors import RadiographError
from callus.progress import track

if TYPE_CHECKING:
    from callus.dataset.registration import Overlay

PAIRS = 6  # of copies, of each radiograph
NEAREST = 4
LEAST_CLOSE = 4  # places that fall together, of look-alikes worth learning from
CUT_OFF = 0.2  # of the copies, as FracAtlas has them: files that end early, their lower part one grey
DEAR = 2  # look-alikes count together as so many times all copies, where the closer look decides
# Two exposures that the search joins: not fitted on, so that they stay a test.
HELD_OUT = {("IMG0000025.jpg", "IMG0002310.jpg")}

Pair = tuple[np.ndarray, np.ndarray]


def main() -> None:
    """Draw the pairs, overlay them, fit both looks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    with threadpool_limits(1), ThreadPoolExecutor(os.cpu_count()) as pool:
        names, pictures = read_all(given.data, pool)
        of_copies = copies(pictures, given.count, np.random.default_rng(given.seed))
        of_others, coarse = look_alikes(names, pictures, pool)
        pairs = of_copies + of_others
        same = np.arange(len(pairs)) < len(of_copies)
        overlays = [*overlay_all(of_copies, pool), *coarse]
        odds = fit("coarse", overlays, same, np.zeros((len(pairs), 0)), dear=None)
        open_pairs = [
            place
            for place, (a, b) in enumerate(pairs)
            if odds[place] > COARSE_LEAST - 2 and fine_detail(a.shape, b.shape) is not None
        ]
        closer = list(pool.map(lambda place: look_closely(*pairs[place]), track(open_pairs, "looking closely")))
        fit("fine", closer, same[open_pairs], odds[open_pairs, np.newaxis], dear=DEAR)


def read_all(folder: Path, pool: ThreadPoolExecutor) -> tuple[list[str], list[np.ndarray]]:
    """Every radiograph that can be read, but for the second of known copies."""
    verdicts = Path(__file__).parents[1] / "tests" / "dataset" / "verdicts" / "fracatlas_pairs.csv"
    with verdicts.open() as file:
        twins = {row["second"] for row in csv.DictReader(file) if row["verdict"] == "same"}

    def one(name: str) -> np.ndarray | None:
        try:
            return (radiograph.read(folder / name).unit() * 255).astype(np.uint8)
        except RadiographError:
            return None

    wanted = [name for name in list_files(folder).pictures if Path(name).name not in twins]
    read = [(name, picture) for name, picture in zip(wanted, pool.map(one, wanted), strict=True) if picture is not None]
    return [Path(name).name for name, _ in read], [picture for _, picture in read]


def copies(pictures: list[np.ndarray], count: int, generator: np.random.Generator) -> list[Pair]:
    """Pairs of changed copies, as bench/audit.py makes them, JPEG's noise included."""
    pairs: list[Pair] = []
    for place in generator.permutation(len(pictures))[:count]:
        made = [pictures[place]]
        made += [change(pictures[place], generator) for change in CHANGES.values() if generator.random() < 0.6]
        for _ in range(4):
            picture = pictures[place]
            for kind in generator.choice(list(CHANGES), 3, replace=False):
                picture = CHANGES[kind](picture, generator)
            made.append(picture)
        made = [cut_off(picture, generator) if generator.random() < CUT_OFF else picture for picture in made]
        coded = [CHANGES["recode"](picture, generator) for picture in made]
        for _ in range(PAIRS):
            a, b = generator.choice(len(coded), 2, replace=False)
            pairs.append((coded[a], coded[b]))
    return pairs


def cut_off(picture: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The lowest tenth to third in one grey."""
    cut = picture.copy()
    cut[int(len(cut) * generator.uniform(0.67, 0.9)) :] = generator.integers(0, 160)
    return cut


def look_alikes(
    names: list[str], pictures: list[np.ndarray], pool: ThreadPoolExecutor
) -> tuple[list[Pair], list[Overlay | None]]:
    """Different radiographs that share some places, with their overlays."""
    described = list(pool.map(describe, track(pictures, "describing")))
    vocabulary = Vocabulary([described[place] for place in learnt_from(len(described))])
    nearest = Neighbours(vocabulary.vectors(described)).nearest(NEAREST)[0]
    places = sorted({(min(a, b), max(a, b)) for a, row in enumerate(nearest.tolist()) for b in row if b >= 0})
    places = [(a, b) for a, b in places if tuple(sorted((names[a], names[b]))) not in HELD_OUT]
    found = list(pool.map(lambda pair: lay_over(described[pair[0]], described[pair[1]]), track(places, "overlaying")))
    kept = [
        (pair, one) for pair, one in zip(places, found, strict=True) if one is not None and one.close >= LEAST_CLOSE
    ]
    return [(pictures[a], pictures[b]) for (a, b), _ in kept], [one for _, one in kept]


def overlay_all(pairs: list[Pair], pool: ThreadPoolExecutor) -> list[Overlay | None]:
    """The coarse look at each pair."""
    return list(
        pool.map(lambda pair: lay_over(describe(pair[0]), describe(pair[1])), track(pairs, "overlaying copies"))
    )


def look_closely(a: np.ndarray, b: np.ndarray) -> Overlay | None:
    """The finer look."""
    detail = fine_detail(a.shape, b.shape)
    return None if detail is None else lay_over(describe(a, detail), describe(b, detail))


def fit(what: str, overlays: list[Any], same: np.ndarray, before: np.ndarray, dear: float | None) -> np.ndarray:
    """Print the weights and what each threshold would do; give every pair's log odds."""
    known = np.array([one is not None for one in overlays])
    evidence = np.array([one.evidence() for one in overlays if one is not None])
    table = np.hstack([before[known], evidence])
    middle, spread = table.mean(axis=0), table.std(axis=0)
    share = 1.0 if dear is None else dear * same[known].sum() / (~same[known]).sum()
    weight = np.where(same[known], 1.0, share)
    model = LogisticRegression().fit((table - middle) / spread, same[known], sample_weight=weight)
    weights = model.coef_[0] / spread
    bias = float(model.intercept_[0] - weights @ middle)
    odds = np.full(len(overlays), -99.0)
    odds[known] = table @ weights + bias
    line: dict[str, Any] = {"look": what, "weights": np.round(weights, 3).tolist(), "bias": round(bias, 3)}
    line |= {"copies": int(same.sum()), "look_alikes": int((~same).sum())}
    line["at"] = {
        str(least): [round(float((odds[same] > least).mean()), 3), int((odds[~same] > least).sum())]
        for least in (0, 1, 1.6, 2, 2.5, 3, 4, 5, 6, 7, 8)
    }
    print(json.dumps(line), flush=True)
    return odds


if __name__ == "__main__":
    main()
