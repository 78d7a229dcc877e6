"""How well the audit does, and how its cost grows. Prints one JSON line for each part that is asked for.

stress: copies of N radiographs of a folder, changed in every way and in chains of three; figures over pairs of files.
names: a folder whose names tell the truth (the stem before "-rotated", within the class folder), such as BoneData.
whole: the audit as the command does it, nothing kept from before: seconds, and peak memory of the largest process.
growth: the same on simulated radiographs with copies, --files, then 2, 4 and 8 times as many (or as --times tells);
    recall and precision over pairs, and how many different radiographs were joined; a plot in --out.
search: 12,500 to 100,000 random descriptions' vectors, looked up, and how many of the nearest are found.
shuffled: the shortcut probe with labels shuffled by group: how often 0.5 lies in its interval.

python bench/audit.py stress --data ../shared/data/fracatlas/images --count 300 --seed 1
python bench/audit.py names --data ../shared/data/bonedata/Data
python bench/audit.py whole --data ../shared/data/bonedata
python bench/audit.py growth --files 6508 --out runs/growth
python bench/audit.py search
python bench/audit.py shuffled --data ../shared/data/fracatlas --count 50
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from matplotlib.figure import Figure

from callus import radiograph
from callus.dataset.build import build_manifest
from callus.dataset.changes import CHANGES
from callus.dataset.duplicates import Duplicates, find_duplicates
from callus.dataset.files import list_files
from callus.dataset.first_look import look_at_all
from callus.dataset.manifest import group_keys, read_manifest, usable
from callus.dataset.neighbours import Neighbours
from callus.dataset.shelf import Shelf
from callus.dataset.shortcuts import probe
from callus.dataset.simulated import simulate
from callus.errors import RadiographError
from callus.progress import track

if TYPE_CHECKING:
    import pandas as pd

SHARE = 0.6  # of the changes that each radiograph gets, beside its chains
CHAINS = 4
LENGTH = 3


def main() -> None:
    """Run a part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=tuple(PARTS))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--files", type=int, default=6500)
    parser.add_argument("--times", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        for line in PARTS[given.part](given, Path(temporary)):
            print(json.dumps(line), flush=True)


def stress(given: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Changed copies of real radiographs."""
    generator = np.random.default_rng(given.seed)
    names = list_files(given.data).pictures
    twins = known_twins()
    truth: dict[str, str] = {}
    for number in generator.permutation(len(names))[: given.count]:
        if Path(names[number]).name in twins:  # its copies would rightly be joined with those of its twin
            continue
        try:
            seen = radiograph.read(given.data / names[number])
        except RadiographError:
            continue
        original = (seen.unit() * 255).astype(np.uint8)
        copies: list[tuple[str, np.ndarray]] = [("original", original)]
        copies += [
            (name, change(original, generator)) for name, change in CHANGES.items() if generator.random() < SHARE
        ]
        for chain in range(CHAINS):
            picture, kinds = original, generator.choice(list(CHANGES), LENGTH, replace=False)
            for kind in kinds:
                picture = CHANGES[kind](picture, generator)
            copies.append((f"{chain}-{'-'.join(kinds)}", picture))
        for name, picture in copies:
            jpeg = generator.random() < 0.8
            options = [cv2.IMWRITE_JPEG_QUALITY, int(generator.integers(35, 96))] if jpeg else []
            file = folder / f"{number:05d} {name}.{'jpg' if jpeg else 'png'}"
            cv2.imwrite(str(file), picture, options)
            truth[str(file)] = f"{number}"
    found, seconds = search_all(list(truth), folder)
    told = judged(list(truth.values()), found.component.tolist())
    return [{"part": "stress", "seed": given.seed, **told, "seconds": round(seconds, 1)}]


def known_twins() -> set[str]:
    """The second files of FracAtlas' own copies, by the verdicts that the tests keep."""
    verdicts = Path(__file__).parents[1] / "tests" / "dataset" / "verdicts" / "fracatlas_pairs.csv"
    with verdicts.open() as file:
        return {row["second"] for row in csv.DictReader(file) if row["verdict"] == "same"}


def names(given: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Names that tell the truth, or most of it: a radiograph may stand under two."""
    files = [given.data / name for name in list_files(given.data).pictures]
    truth = [f"{file.parent.name}/{file.stem.split('-rotated')[0]}" for file in files]
    found, seconds = search_all([str(file) for file in files], folder)
    members: dict[int, set[str]] = {}
    for component, name in zip(found.component.tolist(), truth, strict=True):
        members.setdefault(component, set()).add(name)
    several = sorted(sorted(group) for group in members.values() if len(group) > 1)
    return [
        {
            "part": "names",
            **judged(truth, found.component.tolist()),
            "names": len(set(truth)),
            "radiographs": len(members),
            "under_several_names": several,
            "seconds": round(seconds, 1),
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }
    ]


def whole(given: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """As a user runs it."""
    return [{"part": "whole", **audited(given.data, folder)}]


def audited(data: Path, folder: Path) -> dict[str, Any]:
    """Run the command in a process of its own with nothing kept from before."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    words = [sys.executable, "-m", "callus", "data", "audit", str(data), "--out", str(folder / "audit")]
    subprocess.run(words, check=True, env={**os.environ, "CALLUS_CACHE": str(folder / "cache")}, stdout=sys.stderr)
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    told = json.loads((folder / "audit" / "audit.json").read_text())
    return {
        "files": told["files"],
        "radiographs": told["radiographs"],
        "leaks": len(told["leaks"]),
        "label_conflicts": len(told["label_conflicts"]),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "peak_mb": after.ru_maxrss // 1024,  # of the largest process so far, this one's before the command among them
    }


def growth(given: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """The whole command on simulated radiographs in folders named by their label, each with three rotated copies."""
    most = 8 * given.files  # whatever sizes are asked for, so that each is the same files again
    frame = simulate(folder / "simulated", -(-most // 4), seed=given.seed, size=(256, 224), plain=True)
    generator = np.random.default_rng(given.seed)
    made: list[tuple[Path, str]] = []
    (folder / "all").mkdir()
    for path, label in track(list(zip(frame["path"], frame["label"], strict=True)), "turning copies"):
        picture = radiograph.read(path).pixels
        for copy in range(4):
            file = folder / "all" / f"{Path(path).stem}-{copy}.png"
            cv2.imwrite(str(file), CHANGES["rotate"](picture, generator) if copy else picture)
            made.append((file, "fractured" if label else "not fractured"))
    order = generator.permutation(len(made))
    lines = []
    for times in given.times:
        count = times * given.files
        data = folder / f"{count}"
        for kind in ("fractured", "not fractured"):
            (data / kind).mkdir(parents=True)
        for file, kind in (made[i] for i in order[:count]):
            os.link(file, data / kind / file.name)
        out = folder / f"{count} out"
        lines.append({"part": "growth", **audited(data, out), **against_names(out / "audit" / "manifest.parquet")})
        print(json.dumps(lines[-1]), file=sys.stderr, flush=True)
        if given.out is not None:
            plot(lines, given.out)
    return lines


def against_names(manifest: Path) -> dict[str, Any]:
    """What an audit of ``growth``'s files told, against their names: the radiograph's, "-" and the copy's number."""
    frame = read_manifest(manifest)
    truth = [Path(path).stem.rsplit("-", 1)[0] for path in frame["path"]]
    told = frame["radiograph"].tolist()
    members: dict[str, set[str]] = {}
    for radiograph_of, name in zip(told, truth, strict=True):
        members.setdefault(radiograph_of, set()).add(name)
    joined = sorted(sorted(group) for group in members.values() if len(group) > 1)
    return {
        **judged(truth, told),
        "true_radiographs": len(set(truth)),
        "different_radiographs_joined": sum(len(group) for group in joined),
        "such_as": joined[:5],
    }


def plot(lines: list[dict[str, Any]], folder: Path) -> None:
    """Measured beside n log n."""
    folder.mkdir(parents=True, exist_ok=True)
    figure = Figure((6, 4), layout="constrained")
    axes = figure.subplots()
    files = np.array([line["files"] for line in lines])
    for name, marker, text in (("seconds", "o-", "seconds that passed"), ("cpu_seconds", "s-", "of processor time")):
        axes.loglog(files, [line[name] for line in lines], marker, label=text)
    expected = files * np.log(files)
    for name in ("seconds", "cpu_seconds"):
        axes.loglog(files, expected * lines[0][name] / expected[0], ":", color="0.5", label="n log n from the first")
    axes.set(xlabel="files", ylabel="seconds", title="callus data audit on simulated radiographs")
    axes.set_xticks(files, [f"{count:,}" for count in files])
    axes.minorticks_off()
    top = max(line["cpu_seconds"] for line in lines)
    ticks = [step * 10**power for power in range(1, 6) for step in (1, 2, 5) if step * 10**power < 2 * top]
    axes.set_yticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.set_ylim(0.7 * lines[0]["seconds"], 1.5 * top)
    handles, names = axes.get_legend_handles_labels()
    axes.legend(handles[:3], names[:3], frameon=False)
    axes.grid(alpha=0.3)
    figure.savefig(folder / "growth.png", dpi=120)


def search(given: argparse.Namespace, _: Path) -> list[dict[str, Any]]:
    """Vectors in clusters of ten, as copies make them: 12,500 to 100,000, to see how the cost grows."""
    generator = np.random.default_rng(given.seed)
    lines = []
    for count in (12_500, 25_000, 50_000, 100_000):
        centres = generator.normal(size=(count // 10, 256)).astype(np.float32)
        noise = generator.normal(scale=0.7, size=(count, 4, 256)).astype(np.float32)
        vectors = centres[generator.integers(0, len(centres), count)][:, np.newaxis] + noise
        vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
        start = time.perf_counter()
        index = Neighbours(vectors, os.cpu_count() or 1)
        built = time.perf_counter()
        numbers, _ = index.nearest(24)
        ended = time.perf_counter()
        some = generator.permutation(count)[:500]
        alike = (vectors[some].reshape(-1, 256) @ vectors[:, 0].T).reshape(len(some), -1, count).max(axis=1)
        alike[np.arange(len(some)), some] = -2
        exact = np.argsort(-alike, axis=1)[:, :9]
        found = np.mean([np.isin(row, mine).mean() for row, mine in zip(exact, numbers[some], strict=True)])
        lines.append({"part": "search", "vectors": count, "build_s": round(built - start, 1)})
        lines[-1] |= {"look_up_s": round(ended - built, 1), "of_nine_nearest_found": round(float(found), 3)}
    return lines


def shuffled(given: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """No shortcut is left where whole groups exchange their labels."""
    frame = build_manifest(given.data)
    with Shelf(folder / "shelf.sqlite") as shelf:
        features = look_at_all(frame, shelf).features
    generator = np.random.default_rng(given.seed)
    held = []
    for _ in track(range(given.count), "probing shuffled labels"):
        found = probe(shuffle_labels(frame, generator), features)
        held.append(found is not None and found.low <= 0.5 <= found.high)
    return [{"part": "shuffled", "repetitions": given.count, "half_in_the_interval": round(float(np.mean(held)), 3)}]


def shuffle_labels(frame: pd.DataFrame, generator: np.random.Generator) -> pd.DataFrame:
    """Deal the labels out anew: each group gets labels drawn from another group's, so that it tells nothing of a third.

    Labels dealt out in one long row would run on from a group into its neighbour, whose files have the next numbers:
    that is a shortcut.
    """
    rows = usable(frame)
    keys = group_keys(rows)
    names = keys.unique()
    given = frame.copy()
    for name, other in zip(names, generator.permutation(names), strict=True):
        index, theirs = rows.index[keys == name], rows.loc[keys == other, "label"].to_numpy()
        given.loc[index, "label"] = generator.choice(theirs, len(index), replace=len(index) > len(theirs))
    return given


def search_all(paths: list[str], folder: Path) -> tuple[Duplicates, float]:
    """Search with nothing kept from before; give the seconds too."""
    start = time.perf_counter()
    folder.mkdir(exist_ok=True)
    with Shelf(folder / "shelf.sqlite") as shelf:
        found = find_duplicates(paths, [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in paths], shelf)
    return found, time.perf_counter() - start


def judged(truth: list[str], together: list[Any]) -> dict[str, Any]:
    """Recall and precision over pairs of files: those of one radiograph, and those that were told to be."""

    def pairs(keys: list[Any]) -> int:
        return sum(count * (count - 1) // 2 for count in Counter(keys).values())

    right = pairs(list(zip(together, truth, strict=True)))
    return {
        "files": len(truth),
        "recall": round(right / max(1, pairs(truth)), 5),
        "precision": round(right / max(1, pairs(together)), 5),
    }


PARTS = {
    "stress": stress,
    "names": names,
    "whole": whole,
    "growth": growth,
    "search": search,
    "shuffled": shuffled,
}

if __name__ == "__main__":
    main()
