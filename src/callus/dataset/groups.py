"""Groups: what must never cross a split, as the connected components of everything that joins two files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from callus.dataset.manifest import readable
from callus.dataset.sources.names import is_nobody

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt


def components(keys: Mapping[str, pd.Series[str]], count: int) -> npt.NDArray[np.int32]:
    """Number the components of ``count`` rows that share a key; an empty key joins nothing.

    Args:
        keys: for each kind of key one series of ``count`` strings; equal strings of one kind join their rows.
        count: how many rows.

    Returns:
        (count,) int32, the component of each row, numbered from 0.
    """
    rows: list[npt.NDArray[Any]] = []
    nodes: list[npt.NDArray[Any]] = []
    first = count  # a row is a node, and so is each different key
    for values in keys.values():
        codes, names = pd.factorize(values.where(values != ""), use_na_sentinel=True)
        known = np.flatnonzero(codes >= 0)
        rows.append(known)
        nodes.append(codes[known] + first)
        first += len(names)
    row = np.concatenate(rows) if rows else np.empty(0, np.int64)
    node = np.concatenate(nodes) if nodes else np.empty(0, np.int64)
    graph = coo_array((np.ones(len(row), np.int8), (row, node)), shape=(first, first))
    labels: npt.NDArray[np.int32] = connected_components(graph, directed=False)[1][:count]
    return np.unique(labels, return_inverse=True)[1].astype(np.int32)


def name_groups(frame: pd.DataFrame, blocks: pd.Series[str]) -> pd.Series[str]:
    """Give each row its group: the union of radiograph, study, patient and the source's block.

    A group is named by the first in the alphabet of its patients, else of its blocks, its studies, its radiographs or
    its files: the name does not depend on the order of the rows.

    Args:
        frame: has ``radiograph``, ``study``, ``patient`` and ``path``.
        blocks: a name for what the source knows to belong together; empty where nothing.
    """
    keys = {
        "patient": frame["patient"],
        "block": blocks.set_axis(frame.index),
        "study": frame["study"],
        "radiograph": frame["radiograph"],
    }
    return _named(keys, frame["path"])


def join_groups(frame: pd.DataFrame) -> pd.DataFrame:
    """Give a copy whose ``group`` also joins what radiograph, study, patient and equal bytes hold together.

    Studies and patients that are called "unknown" or the like are nobody's: they are emptied, and join nothing.

    A manifest of one's own may have its groups missing or wrong; audit, split, training and evaluation all go by these.
    Studies and patients are joined within their source: another may number its own alike. Equal bytes that are no
    picture (empty files) join nothing. A file joins others even where it is used for nothing itself.

    A group is named by the first in the alphabet of the groups that it joins; where none of its files has one, as
    :func:`name_groups` does.

    Args:
        frame: a manifest.
    """
    frame = frame.assign(**{name: _without_nobody(frame[name]) for name in ("study", "patient")})
    several = len(frame["source"].unique()) > 1
    owner = frame["source"] + "/" if several else pd.Series("", index=frame.index, dtype="str")
    keys = {
        "group": frame["group"],
        "patient": (owner + frame["patient"]).where(frame["patient"] != "", ""),
        "study": (owner + frame["study"]).where(frame["study"] != "", ""),
        "radiograph": frame["radiograph"],
        "bytes": frame["sha256"].where(readable(frame), ""),
    }
    return frame.assign(group=_named(keys, frame["path"]))


def _without_nobody(names: pd.Series[str]) -> pd.Series[str]:
    return names.mask(names.isin([name for name in names.unique() if is_nobody(name)]), "")


def _named(keys: Mapping[str, pd.Series[str]], paths: pd.Series[str]) -> pd.Series[str]:
    """Name each row's component by the first in the alphabet of its first kind of key, else by its file."""
    component = pd.Series(components(keys, len(paths)), index=paths.index)
    name = pd.Series("", index=paths.index, dtype="str")
    for kind, values in {**keys, "file": paths}.items():
        first = values.where(values != "").groupby(component).transform("min")
        told = "" if kind == "group" else f"{kind}:"  # a group that the manifest has keeps its name
        name = name.mask((name == "") & first.notna(), told + first.fillna(""))
    return name.astype("str")


def name_radiographs(families: pd.Series[str], sha256: pd.Series[str], is_readable: pd.Series[bool]) -> pd.Series[str]:
    """Give each row the radiograph that its file shows, as far as names and bytes tell.

    Files of one family (the stem before ``-rotated``) and files of equal bytes show the same one. It is named by its
    first family in the alphabet, else by its SHA-256. A file that cannot be read and has no family has none.
    """
    bytes_key = sha256.where(is_readable, "")
    component = pd.Series(components({"family": families, "sha256": bytes_key}, len(families)), index=families.index)
    family = families.where(families != "").groupby(component).transform("min")
    return family.where(family.notna(), bytes_key).astype("str")
