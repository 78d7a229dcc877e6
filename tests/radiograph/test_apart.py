"""Coded DICOM decoded in another process: the same picture, and a crash that costs one file."""

from __future__ import annotations

import concurrent.futures
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from callus.errors import PassingError, RadiographError
from callus.radiograph import apart, read

if TYPE_CHECKING:
    from collections.abc import Iterator

LOSSLESS = "dicom JPEG lossless 70"


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """No decoder is kept from one test for the next."""
    apart._end_idle()
    yield
    apart._end_idle()


def test_the_picture_is_the_same(every_format: dict[str, bytes]) -> None:
    for name, data in every_format.items():
        here, there = read(data), read(data, isolated=True)
        assert np.array_equal(here.pixels, there.pixels), name
        assert here.pixels.dtype == there.pixels.dtype
        assert here.notes == there.notes
    assert len(apart._idle) == 1  # one process has done them all


def test_so_is_the_error(every_format: dict[str, bytes]) -> None:
    for name in (LOSSLESS, "dicom JPEG-LS", "dicom RLE"):
        data = every_format[name][:-30]
        with pytest.raises(RadiographError) as here:
            read(data, strict=True)
        with pytest.raises(RadiographError) as there:
            read(data, strict=True, isolated=True)
        assert str(here.value) == str(there.value)
    assert len(apart._idle) == 1


