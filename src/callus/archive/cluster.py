"""A Ray cluster: finding it within a bounded time, and asking each node whether it can do the work."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import tempfile
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import callus
from callus.bundle import shipped_models
from callus.bundle.engine import usable_cores
from callus.errors import CallusError
from callus.identify import Identifier

# Ray reports its usage to its makers by default, and says so on the terminal.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from callus.bundle import Bundle

_ANSWER_S: Final = 10.0
"""How long an address may take to say that something like Ray is there; Ray itself would try for minutes."""
_CHECK_S: Final = 300.0
"""How long a node may take to import callus and load a model from a slow shared folder."""
_GREETING: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""How a client of HTTP/2, which Ray speaks, begins (RFC 9113, section 3.4), with empty settings."""
_FRAME: Final = 9
"""Bytes of a frame's head."""
_KIND: Final = 3
"""Where in it its kind stands."""
_SETTINGS: Final = 4
"""The kind that the server's first frame must be of."""
_STORE: Final = 256 << 20
"""Bytes of shared memory of a Ray that is started here: rows are small, pixels stay in the process that read them."""
_SHOWN: Final = 3


class ClusterError(CallusError):
    """A cluster does not answer, or its nodes cannot do the work."""


@dataclass(frozen=True)
class Model:
    """How every node gets the same identifier.

    Attributes:
        path: of the bundle, absolute, the same on each node; or the name of a model that comes with callus, which each
            node has where its callus is.
        digest: the bundle's.
        engine: as :class:`callus.identify.Identifier` takes it.
        views: likewise.
        version: of callus.
    """

    path: str
    digest: str
    engine: str
    views: tuple[str, ...] | None
    version: str = callus.__version__

    @classmethod
    def of(cls, bundle: Bundle, model: Path, engine: str, views: tuple[str, ...] | None) -> Model:
        """Tell nodes of a bundle that was loaded here.

        Args:
            bundle: that was loaded.
            model: what it was loaded from: a path, or the name of a model that comes with callus.
            engine: as :class:`callus.identify.Identifier` takes it.
            views: likewise.
        """
        named = str(model) in shipped_models()
        path = str(model) if named else os.path.abspath(model)  # noqa: PTH100 - a link stays one
        return cls(path, bundle.digest, engine, views)

    def load(self, threads: int) -> Identifier:
        """Load it on a node, made for throughput.

        Raises:
            CallusError: this node has another callus, another bundle or none, or not the engine.
        """
        if callus.__version__ != self.version:
            raise CallusError(f"callus {callus.__version__} is installed there, {self.version} here")
        identifier = Identifier(self.path, engine=self.engine, threads=threads, hint="throughput", views=self.views)
        if identifier.bundle.digest != self.digest:
            raise CallusError(f"is another bundle there, {identifier.bundle.digest[:12]}", where=self.path)
        return identifier


@dataclass(frozen=True)
class Node:
    """A machine of the cluster: Ray's identifier, a name to show, and its CPUs as Ray counts them."""

    identifier: str
    name: str
    cpus: int


@contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """Be connected to a cluster while the block runs.

    Args:
        address: ``HOST:PORT`` of the head; None for that of the environment's RAY_ADDRESS. Where there is none either,
            Ray is started on this machine, and ended with the block.

    Raises:
        ClusterError: no Ray answers there, or it is another version.
    """
    address = address or os.environ.get("RAY_ADDRESS") or None
    if address is not None and address not in ("auto", "local"):
        _check_answers(address)
    how: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    with ExitStack() as stack:
        if address in (None, "local"):
            how |= stack.enter_context(_alone())
        # Ray prints on stdout when a node is lost.
        stack.enter_context(redirect_stdout(stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))))
        try:
            ray.init(address=address or "local", **how)
        except Exception as error:  # what goes wrong here is of many classes
            raise ClusterError(
                f"Ray cannot be used: {last_line(error)}",
                where=address,
                hint="start callus on a machine of the cluster, with the cluster's versions of Ray and Python, and with"
                " RAY_AUTH_MODE=token where the cluster asks for a token",
            ) from error
        stack.callback(ray.shutdown)
        yield


@contextmanager
def _alone() -> Iterator[dict[str, Any]]:
    """How Ray is started on this machine so that nobody else can use it, and nothing of it stays."""
    given = os.environ.get("RAY_AUTH_TOKEN")
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # else Ray would write one into the home folder
    try:
        with tempfile.TemporaryDirectory(prefix="callus-ray-", ignore_cleanup_errors=True) as folder:
            yield {
                "num_cpus": usable_cores(),
                "num_gpus": 0,
                "include_dashboard": False,
                "object_store_memory": _STORE,
                "_temp_dir": folder,
                "_node_ip_address": "127.0.0.1",
            }
    finally:
        if given is None:
            del os.environ["RAY_AUTH_TOKEN"]


