"""The stream on a Ray cluster: nodes answer blocks of files by Ray Data, and one place, here, writes the parts.

Each file has a number. Rows come back with theirs, a number that was written is not written again, and what never came
back (its node died) is given out anew. So a file has one row, whatever Ray does a second time.
"""

from __future__ import annotations

import logging
import os
import platform
import threading
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext

from callus.archive.cluster import ClusterError, Model, can_open, check_nodes, last_line, limited, nodes
from callus.archive.parts import SCHEMA, file_key, path_text
from callus.archive.stream import answered_batches
from callus.errors import CallusError
from callus.progress import progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from callus.archive.parts import Parts

BLOCK: Final = 128
"""Files that a node gets at once: what it takes to be given out anew when the node dies."""
_BLOCKS_EACH: Final = 4
"""Blocks that each actor should get at least, so that all end at about the same time."""
_TRIED: Final = 24
"""Files that each node must be able to open before it is given any."""
_ROUNDS: Final = 3
"""Times in a row that nothing may come back: a node that dies takes a moment to be missed."""
_HERE: Final = ("path", "model", "bundle", "callus", "research_only")
_ROWS: Final = pa.schema(
    [("number", pa.int64()), ("unseen", pa.bool_()), ("node", pa.string()), ("trouble", pa.string())]
    + [pa.field(field.name, field.type) for field in SCHEMA if field.name not in _HERE]
)
"""What a node gives back of each file; ``trouble`` is what keeps it from answering any."""


class Answerer:
    """A model on a node, with processes that read files beside it: the local stream, over and over."""

    def __init__(self, model: Model, threads: int, workers: int, *, strict: bool) -> None:
        self._trouble: str | None = None
        self._turn = threading.Lock()
        self._workers = workers
        self._strict = strict
        try:
            self._identifier = model.load(threads)
        except CallusError as error:  # a node that came later, say
            self._trouble = limited(str(error))

    def __call__(self, block: pa.Table) -> pa.Table:
        """Answer one block: ``number`` and ``file`` to :data:`_ROWS`. Two threads of Ray may do so at once."""
        try:
            rows = [] if self._trouble else self._answers(block)
        except CallusError as error:
            self._trouble, rows = limited(str(error)), []
        if self._trouble is not None:
            rows = [{"trouble": self._trouble}]
        node = f"{platform.node()} ({ray.util.get_node_ip_address()})"  # type: ignore[no-untyped-call]
        return pa.Table.from_pylist([row | {"node": node} for row in rows], schema=_ROWS)

    def _answers(self, block: pa.Table) -> list[dict[str, Any]]:
        files = [os.fsdecode(file) for file in block["file"].to_pylist()]
        batches = answered_batches(self._identifier, files, self._workers, strict=self._strict, turn=self._turn)
        answers = [answer for batch in batches for answer in batch]
        return [
            row | {"number": number, "sha256": sha256, "unseen": row["error"] is not None and not can_open(file)}
            for number, file, (row, sha256) in zip(block["number"].to_pylist(), files, answers, strict=True)
        ]