def test_a_decoder_that_crashes_costs_one_file(every_format: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    crash = "import os; from callus.radiograph import apart, codecs; codecs.coded = lambda *_: os.abort()"
    with monkeypatch.context() as context:
        context.setattr(apart, "_SERVE", f"{crash}; apart.serve()")
        with pytest.raises(RadiographError, match=r"make the process of its decoder fail \(signal 6\) \[JPEG Lossless"):
            read(every_format[LOSSLESS], isolated=True)
        context.setattr(apart, "_SERVE", "import os; os._exit(3)")
        with pytest.raises(RadiographError, match=r"exit code 3"):
            read(every_format[LOSSLESS], isolated=True)
    assert apart._idle == []
    assert read(every_format[LOSSLESS], isolated=True).shape == (16, 16)


def test_a_decoder_that_hangs_is_ended(every_format: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "LIMIT_S", 0.5)
    monkeypatch.setattr(apart, "_SERVE", "import time; time.sleep(600)")
    with pytest.raises(PassingError, match=r"not done with in 0\.5 s"):  # perhaps the machine has too much to do
        read(every_format[LOSSLESS], isolated=True)


def test_a_decoder_that_computes_without_end_is_ended_and_not_asked_again(
    every_format: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spin = (
        f"def spin(*_):\n    open({str(tmp_path / 'asked')!r}, 'a').write('x')\n    while True: pass\n"
        "from callus.radiograph import apart, codecs\ncodecs.coded, apart.CPU_S = spin, 0.1\napart.serve()"
    )
    monkeypatch.setattr(apart, "CPU_S", 0.1)
    monkeypatch.setattr(apart, "_SERVE", spin)
    with pytest.raises(RadiographError, match=r"not done with in 1 s of processor time \[JPEG Lossless") as caught:
        read(every_format[LOSSLESS], isolated=True)
    assert not isinstance(caught.value, PassingError)  # it is the file's fault, whatever else the machine has to do
    assert (tmp_path / "asked").read_text() == "x"
    assert apart._idle == []


def test_processor_time_is_counted_for_each_file_and_large_ones_get_more() -> None:
    work = (
        "import time; from callus.radiograph import apart\napart.CPU_S = 0.1\n"
        "for _ in range(3):\n    with apart.processor_limited(0):\n        ends = time.process_time() + 0.7\n"
        "        while time.process_time() < ends: pass\n"
    )
    subprocess.run([sys.executable, "-c", work], check=True, timeout=180)
    large = work.replace("0.7", "2").replace("limited(0)", "limited(8 << 20)")
    subprocess.run([sys.executable, "-c", large], check=True, timeout=180)
    small = subprocess.run([sys.executable, "-c", work.replace("0.7", "2")], check=False, timeout=180)
    assert small.returncode == -signal.SIGPROF
    assert [apart.processor_s(size) for size in (0, 1000, 4 << 20, 20 << 20, 512 << 20)] == [10, 11, 12, 20, 55]


def test_a_decoder_has_bounds_of_memory_and_leaves_none_on_the_disk(
    every_format: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = read(every_format[LOSSLESS], isolated=True).pixels
    limits = Path(f"/proc/{apart._idle[0]._process.pid}/limits").read_text()
    assert re.search(r"Max core file size +0 ", limits)
    for size, fits in (("MOST_MEMORY // 2", True), ("MOST_MEMORY + (1 << 28)", False)):
        apart._end_idle()
        takes = f"def takes(*given):\n    bytearray(apart.{size})\n    return coded(*given)\n"
        serve = "from callus.radiograph import apart, codecs\ncoded = codecs.coded\n"
        monkeypatch.setattr(apart, "_SERVE", f"{serve}{takes}codecs.coded = takes\napart.serve()")
        if fits:
            assert np.array_equal(read(every_format[LOSSLESS], isolated=True).pixels, expected)
        else:
            with pytest.raises(PassingError, match="does not fit into memory"):
                read(every_format[LOSSLESS], isolated=True)


def test_a_decoder_that_was_killed_while_it_waited_costs_nothing(every_format: dict[str, bytes]) -> None:
    expected = read(every_format[LOSSLESS], isolated=True).pixels
    (idle,) = apart._idle
    os.kill(idle._process.pid, signal.SIGKILL)
    idle._process.wait(60)

    assert np.array_equal(read(every_format[LOSSLESS], isolated=True).pixels, expected)
    assert apart._idle != [idle]


def test_a_decoder_that_dies_once_is_not_the_files_fault(
    every_format: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    once = f"import os, pathlib; p = pathlib.Path({str(tmp_path / 'died')!r}); p.exists() or (p.touch(), os.abort())"
    monkeypatch.setattr(apart, "_SERVE", f"{once}; from callus.radiograph import apart; apart.serve()")
    assert read(every_format[LOSSLESS], isolated=True).shape == (16, 16)
    assert (tmp_path / "died").exists()


def test_decoders_that_are_killed_and_cannot_be_started_pass(
    every_format: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as context:
        context.setattr(apart, "_SERVE", "import os; os.kill(os.getpid(), 9)")  # as where memory is short
        with pytest.raises(PassingError, match=r"signal 9"):
            read(every_format[LOSSLESS], isolated=True)
        full = "from callus.radiograph import apart, codecs\ndef full(*_): raise MemoryError\ncodecs.coded = full\n"
        context.setattr(apart, "_SERVE", f"{full}apart.serve()")
        with pytest.raises(PassingError, match="does not fit into memory"):
            read(every_format[LOSSLESS], isolated=True)
    apart._end_idle()
    handle = os.open(os.devnull, os.O_RDONLY)
    os.close(handle)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (handle, limits[1]))  # no other file can be opened now
    try:
        with pytest.raises(PassingError, match=r"no process can be started for it \(.*Too many open files"):
            read(every_format[LOSSLESS], isolated=True)
        with pytest.raises(PassingError, match="Too many open files"):
            read(__file__)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert read(every_format[LOSSLESS], isolated=True).shape == (16, 16)


@pytest.mark.parametrize(
    "line",
    [
        "{}",
        "no json",
        '{"kind": "object", "shape": [16, 16], "layout": {}, "missing": 0}',
        '{"kind": "uint8", "shape": [99999, 99999], "layout": {}, "missing": 0}',
        '{"kind": "uint16", "shape": [16, 16], "layout": {"rows": 1}, "missing": 0}',
    ],
)
def test_a_decoder_that_was_taken_over_can_only_lie(
    line: str, every_format: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "_SERVE", f"import sys; sys.stdin.buffer.readline(); print({line!r}); print('x' * 600)")
    with pytest.raises(RadiographError, match="make the process of its decoder fail"):
        read(every_format[LOSSLESS], isolated=True)
    assert apart._idle == []


def test_threads_have_a_process_each(every_format: dict[str, bytes]) -> None:
    names = [name for name in every_format if name.startswith("dicom")] * 3
    expected = {name: read(every_format[name]).pixels for name in names}
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda name: read(every_format[name], isolated=True).pixels, names))
    for name, pixels in zip(names, found, strict=True):
        assert np.array_equal(pixels, expected[name]), name
    assert 1 <= len(apart._idle) <= 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_no_process_is_left_behind(every_format: dict[str, bytes]) -> None:
    script = (
        "import sys; from callus.radiograph import apart, read;"
        "read(sys.stdin.buffer.read(), isolated=True); print(apart._idle[0]._process.pid)"
    )
    line = [sys.executable, "-c", script]
    done = subprocess.run(line, input=every_format[LOSSLESS], capture_output=True, check=True, timeout=180)
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)