def nodes() -> list[Node]:
    """The cluster's machines that have CPUs for work."""
    return [
        Node(entry["NodeID"], f"{entry['NodeManagerHostname']} ({entry['NodeName']})", int(entry["Resources"]["CPU"]))
        for entry in ray.nodes()  # type: ignore[no-untyped-call]
        if entry["Alive"] and entry["Resources"].get("CPU", 0) >= 1
    ]


def check_nodes(found: Sequence[Node], model: Model, files: Sequence[str]) -> None:
    """Let each node load the model and open files, before it is given any work.

    Args:
        found: by :func:`nodes`.
        model: what is to be loaded.
        files: absolute paths of some files that can be opened here.

    Raises:
        ClusterError: a node cannot do it; all that cannot are counted, and some named.
    """
    asked = {}
    for node in found:
        there = NodeAffinitySchedulingStrategy(node.identifier, soft=False)
        task = ray.remote(problem).options(num_cpus=0, max_retries=1, scheduling_strategy=there)
        asked[node] = task.remote(model, [os.fsencode(file) for file in files])
    ready, _ = ray.wait(list(asked.values()), num_returns=len(asked), timeout=_CHECK_S)
    problems = []
    for node, reference in asked.items():
        told = _asked(reference) if reference in ready else f"does not answer within {_CHECK_S:g} s"
        if told is not None:
            problems.append(f"{node.name}: {told}")
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise ClusterError(
            f"{len(problems)} of {len(found)} nodes cannot do the work: {'; '.join(problems[:_SHOWN])}{more}",
            hint="every node needs callus, Ray and Python in the same versions, and the model and the files under the"
            " same paths, in a shared folder",
        )


def problem(model: Model, files: Sequence[bytes]) -> str | None:
    """What keeps this machine from the work, in a line; None where nothing does. Runs on a node."""
    try:
        model.load(threads=1)
    except CallusError as error:
        return limited(str(error))
    unseen = [os.fsdecode(file) for file in files if not can_open(file)]
    if unseen:
        return limited(f"{len(unseen)} of {len(files)} files that were tried cannot be read there, as {unseen[0]}")
    return None


def can_open(file: str | bytes) -> bool:
    """Whether this machine sees a file, and may read it."""
    try:
        with open(file, "rb") as opened:  # noqa: PTH123 - paths may be bytes
            opened.read(1)
    except OSError:
        return False
    return True


def limited(text: str) -> str:
    """What another process tells, as one line that is not too long and holds only text."""
    return " ".join(text.encode("utf-8", "backslashreplace").decode().split())[:300]


def _asked(reference: Any) -> str | None:
    """A node's answer, or why there is none: mostly that it has no callus."""
    try:
        answer: str | None = ray.get(reference)
    except ray.exceptions.RayError as error:
        missing = "No module named 'callus" in str(error)
        return "callus is not installed there" if missing else f"fails: {last_line(error)}"
    except Exception as error:  # noqa: BLE001 - what could not be unpickled is raised as it is
        return f"fails: {last_line(error)}"
    return answer


def _check_answers(address: str) -> None:
    """Look whether something that may be Ray listens there."""
    host, _, port = address.rpartition(":")
    if not port.isdecimal() or not host or "/" in host:
        raise ClusterError(
            "is no address of a Ray cluster", where=address, hint="expected HOST:PORT of its head, or auto"
        )
    if os.environ.get("RAY_USE_TLS", "0") != "0":  # then it answers only to who shows a certificate
        return
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_S) as connection:
            connection.sendall(_GREETING)
            answer = connection.recv(_FRAME)
        if len(answer) <= _KIND or answer[_KIND] != _SETTINGS:
            raise ConnectionError("what listens there is no Ray")
    except (OSError, OverflowError) as error:
        reason = "it takes too long" if isinstance(error, TimeoutError) else getattr(error, "strerror", None) or error
        raise ClusterError(
            f"no Ray answers there: {reason}",
            where=address,
            hint="give the head's HOST:PORT, which `ray start --head` prints (port 6379 where none is given)",
        ) from error


def last_line(error: BaseException) -> str:
    """The last line that says something; Ray's messages end with the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return limited(lines[-1] if lines else repr(error))
