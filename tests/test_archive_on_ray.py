"""An archive answered on a Ray cluster of two nodes, both on this machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny_bundle
from ctrl_c import HEED_CTRL_C
from PIL import Image

from callus.archive.parts import open_parts
from callus.archive.stream import answer_files
from callus.errors import CallusError
from callus.identify import Identifier

pytest.importorskip("ray", reason="Ray is not installed (the extra ray)")

# Nodes that are gone are missed at once, and not after the half minute that suits a real network.
QUICK = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 300, "health_check_failure_threshold": 3}
FILES, BAD = 240, 6
LONGEST = 180.0  # seconds that anything may take to come, on a slow machine too
# Ray writes a token into the home folder and takes it from there, unless it is given one.
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle.write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Radiographs, of which a third are bright, and some files that are none."""
    folder = tmp_path_factory.mktemp("archive")
    random_ = np.random.default_rng(0)
    for number in range(FILES):
        pixels = random_.integers(20, 60, (160, 160), dtype=np.uint8)
        pixels[100:120, 40:60] = (255, 60, 60)[number % 3]
        Image.fromarray(pixels).save(folder / f"{number:03}.png", compress_level=1)
    for number in range(BAD):
        (folder / f"text{number}.png").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def local(archive: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the local mode answers."""
    out = tmp_path_factory.mktemp("local")
    identifier = Identifier(bundle, hint="throughput")
    with open_parts(out, identifier.bundle, resume=False) as parts:
        answer_files(identifier, sorted(map(str, archive.iterdir())), parts)
    return {str(row["path"]): row for row in rows(out)}


class Nodes:
    """A head and one more node, started as a person would."""

    def __init__(self) -> None:
        # Paths of sockets may have 107 bytes, and pytest's own folders take half of that.
        self._folder = tempfile.mkdtemp(prefix="ray-")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        settings = ("--include-dashboard=false", f"--system-config={json.dumps(QUICK)}", f"--temp-dir={self._folder}")
        self._nodes = [self._start("--head", f"--port={port}", *settings)]
        self._wait()
        self._nodes.append(self._start(f"--address={self.address}"))
        self._wait()

    def readers(self, node: int) -> list[int]:
        """The processes that read files on the first (0) or second (1) node."""
        return [process for process in below(self._nodes[node].pid) if reads_files(process)]

    def kill_second(self) -> None:
        for process in below(self._nodes[1].pid):
            os.kill(process, signal.SIGKILL)

    def end(self) -> None:
        for node in self._nodes:
            for process in below(node.pid):
                os.kill(process, signal.SIGKILL)
            node.wait(60)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self, *words: str) -> subprocess.Popen[bytes]:
        ray = Path(sys.executable).with_name("ray")
        same = ("--num-cpus=1", "--object-store-memory=100000000", "--disable-usage-stats", "--block")
        with (Path(self._folder) / "log").open("ab") as log:
            call = [ray, "start", "--node-ip-address=127.0.0.1", *same, *words]
            return subprocess.Popen(call, stdout=log, stderr=log, env=environment())

    def _wait(self) -> None:
        """Until every node that was started says that it is ready."""
        log = Path(self._folder) / "log"
        ends = time.monotonic() + LONGEST
        while log.read_text().count("Ray runtime started.") < len(self._nodes):
            assert self._nodes[-1].poll() is None, log.read_text()
            assert time.monotonic() < ends, log.read_text()
            time.sleep(0.05)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    started = Nodes()
    try:
        yield started
    finally:
        started.end()


def environment(*, token: bool = True) -> dict[str, str]:
    """This process' own, without what tells of another Ray."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return mine | {"RAY_USAGE_STATS_ENABLED": "0"} | (TOKEN if token else {})


def below(process: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{process}/task").iterdir())
        started = [int(pid) for task in tasks for pid in (task / "children").read_text().split()]
    except OSError:  # it has ended
        return []
    return [process, *(pid for child in started for pid in below(child))]


def reads_files(process: int) -> bool:
    """Whether it is one of those that an actor starts to read files."""
    try:
        return b"popen_loky" in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False


def rows(folder: Path) -> list[dict[str, Any]]:
    return [row for file in sorted(folder.glob("part-*.parquet")) for row in pq.read_table(file).to_pylist()]


def start(
    archive: Path | str, bundle: Path, out: Path, *more: str, address: str | None = None
) -> subprocess.Popen[str]:
    """The verb in a process of its own, with parts of three rows so that much is written."""
    code = "import callus.archive.parts as parts; parts.ROWS = 3; from callus.cli import main; main()"
    words = ["identify", str(archive), "--model", str(bundle), "--parquet", str(out), "--on", "ray", *more]
    return subprocess.Popen(
        [sys.executable, "-c", HEED_CTRL_C + code, *words, *(["--ray-address", address] if address else [])],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=environment(token=address is not None),
    )


def going_on(run: subprocess.Popen[str], what: str) -> Iterator[None]:
    """Ask again and again, while a run goes on and not for ever."""
    ends = time.monotonic() + LONGEST
    while True:
        yield
        assert run.poll() is None, run.communicate(timeout=60)
        if time.monotonic() > ends:
            run.kill()
            raise AssertionError(f"{what}: {run.communicate(timeout=60)}")
        time.sleep(0.005)


def wait_for_parts(run: subprocess.Popen[str], out: Path, count: int = 1) -> None:
    for _ in going_on(run, "no part is written"):
        if len(list(out.glob("part-*"))) >= count:
            return


def check_complete(run: subprocess.Popen[str], out: Path, local: dict[str, dict[str, Any]]) -> str:
    """Wait, and hold each file's one row against the local mode's; the last line that was said."""
    shown, err = run.communicate(timeout=120)
    assert (run.returncode, shown) == (1, ""), err  # those that are no images
    found = rows(out)
    assert sorted(row["path"] for row in found) == sorted(local)
    for row in found:
        assert row == local[row["path"]]
    assert all(file.name.startswith("part-") for file in out.iterdir())
    (line,) = [line for line in err.splitlines() if not line.startswith("identifying: ")]
    assert line.startswith(
        f"{FILES} identified: {FILES // 3} fracture, 0 doubt, {FILES * 2 // 3} none seen, {BAD} failed"
    )
    return line


def fail(archive: Path | str, bundle: Path, out: Path, **how: Any) -> tuple[int, str]:
    """The exit code and the one line that is said."""
    run = start(archive, bundle, out, **how)
    shown, err = run.communicate(timeout=60)
    assert shown == ""
    assert err.count("\n") == 1, err
    return run.returncode, err


@pytest.mark.slow
def test_nodes_that_see_other_files_are_told_before_anything_is_answered(
    cluster: Nodes, archive: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(archive)  # each process has a working folder of its own, so this path means another one there
    code, err = fail("/proc/self/cwd", bundle, tmp_path / "out", address=cluster.address)
    assert code == 2
    assert "2 of 2 nodes cannot do the work: " in err
    assert "files that were tried cannot be read there, as /proc/self/cwd/000.png" in err
    assert rows(tmp_path / "out") == []


@pytest.mark.slow
def test_begun_here_and_every_file_is_answered_once_though_the_driver_and_then_a_node_die(
    cluster: Nodes, archive: Path, bundle: Path, tmp_path: Path, local: dict[str, dict[str, Any]]
) -> None:
    out = tmp_path / "out"
    identifier = Identifier(bundle, hint="throughput")
    with open_parts(out, identifier.bundle, resume=False) as parts:
        answer_files(identifier, sorted(local)[:10], parts)
    run = start(archive, bundle, out, "--resume", address=cluster.address)
    wait_for_parts(run, out, 3)
    run.kill()
    run.communicate(timeout=60)
    found = [row["path"] for row in rows(out)]
    assert 10 < len(found) == len(set(found)) < len(local)

    ends = time.monotonic() + LONGEST
    while cluster.readers(0) or cluster.readers(1):  # those of the run before end with it
        assert time.monotonic() < ends, "readers outlive their run"
        time.sleep(0.05)
    run = start(archive, bundle, out, "--resume", address=cluster.address)
    held: set[int] = set()
    for _ in going_on(run, "the second node gets no work"):  # the first one is held until it has
        if cluster.readers(1):
            break
        for process in set(cluster.readers(0)) - held:
            os.kill(process, signal.SIGSTOP)
            held.add(process)
    cluster.kill_second()
    for process in held:
        os.kill(process, signal.SIGCONT)
    line = check_complete(run, out, local)
    assert f"; {len(found)} of them before" in line
    assert "given out twice, for nodes were lost" in line


@pytest.mark.slow
def test_ctrl_c_on_a_ray_of_its_own(
    archive: Path, bundle: Path, tmp_path: Path, local: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    before = set(Path(tempfile.gettempdir()).glob("callus-ray-*"))
    out = tmp_path / "out"
    run = start(archive, bundle, out)
    wait_for_parts(run, out)
    started = below(run.pid)
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does, to all processes in front
    shown, err = run.communicate(timeout=60)
    assert (run.returncode, shown) == (130, ""), err
    line = err.splitlines()[-1]
    assert line.startswith("callus: stopped; what was finished is kept")
    assert line.endswith("the same command with --resume goes on")
    assert "Traceback" not in err
    found = [row["path"] for row in rows(out)]
    assert 3 <= len(found) == len(set(found)) < len(local)
    assert all(file.name.startswith("part-") for file in out.iterdir())
    wanted = time.monotonic() + 30
    while any(Path(f"/proc/{process}").exists() for process in started):
        assert time.monotonic() < wanted, "processes outlive their caller"
        time.sleep(0.05)
    assert list(home.iterdir()) == []
    assert set(Path(tempfile.gettempdir()).glob("callus-ray-*")) <= before


@pytest.mark.parametrize("listens", ["nothing", "silent", "closing"])
def test_an_address_that_does_not_answer(listens: str) -> None:
    from callus.archive import cluster as module

    with pytest.MonkeyPatch.context() as patch, socket.socket() as server:
        patch.setattr(module, "_ANSWER_S", 0.3)
        server.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{server.getsockname()[1]}"
        if listens != "nothing":
            server.listen()
        if listens == "closing":
            server.shutdown(socket.SHUT_RDWR)
        with pytest.raises(CallusError, match=rf"^{address}: no Ray answers there: .*; give the head's HOST:PORT"):
            module._check_answers(address)


@pytest.mark.parametrize("address", ["head", "ray://head:10001", ":6379", "head:ray"])
def test_what_is_no_address(address: str) -> None:
    from callus.archive.cluster import ClusterError, cluster

    with pytest.raises(ClusterError, match=r"is no address of a Ray cluster; expected HOST:PORT"), cluster(address):
        pass


def test_an_address_is_told_in_one_line(archive: Path, bundle: Path, tmp_path: Path) -> None:
    code, err = fail(archive, bundle, tmp_path / "out", address="127.0.0.1:9")
    assert code == 2
    assert err.startswith("callus: 127.0.0.1:9: no Ray answers there: Connection refused; give the head's HOST:PORT")


def test_what_a_node_must_be_able_to_do(archive: Path, bundle: Path) -> None:
    from callus.archive.cluster import Model, problem

    digest = Identifier(bundle).bundle.digest
    files = [os.fsencode(archive / "000.png"), os.fsencode(archive / "gone.png")]
    assert problem(Model(str(bundle), digest, "auto", ()), files[:1]) is None
    assert "1 of 2 files that were tried cannot be read there" in str(
        problem(Model(str(bundle), digest, "auto", ()), files)
    )
    assert "is another bundle there" in str(problem(Model(str(bundle), "0" * 64, "auto", ()), []))
    assert "there is no such model" in str(problem(Model("/nowhere", digest, "auto", ()), []))
    assert "is installed there, 9.9 here" in str(problem(Model(str(bundle), digest, "auto", (), "9.9"), []))
    assert "openvino-int8" in str(problem(Model(str(bundle), digest, "openvino-int8", ()), []))


def test_a_node_gets_a_shipped_model_by_its_name_and_others_by_their_path(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from callus.archive.cluster import Model, problem
    from callus.bundle import DEFAULT_MODEL, Bundle

    shipped = Model.of(Bundle.load(DEFAULT_MODEL), Path(DEFAULT_MODEL), "auto", None)
    assert shipped.path == DEFAULT_MODEL  # no path: another node may have callus elsewhere
    monkeypatch.chdir(bundle.parent)
    near = Model.of(Bundle.load(bundle.name), Path(bundle.name), "auto", ())
    assert near.path == str(bundle)
    monkeypatch.chdir("/")  # where a node's processes start is not where the command was given
    assert problem(shipped, []) is None
    assert problem(near, []) is None


@pytest.mark.slow
def test_the_default_model_on_ray(archive: Path, tmp_path: Path) -> None:
    words = ["identify", str(archive / "000.png"), "--parquet", str(tmp_path / "out"), "--on", "ray"]
    line = [sys.executable, "-m", "callus", *words]
    done = subprocess.run(
        line, check=False, capture_output=True, text=True, timeout=LONGEST, env=environment(token=False)
    )
    assert done.returncode == 0, done.stderr
    (row,) = rows(tmp_path / "out")
    assert (row["error"], row["model"]) == (None, "radiograph")


def test_a_node_is_not_believed_that_a_file_is_missing(archive: Path) -> None:
    from callus.archive.on_ray import _check

    waiting = {0: str(archive / "000.png"), 1: str(archive / "gone.png")}
    row = {"trouble": None, "node": "two", "unseen": True}
    _check(row | {"number": 1}, waiting)  # it is missing here, too
    _check(row | {"number": 0, "unseen": False}, waiting)
    with pytest.raises(CallusError, match=r"000.png: cannot be read on node two, but here; every node must see"):
        _check(row | {"number": 0}, waiting)
    with pytest.raises(CallusError, match=r"node two cannot go on: no memory; then go on by --resume"):
        _check(row | {"number": None, "trouble": "no memory"}, waiting)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--on", "ray"], "give --parquet DIR too"),
        (["--ray-address", "head:6379", "--parquet", "out"], "goes with --on ray; give that too"),
    ],
)
def test_options_that_do_not_go_together(words: list[str], told: str) -> None:
    from typer.testing import CliRunner

    from callus.cli import app

    done = CliRunner().invoke(app, ["identify", "a.png", "--model", "m", *words], env={"COLUMNS": "200"})
    assert done.exit_code == 2
    assert told in done.output


def test_without_ray_its_extra_is_named(archive: Path, bundle: Path, tmp_path: Path) -> None:
    code = "import sys; sys.modules['ray'] = None; from callus.cli import main; main()"
    words = ["identify", archive, "--model", bundle, "--parquet", tmp_path / "out", "--on", "ray"]
    line = [sys.executable, "-c", code, *map(str, words)]
    done = subprocess.run(line, check=False, capture_output=True, text=True, timeout=LONGEST)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "callus: --on ray needs Ray, which is not installed; pip install 'callus[ray]'\n"