def answer_on_ray(
    model: Model,
    files: list[str],
    parts: Parts,
    *,
    threads: int | None = None,
    workers: int | None = None,
    strict: bool = False,
) -> int:
    """Answer files into a folder of parts as :func:`callus.archive.stream.answer_files` does, on a cluster's nodes.

    Call it within :func:`callus.archive.cluster.cluster`. Rows are in the order in which they come.

    Args:
        model: what answers.
        files: their paths, each once; those that the parts hold already are left out.
        parts: by :func:`callus.archive.parts.open_parts`.
        threads: CPUs of each actor, for its network; None for as many as the smallest node has.
        workers: processes of each actor that read and prepare; None for ``threads``.
        strict: refuse files that are damaged but could be read in part.

    Returns:
        How many files were given out a second time because a node that had them was lost.

    Raises:
        ClusterError: a node cannot load the model or read the files.
        CallusError: a part cannot be written, or nodes fail without answering anything.
    """
    todo = [file for file in files if file_key(file) not in parts.answered]
    if not todo:
        return 0
    absolute = [os.path.abspath(file) for file in todo]  # noqa: PTH100 - on 100,000 files
    found = nodes()
    threads = threads or min((node.cpus for node in found), default=0)
    actors = sum(node.cpus // threads for node in found) if threads else 0
    if not actors:
        told = ", ".join(f"{node.name} {node.cpus}" for node in found) or "none"
        raise ClusterError(f"no node has {threads or 1} CPUs; the nodes with CPUs: {told}"[:300], hint="see --threads")
    check_nodes(found, model, [file for file in absolute[:: len(absolute) // _TRIED + 1] if can_open(file)])
    actor = {"model": model, "threads": threads, "workers": workers or threads, "strict": strict}
    waiting = dict(enumerate(absolute))
    again = fruitless = 0
    with progress("identifying", len(todo)) as advance, _quiet():
        while waiting:
            before = len(waiting)
            reason = "Ray's logs tell more"
            for row in _rows(waiting, actor, actors):
                if isinstance(row, Exception):  # what had been answered on a lost node may be lost with it
                    reason = last_line(row)
                    continue
                if waiting.pop(row["number"], None) is not None:  # else it was written before
                    parts.add(row | {"path": path_text(todo[row["number"]])}, row["sha256"])
                    advance(1, note=f"{parts.failures} failed" if parts.failures else "")
            fruitless = fruitless + 1 if len(waiting) == before else 0
            if fruitless == _ROUNDS:
                raise CallusError(
                    f"{before} files were given out {_ROUNDS} times in a row, and none came back: {reason}",
                    hint="is there memory left on the nodes? Then go on by --resume",
                )
            again += len(waiting)
    return again


def _rows(waiting: dict[int, str], actor: dict[str, Any], actors: int) -> Iterator[dict[str, Any] | Exception]:
    """Give every file out once.

    Yields:
        The rows that come back, as dictionaries of :data:`_ROWS`; at the end what ended it early, if anything did.
    """
    size = max(1, min(BLOCK, len(waiting) // (_BLOCKS_EACH * actors)))
    numbers = list(waiting)
    blocks = [
        pa.table({"number": some, "file": pa.array([os.fsencode(waiting[number]) for number in some], pa.binary())})
        for some in (numbers[first : first + size] for first in range(0, len(numbers), size))
    ]
    pool = ActorPoolStrategy(
        min_size=1,
        initial_size=min(actors, len(blocks)),
        max_size=min(actors, len(blocks)),
        max_concurrent_calls_per_actor=2,  # while the last files of one block are answered, the next one's are read
        enable_true_multi_threading=True,
    )
    # An actor of a lost node is not started again, for there may be no CPUs left for it and its files would wait for
    # ever; they are missing at the end, and are given out again.
    answers = ray.data.from_arrow(blocks).map_batches(
        Answerer,
        fn_constructor_kwargs=actor,
        batch_size=None,
        batch_format="pyarrow",
        compute=pool,
        num_cpus=actor["threads"],
        max_restarts=0,
    )
    try:
        for batch in answers.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            table: Any = batch  # of pyarrow, by the format
            for row in table.to_pylist():
                _check(row, waiting)
                yield row
    except CallusError:
        raise
    except Exception as error:  # noqa: BLE001 - Ray's errors share no base class
        yield error


def _check(row: dict[str, Any], waiting: dict[int, str]) -> None:
    """Believe no node that says a file cannot be read where it can be read here."""
    if row["trouble"] is not None:
        raise CallusError(f"node {row['node']} cannot go on: {row['trouble']}", hint="then go on by --resume")
    file = waiting.get(row["number"])
    if row["unseen"] and file is not None and can_open(file):
        raise CallusError(
            f"cannot be read on node {row['node']}, but here",
            where=file,
            hint="every node must see the files under the same paths; mount the folder there, then go on by --resume",
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Let Ray Data work without bars, logs and warnings of its own, and go on where a node is lost."""
    context = DataContext.get_current()
    changed = {
        "enable_progress_bars": False,
        "print_on_execution_start": False,
        "max_errored_blocks": -1,  # all may fail: they are given out again
    }
    before = {name: getattr(context, name) for name in changed}
    logger = logging.getLogger("ray.data")
    level = logger.level
    try:
        for name, value in changed.items():
            setattr(context, name, value)
        logger.setLevel(logging.CRITICAL + 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            setattr(context, name, value)
