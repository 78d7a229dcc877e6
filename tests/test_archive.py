from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny_bundle
from ctrl_c import HEED_CTRL_C
from dying import die_at_crash, die_at_once, spin_at_spin
from PIL import Image

import callus
from callus.archive import parts
from callus.archive.listing import list_files
from callus.archive.parts import ArchiveError, open_parts
from callus.archive.preparing import prepare_files, survive
from callus.archive.stream import answer_files
from callus.errors import CallusError, RadiographError
from callus.identify import Identifier
from callus.labels import RESEARCH_ONLY
from callus.preprocess import InputSpec


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle.write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture(scope="module")
def identifier(bundle: Path) -> Identifier:
    return Identifier(bundle, threads=1, hint="throughput")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 radiographs, of which a third are bright, and ten files that are none."""
    folder = tmp_path_factory.mktemp("archive")
    random_ = np.random.default_rng(0)
    for number in range(400):
        pixels = random_.integers(20, 60, (160, 160), dtype=np.uint8)
        pixels[100:120, 40:60] = (255, 60, 60)[number % 3]
        Image.fromarray(pixels).save(folder / f"{number:03}.png", compress_level=1)
    for number in range(10):
        (folder / f"text{number}.png").write_text("no image")
    return folder


def rows(folder: Path) -> list[dict[str, object]]:
    """All rows of all parts, each part read as it lies there."""
    return [row for file in sorted(folder.glob("part-*.parquet")) for row in pq.read_table(file).to_pylist()]


def answer(identifier: Identifier, files: Iterable[str], folder: Path, **how: bool) -> parts.Parts:
    with open_parts(folder, identifier.bundle, resume=how.pop("resume", False), **how) as opened:
        answer_files(identifier, list(files), opened, workers=2)
    return opened


def test_every_file_has_one_row_with_its_answer(
    identifier: Identifier, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "ROWS", 7)
    files = [str(archive / f"{number:03}.png") for number in range(12)]
    files += [str(archive / "text0.png"), str(archive / "missing.png")]
    opened = answer(identifier, files, tmp_path / "out")
    assert [file.name for file in sorted((tmp_path / "out").iterdir())] == ["part-00000.parquet", "part-00001.parquet"]
    found = rows(tmp_path / "out")
    assert [row["path"] for row in found] == files
    for row in found[:12]:
        finding = identifier.identify(str(row["path"]))
        assert (row["probability"], row["level"], row["error"]) == (finding.probability, finding.level, None)
        assert row["boxes"] == [box.as_dict() for box in finding.boxes]
        assert row["cautions"] == list(finding.cautions)
        assert (row["height"], row["width"], row["sha256"]) == (160, 160, callus.read(str(row["path"])).sha256)
    assert [(row["probability"], row["level"], row["boxes"]) for row in found[12:]] == [(None, None, [])] * 2
    assert "is not an image" in str(found[12]["error"])
    assert "there is no such file" in str(found[13]["error"])
    same = {"model": "tiny", "bundle": identifier.bundle.digest, "callus": callus.__version__}
    assert all((same | {"research_only": RESEARCH_ONLY}).items() <= row.items() for row in found)
    assert (opened.levels, opened.failures) == (Counter(fracture=4, none=8), 2)
    assert pq.read_schema(tmp_path / "out" / "part-00000.parquet").equals(parts.SCHEMA)


def test_a_part_is_written_after_a_while_although_it_is_not_full(
    identifier: Identifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "SECONDS", 0.0)
    opened = parts.Parts(tmp_path, identifier.bundle)
    row = {"path": "a.png", "level": None, "error": "is not an image", "boxes": [], "cautions": []}
    opened.add(row, None)
    assert len(rows(tmp_path)) == 1


def test_what_is_there_is_gone_on_with_or_refused(
    identifier: Identifier, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(archive)
    out = tmp_path / "out"
    answer(identifier, ["000.png", "text1.png"], out)
    before = (out / "part-00000.parquet").read_bytes()
    with pytest.raises(ArchiveError, match=r"out: holds results already; go on with them by --resume"):
        answer(identifier, ["001.png"], out)
    monkeypatch.chdir(tmp_path)  # the same files, seen from elsewhere
    files = [str(archive / name) for name in ("001.png", "text1.png", "000.png")]
    opened = answer(identifier, files, out, resume=True)
    assert (opened.before, opened.failures, sum(opened.levels.values())) == (2, 1, 2)
    assert [Path(str(row["path"])).name for row in rows(out)] == ["000.png", "text1.png", "001.png"]
    assert (out / "part-00000.parquet").read_bytes() == before
    answer(identifier, files, out, resume=True)
    assert len(rows(out)) == 3

    other = Identifier(tiny_bundle.write_tiny_bundle(tmp_path / "other", name="other"), threads=1)
    with pytest.raises(ArchiveError, match=r"was answered by another model: tiny, .* and not by other"):
        answer(other, files, out, resume=True)


def test_failed_files_are_tried_again_where_that_is_wanted(
    identifier: Identifier, archive: Path, tmp_path: Path
) -> None:
    late = tmp_path / "late.png"
    files = [str(archive / "000.png"), str(late), str(archive / "text0.png")]
    out = tmp_path / "out"
    assert answer(identifier, files, out).failures == 2
    late.write_bytes((archive / "001.png").read_bytes())
    assert answer(identifier, files, out, resume=True).failures == 2
    assert answer(identifier, files, out, resume=True, retry_failed=True).failures == 1
    assert sorted((row["path"], row["error"] is None) for row in rows(out)) == sorted(
        zip(files, (True, True, False), strict=True)
    )


@pytest.mark.parametrize("damage", ["foreign", "cut", "empty"])
def test_a_file_that_is_no_part_of_ours(identifier: Identifier, archive: Path, tmp_path: Path, damage: str) -> None:
    answer(identifier, [str(archive / "000.png")], tmp_path)
    file = tmp_path / "part-00000.parquet"
    if damage == "foreign":
        pq.write_table(pa.table({"path": ["a"]}), file)
    else:
        file.write_bytes(file.read_bytes()[: -100 if damage == "cut" else 0])
    with pytest.raises(ArchiveError, match=r"part-00000.parquet: is no part of an archive's results, or is damaged"):
        answer(identifier, [], tmp_path, resume=True)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (
            "part-00000 (copy).parquet",
            "is not named as a part is, part-00000.parquet: it may be a copy of one; move it",
        ),
        ("part-\u0660.parquet", "is not named as a part is"),
        ("part-7.parquet", "is not named as a part is"),
        ("part-00007.parquet", "answers only files that parts before it answer too: it looks like a copy of one; move"),
    ],
)
@pytest.mark.parametrize("retry_failed", [False, True])
def test_a_copy_of_a_part_is_told_and_nothing_is_changed(
    identifier: Identifier, archive: Path, tmp_path: Path, name: str, told: str, retry_failed: bool
) -> None:
    files = [str(archive / "000.png"), str(archive / "text0.png")]
    answer(identifier, files, tmp_path)
    one = tmp_path / "part-00000.parquet"
    (tmp_path / name).write_bytes(one.read_bytes())
    with pytest.raises(ArchiveError) as caught:
        answer(identifier, files, tmp_path, resume=True, retry_failed=retry_failed)
    assert f"{tmp_path / name}: {told}" in str(caught.value)
    assert len(rows(tmp_path)) == 4
    (tmp_path / name).unlink()
    answer(identifier, files, tmp_path, resume=True, retry_failed=retry_failed)
    assert sorted(str(row["path"]) for row in rows(tmp_path)) == files


def test_two_runs_do_not_write_to_one_folder(identifier: Identifier, archive: Path, tmp_path: Path) -> None:
    with (
        open_parts(tmp_path, identifier.bundle, resume=True),
        pytest.raises(ArchiveError, match="another run is writing its results here"),
    ):
        answer(identifier, [str(archive / "000.png")], tmp_path, resume=True)
    answer(identifier, [str(archive / "000.png")], tmp_path, resume=True)


def test_a_part_that_cannot_be_written(identifier: Identifier, archive: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CallusError, match=r"file: cannot be made"):
        answer(identifier, [str(archive / "000.png")], tmp_path / "file")

    def in_the_way() -> Iterator[str]:
        (tmp_path / "out").rmdir()
        (tmp_path / "out").write_text("in the way")
        yield str(archive / "000.png")

    with pytest.raises(CallusError, match=r"part-00000.parquet: cannot be written"):
        answer(identifier, in_the_way(), tmp_path / "out")


def test_names_that_are_no_text_and_names_given_twice(
    identifier: Identifier, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = os.fsencode(tmp_path) + b"/a\xff.png"
    Path(os.fsdecode(odd)).write_bytes((archive / "000.png").read_bytes())
    monkeypatch.chdir(tmp_path)
    files, failed = list_files([tmp_path, Path(), tmp_path / "x" / ".." / os.fsdecode(b"a\xff.png")], tmp_path / "out")
    assert (len(files), failed) == (1, [])
    answer(identifier, files, tmp_path / "out")
    answer(identifier, files, tmp_path / "out", resume=True)
    (row,) = rows(tmp_path / "out")
    assert (row["path"], row["level"]) == (f"{tmp_path}/a\\udcff.png", "fracture")


def test_a_file_that_crashes_its_process_costs_itself_only() -> None:
    names = [f"{number:02}" for number in range(40)]
    names[10] = "crash at ten"
    names[33:35] = ["crash and", "crash again"]
    found = list(survive(die_at_crash, names, 2))  # type: ignore[arg-type]
    assert [name for name, _ in found] == names
    for name, result in found:
        if name.startswith("crash"):
            assert isinstance(result[1], RadiographError)
            assert result[1].where == name
            assert "makes the process that reads it fail (SIGSEGV" in result[1].what
        else:
            assert result == (name, "done")


def test_no_file_is_blamed_where_no_process_can_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callus.workers._begin", die_at_once)
    with pytest.raises(CallusError, match="processes that read files cannot be started"):
        list(survive(die_at_crash, ["a", "b"], 1))  # type: ignore[arg-type]


def test_a_process_that_hangs_in_a_file_is_ended() -> None:
    hang = (
        "import threading, callus.archive.preparing as p; from callus.preprocess import InputSpec\n"
        "p.LIMIT_S = 0.3; p.read = lambda *_, **__: threading.Event().wait(60)\n"
        "p._prepare('a.png', p.Path(), spec=InputSpec(), strict=False)"
    )
    assert subprocess.run([sys.executable, "-c", hang], check=False, timeout=50).returncode == 1


def test_a_file_that_is_computed_on_without_end_costs_itself_only() -> None:
    names = ["first", "spin at this", "last"]
    found = dict(survive(spin_at_spin, names, 2))  # type: ignore[arg-type]
    assert (found["first"], found["last"]) == (("first", "done"), ("last", "done"))
    error = found["spin at this"][1]
    assert str(error).startswith("spin at this: is not read in the processor time that a file of its size may take")


def test_the_bounds_of_a_process_that_reads(archive: Path) -> None:
    told = (
        "import resource, signal, callus.archive.preparing as p; from callus.preprocess import InputSpec\n"
        "def read(*_, **__):\n    print(9 < signal.getitimer(signal.ITIMER_PROF)[0] < 11.1)\n    raise MemoryError\n"
        "p.read = read\n"
        f"print(p._prepare({str(archive / '000.png')!r}, p.Path(), spec=InputSpec(), strict=False)[1])\n"
        "print(signal.getitimer(signal.ITIMER_PROF)[0], resource.getrlimit(resource.RLIMIT_CORE)[0])"
    )
    done = subprocess.run([sys.executable, "-c", told], check=True, timeout=50, capture_output=True, text=True)
    bound, error, after = done.stdout.splitlines()
    assert (bound, after) == ("True", "0.0 0")
    assert "MemoryError" in error


def test_only_a_few_files_are_taken_ahead(archive: Path) -> None:
    taken = []

    def files():  # noqa: ANN202
        for number in range(400):
            taken.append(number)
            yield str(archive / f"{number:03}.png")

    with closing(prepare_files(files(), InputSpec(64, 64), 2)) as prepared:
        name, (sha256, result) = next(prepared)
        assert (name, sha256) == (str(archive / "000.png"), callus.read(name).sha256)
        assert getattr(result, "shape", None) == (160, 160)
        assert len(taken) < 60


def start(archive: Path, bundle: Path, out: Path) -> subprocess.Popen[str]:
    """The verb in a process of its own, with parts of three rows so that much is written."""
    code = "import callus.archive.parts as parts; parts.ROWS = 3; from callus.cli import main; main()"
    words = ["identify", archive, "--model", bundle, "--parquet", out, "--resume", "--workers", "2"]
    return subprocess.Popen(
        [sys.executable, "-c", HEED_CTRL_C + code, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_parts(run: subprocess.Popen[str], out: Path, count: int) -> None:
    ends = time.monotonic() + 180
    while len(list(out.glob("part-*"))) < count:
        assert run.poll() is None, run.communicate(timeout=60)
        if time.monotonic() > ends:
            run.send_signal(signal.SIGABRT)  # it tells where it stands
            raise AssertionError(f"no {count} parts are written: {run.communicate(timeout=60)}")
        time.sleep(0.002)


def children(process: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def complete(archive: Path, bundle: Path, out: Path) -> str:
    """Go on until all is answered; what was said."""
    return check_complete(start(archive, bundle, out), archive, out)


def check_complete(run: subprocess.Popen[str], archive: Path, out: Path) -> str:
    """Wait, and look for each file's one row; what was said."""
    shown, err = run.communicate(timeout=120)
    assert (run.returncode, shown) == (1, ""), err  # the ten that are no images
    assert err.splitlines()[-1].startswith("400 identified: 134 fracture, 0 doubt, 266 none seen, 10 failed")
    found = rows(out)
    assert len(found) == 410
    assert {row["path"] for row in found} == {str(file) for file in archive.iterdir()}
    assert sum(row["error"] is not None for row in found) == 10
    assert all(file.name.startswith("part-") for file in out.iterdir())  # nothing hidden, nothing half-written
    return err


@pytest.mark.slow
def test_killed_at_any_point_and_gone_on_with(archive: Path, bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    chance = np.random.default_rng(1)
    for kill in range(1, 4):
        run = start(archive, bundle, out)
        there = len(list(out.glob("part-*")))
        wait_for_parts(run, out, there + int(chance.integers(1, 20)))
        time.sleep(chance.uniform(0, 0.02))
        workers = children(run.pid)
        run.kill()
        _, err = run.communicate(timeout=60)
        assert run.returncode == -signal.SIGKILL
        found = [row["path"] for row in rows(out)]  # whatever lies there can be read
        assert len(found) == len(set(found))
        assert there < len(found) < 410
        assert len(workers) >= 2
        wanted = time.monotonic() + 30
        while any(Path(f"/proc/{worker}").exists() for worker in workers):
            assert time.monotonic() < wanted, f"processes outlive their caller after kill {kill}: {err}"
            time.sleep(0.05)
    assert "of them before" in complete(archive, bundle, out)


@pytest.mark.slow
def test_a_process_that_is_killed_costs_no_file(archive: Path, bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = start(archive, bundle, out)
    wait_for_parts(run, out, 5)
    commands = {child: Path(f"/proc/{child}/cmdline").read_bytes() for child in children(run.pid)}
    os.kill(next(child for child, command in commands.items() if b"popen_loky" in command), signal.SIGKILL)
    err = check_complete(run, archive, out)
    assert all(line.startswith("identifying: ") for line in err.splitlines()[:-1]), err
    assert not any("fail" in str(row["error"]) for row in rows(out))


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_finished(archive: Path, bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = start(archive, bundle, out)
    wait_for_parts(run, out, 5)
    run.send_signal(signal.SIGINT)
    shown, err = run.communicate(timeout=60)
    assert (run.returncode, shown) == (130, "")
    assert err.splitlines()[-1].startswith("callus: stopped")
    assert "Traceback" not in err
    found = rows(out)
    assert 15 <= len(found) < 410
    assert f"{sum(row['error'] is None for row in found)} identified" in err
    assert all(file.name.startswith("part-") for file in out.iterdir())
    complete(archive, bundle, out)
