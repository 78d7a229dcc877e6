"""What OpenVINO does to the process that it runs in; each test has one of its own, for only a new one is untouched."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_bundle
from ctrl_c import HEED_CTRL_C

LONGEST = 120
"""Seconds, on a slow machine; what is tested here would last for ever."""

FIRST_ANSWERS = """\
import sys, threading
import numpy as np
from callus.bundle import Bundle, Engine

engine = Engine(Bundle.load(sys.argv[1]), name="openvino-float32", hint="throughput")
sys.setswitchinterval(1e-6)  # as if the cores had much else to do
gate = threading.Barrier(8)
answers = []

def answer():
    gate.wait()
    answers.append(engine.run(np.zeros((2, 3, 64, 64), np.float32)))

threads = [threading.Thread(target=answer, daemon=True) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(answers))
"""

CTRL_C = """\
import os, signal, sys, threading
from callus.bundle import Bundle, Engine

def make():
    return Engine(Bundle.load(sys.argv[1]), name="openvino-float32")

if sys.argv[2] == "in another thread":
    engines = [make()]
    thread = threading.Thread(target=engines.clear)
    thread.start()
    thread.join()
else:
    first, second = make(), make()
    del first
    del second
try:
    os.kill(os.getpid(), signal.SIGINT)
    signal.pause()
except KeyboardInterrupt:
    print("interrupted")
"""


def run(code: str, *words: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-c", HEED_CTRL_C + code, *map(str, words)]
    return subprocess.run(line, check=False, capture_output=True, text=True, timeout=LONGEST)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle.write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


def test_threads_that_answer_first_at_once_do_not_wait_for_each_other(bundle: Path) -> None:
    done = run(FIRST_ANSWERS, bundle)
    assert (done.returncode, done.stdout) == (0, "8\n"), done.stderr


@pytest.mark.skipif(not hasattr(signal, "pause"), reason="the system sends no signals")
@pytest.mark.parametrize("freed", ["in another order", "in another thread"])
def test_ctrl_c_is_heard_after_engines_have_gone(bundle: Path, freed: str) -> None:
    done = run(CTRL_C, bundle, freed)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr
