"""callus against what else runs such a network: Keras, torch, ONNX Runtime, OpenVINO. One JSON line each, then ratios.

    python -m pip install -c constraints.txt -e '.[train,peers]'
    python bench/peers.py                                     # ResNet152V2 at 224 x 224, some 20 minutes on two cores
    python bench/peers.py --trunk resnet50v2 --peers keras,callus --keep FOLDER

The others run the bare network: the trunk with the same random weights, the mean over places, one dense unit, on
arrays that were made ready before. That they compute the same is checked and printed. callus does everything from a
JPEG's bytes to the finding with map and boxes, with the larger head of the recipe ``callus``. All are in one process
and take turns (A B C A B C), so that whatever else runs on the machine slows all of them alike.

``keras`` is ``model.predict``, ``keras-function`` the same model as a compiled ``tf.function``. ``one``: one
radiograph, all cores. ``batch``: many, divided by their number: Keras, torch and ONNX Runtime in batches, OpenVINO one
a stream.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from peer_networks import APPLICATIONS, NAMES, Peer, Work, make_peers

from callus.bundle.engine import usable_cores
from callus.dataset.simulated import draw_patient, take
from callus.preprocess import InputSpec, prepare
from callus.radiograph import read

if TYPE_CHECKING:
    from collections.abc import Callable

TARGETS = {"one": 5.0, "batch": 2.5}
REST_S = 0.3  # some runtimes' threads spin for a while after their work, on cores that the next one needs
JPEG_QUALITY = 90


def main() -> None:
    """Make the networks, let them take turns, and print."""
    given = arguments()
    names = given.peers.split(",") if given.peers else [name for name, module in NAMES.items() if find_spec(module)]
    if unknown := set(names) - set(NAMES):
        raise SystemExit(f"there is no peer {', '.join(sorted(unknown))}; expected {', '.join(NAMES)}")
    with tempfile.TemporaryDirectory(prefix="callus-peers-") as scratch:
        folder = (given.keep or Path(scratch)) / f"{given.trunk}-{given.side}"
        folder.mkdir(parents=True, exist_ok=True)
        work = make_work(given, folder)
        peers = make_peers(names, work)
        say(check="largest difference of probabilities from the first bare network", **differences(peers, work))
        times = take_turns(peers, work, given.rounds, given.runs)
    for (name, mode), rounds in times.items():
        seconds = [one for taken in rounds for one in taken]
        say(
            peer=name,
            mode=mode,
            what=peers[name].what,
            trunk=given.trunk,
            side=given.side,
            batch=1 if mode == "one" else given.batch,
            threads=work.threads,
            median_ms=round(statistics.median(seconds) * 1e3, 2),
            best_ms=round(min(seconds) * 1e3, 2),
            load_average=round(os.getloadavg()[0], 1),
        )
    say_ratios(times)


def arguments() -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", default="", help=f"some of {','.join(NAMES)}; all that can be imported by default")
    parser.add_argument("--trunk", default="resnet152v2", choices=APPLICATIONS)
    parser.add_argument("--side", type=int, default=224, help="of the network's input, pixels")
    parser.add_argument("--picture", type=int, default=1024, help="height of the JPEGs, pixels")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--images", type=int, default=16, help="radiographs; whole batches")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=4, help="of each peer in a round, one image; many: one")
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--keep", type=Path, help="folder to keep weights and bundle in, or that has them")
    return parser.parse_args()


def say(**line: Any) -> None:
    """Print one line."""
    print(json.dumps({"bench": "peers", **line}), flush=True)


def make_work(given: argparse.Namespace, folder: Path) -> Work:
    """Simulate radiographs as JPEGs, and make them ready for the bare networks."""
    size = (given.picture, round(given.picture * 0.8))
    pictures = [take(draw_patient(0, number), 0, size).pixels for number in range(given.images)]
    jpegs = [cv2.imencode(".jpg", one, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes() for one in pictures]
    spec = InputSpec(given.side, given.side)
    arrays = np.stack([prepare(read(jpeg), spec).array for jpeg in jpegs])
    return Work(jpegs, arrays, given.batch, given.threads, folder, given.trunk)


def differences(peers: dict[str, Peer], work: Work) -> dict[str, float]:
    """How far each peer's answers are from the first bare network's, and callus' one by one from its many at once."""
    answers = {name: peer.many() for name, peer in peers.items()}
    bare = [name for name, peer in peers.items() if peer.what == "bare network"]
    told = {f"{name}": float(np.abs(answers[name] - answers[bare[0]]).max()) for name in bare}
    for name in set(peers) - set(bare):
        alone = np.array([peers[name].one(index) for index in range(len(work.jpegs))])
        told[f"{name}: one from many"] = float(np.abs(alone - answers[name]).max())
    return told


def take_turns(peers: dict[str, Peer], work: Work, rounds: int, runs: int) -> dict[tuple[str, str], list[list[float]]]:
    """Seconds an image, by peer and mode: a list a round."""
    times: dict[tuple[str, str], list[list[float]]] = {(name, mode): [] for mode in TARGETS for name in peers}
    count = len(work.jpegs)
    for turn in range(rounds):
        for (name, mode), taken in times.items():
            peer = peers[name]
            time.sleep(REST_S)
            peer.one(0)  # brings its weights back into the caches
            if mode == "one":
                taken.append([timed(peer.one, index % count) for index in range(turn * runs, (turn + 1) * runs)])
            else:
                taken.append([timed(peer.many) / count])
    return times


def timed(call: Callable[..., object], *arguments: Any) -> float:
    """Seconds that a call takes."""
    started = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - started


def say_ratios(times: dict[tuple[str, str], list[list[float]]]) -> None:
    """How many times faster callus is than each other; by medians, and the rounds' least and largest ratio."""
    medians = {key: [statistics.median(taken) for taken in rounds] for key, rounds in times.items()}
    for ours in ("callus", "callus-float32"):
        for (name, mode), rounds in medians.items():
            if (ours, mode) not in medians or name.startswith("callus"):
                continue
            by_round = [theirs / own for theirs, own in zip(rounds, medians[ours, mode], strict=True)]
            line = {"ratio": f"{name} / {ours}", "mode": mode, "times_faster": round(statistics.median(by_round), 2)}
            line |= {"least": round(min(by_round), 2), "largest": round(max(by_round), 2)}
            if (name, ours) == ("keras", "callus"):
                line |= {"target": TARGETS[mode], "reached": statistics.median(by_round) >= TARGETS[mode]}
            say(**line)


if __name__ == "__main__":
    main()
