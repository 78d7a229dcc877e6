"""``callus data``: from folders to manifests, splits that do not leak, and public data sets."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from callus.errors import DatasetError, printable
from callus.labels import FRACTURED, NOT_FRACTURED

if TYPE_CHECKING:
    import pandas as pd

    from callus.dataset.fetch import PublicSet

_MOST_NOTES = 8
_AUDIT_FILES = ("manifest.parquet", "audit.json", "audit.html")


def register(app: typer.Typer) -> None:
    """Add ``data`` with its verbs."""
    data = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Make, split and fetch data sets.")
    data.command("manifest")(manifest)
    data.command("audit")(audit)
    data.command("split")(split)
    data.command("clean")(clean)
    data.command("compact")(compact)
    data.command("fetch")(fetch)
    data.command("from-verdicts")(from_verdicts)
    app.add_typer(data, name="data")


def manifest(
    path: Annotated[Path, typer.Argument(readable=False, metavar="PATH", help="A folder with radiographs.")],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", readable=False, help="The manifest to write: .parquet or .csv.")],
    source: Annotated[
        str,
        typer.Option(
            help="What the folder is: auto, fracatlas, grazpedwri, mura, coco, voc, yolo, table, folder or unlabelled."
        ),
    ] = "auto",
    labels: Annotated[
        Path | None,
        typer.Option(readable=False, help="A CSV with a column of files (path, file, image...) and one of labels."),
    ] = None,
    positive: Annotated[
        list[str] | None, typer.Option(help="A class (folder, box or cell) that means fractured. May be repeated.")
    ] = None,
    negative: Annotated[
        list[str] | None, typer.Option(help="A class that means not fractured. May be repeated.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Take files that end early or have other faults as unreadable.")
    ] = False,
) -> None:
    """Look at every file of a folder once, and write what it shows to one table.

    Prints what was found. A file that cannot be read is a row that says why; it never stops the rest. Exit code: 0
    written; 1 it could not be written; 2 there is nothing to make a manifest of, or the labels are not understood.

    \b
    Examples:
      callus data manifest radiographs/ --out manifest.parquet
      callus data manifest scans/ --labels scans.csv --out manifest.csv
      callus data manifest bones/ --positive cracked --negative fine --out manifest.parquet
    """
    from callus.dataset import build_manifest, write_manifest

    _check_name(out)
    frame = build_manifest(path, source, labels, positive=positive or (), negative=negative or (), strict=strict)
    write_manifest(frame, out)
    _print_summary(frame)
    _say(f"wrote {out}")


def audit(
    path: Annotated[
        Path, typer.Argument(readable=False, metavar="PATH", help="A folder with radiographs, or a manifest.")
    ],
    *,
    out: Annotated[
        Path, typer.Option("--out", "-o", readable=False, help="The folder for the manifest and the report.")
    ],
    source: Annotated[str, typer.Option(help="What the folder is, as for data manifest.")] = "auto",
    labels: Annotated[Path | None, typer.Option(readable=False, help="A CSV of labels, as for data manifest.")] = None,
    positive: Annotated[
        list[str] | None, typer.Option(help="A class that means fractured, as for data manifest. May be repeated.")
    ] = None,
    negative: Annotated[
        list[str] | None, typer.Option(help="A class that means not fractured. May be repeated.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Cores to use; all where not given.")] = None,
) -> None:
    """Find which files show the same radiograph, what leaks between splits, and which labels contradict each other.

    Copies are found by their pixels: re-encoded, resized, squashed, cropped a little, relit, inverted, mirrored, turned
    by any angle, and chains of these. Pictures whose label is not understood are taken without one. Writes
    manifest.parquet (radiograph and group given anew), audit.json and audit.html to --out. A search that was stopped
    goes on with the same command. Exit code: 0 written; 1 it could not be written; 2 there is nothing to audit.

    \b
    Examples:
      callus data audit radiographs/ --out audit
      callus data audit manifest.parquet --out audit
      callus data split audit/manifest.parquet --out split.parquet
    """
    import json

    from callus.atomic import check_place, whole_file, whole_set
    from callus.dataset import load, write_manifest
    from callus.dataset.audit import audit as look
    from callus.dataset.shelf import Shelf
    from callus.report.audit_page import audit_page, summary

    check_place(out, _AUDIT_FILES)
    frame = load(path, source, labels, threads, positive=positive or (), negative=negative or (), take_all=True)
    with Shelf() as shelf:
        result = look(frame, shelf, threads, path if path.is_dir() else None)
    numbers = result.as_dict()
    page = audit_page(result, path.name or str(path.absolute().name))
    with whole_set(out, _AUDIT_FILES) as places:
        write_manifest(result.frame, places["manifest.parquet"])
        with whole_file(places["audit.json"], "w") as file:
            json.dump(numbers, file, indent=1)
            file.write("\n")
        with whole_file(places["audit.html"], "w") as file:
            file.write(page)
    for line in (*summary(numbers), *numbers["remarks"]):
        _say(line)
    for probed in (result.shortcuts, result.nameless):
        if probed is not None:
            _say(("" if probed is result.shortcuts else "without the files' numbers: ") + probed.sentence())
    _say(f"report: {out / 'audit.html'}")
    _say(f"next: callus data split {out / 'manifest.parquet'} --out {out / 'split.parquet'}")


def split(
    path: Annotated[
        Path, typer.Argument(readable=False, metavar="MANIFEST", help="A manifest, or a folder to make one of.")
    ],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", readable=False, help="The manifest to write: .parquet or .csv.")],
    folds: Annotated[
        int | None, typer.Option(min=2, help="Make this many folds of equal size, called fold0, fold1...")
    ] = None,
    test: Annotated[float | None, typer.Option(help="The fraction of files to test on (0.2 where not given).")] = None,
    val: Annotated[float | None, typer.Option(help="The fraction of files to tune on (0.1 where not given).")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed gives another split.")] = 0,
) -> None:
    """Split a manifest so that no patient, study or radiograph stands in two parts, with like shares of fractures.

    Files without a label, files that cannot be read, and files of a radiograph that has both labels are in no part;
    says how many, and the first few. The split that the manifest has is replaced.

    \b
    Examples:
      callus data split audit/manifest.parquet --out split.parquet
      callus data split audit/manifest.parquet --test 0.15 --val 0.15 --seed 7 --out split.parquet
      callus data split audit/manifest.parquet --folds 5 --out folds.parquet
    """
    from callus.dataset import load, write_manifest
    from callus.dataset import split as splitting

    _check_name(out)
    if folds is not None and (test is not None or val is not None):
        raise DatasetError("--folds makes folds, --test and --val make parts", hint="give the one or the others")
    frame = load(path)
    if folds is not None:
        given = splitting.folds(frame, folds, seed)
    else:
        given = splitting.split(frame, test=0.2 if test is None else test, val=0.1 if val is None else val, seed=seed)
    write_manifest(given, out)
    _print_parts(given)
    _tell_of_copies(frame)
    _say(f"wrote {out}")


def clean(
    path: Annotated[
        Path, typer.Argument(readable=False, metavar="MANIFEST", help="A manifest, or a folder to make one of.")
    ],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", readable=False, help="The manifest to write: .parquet or .csv.")],
) -> None:
    """Write a manifest with one file a radiograph, without label conflicts and files that cannot be read.

    Of the copies of a radiograph the best one is kept: the largest, then one that is not rotated, then one with fewer
    notes. Every view stays. Files of a radiograph that has both labels are all left out. Splits stay as they are; no
    picture is touched or moved. Says what was left out.

    \b
    Examples:
      callus data clean manifest.parquet --out clean.parquet
      callus data clean radiographs/ --out clean.csv
    """
    from callus.dataset import load, write_manifest
    from callus.dataset.clean import clean as clean_up

    _check_name(out)
    if os.path.realpath(out) == os.path.realpath(path):  # unlike Path.resolve it takes any path, link loops too
        raise DatasetError("is the manifest itself, which is not written over", where=out, hint="name another --out")
    frame = load(path)
    given, left = clean_up(frame)
    write_manifest(given, out)
    _say(f"{'files':15} {len(frame):,}")
    _say(f"{'kept':15} {len(given):,}")
    for line in left.lines():
        _say(f"left out: {line}")
    _tell_of_copies(frame)
    _say(f"wrote {out}")


def compact(
    path: Annotated[
        Path, typer.Argument(readable=False, metavar="MANIFEST", help="A manifest, or a folder to make one of.")
    ],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", readable=False, help="The folder to write, new or empty.")],
    side: Annotated[int, typer.Option(help="The longest side of a picture, in pixels.")] = 512,
    most: Annotated[float, typer.Option(metavar="MB", help="What all pictures together may have.")] = 50.0,
) -> None:
    """Write a compact copy of a data set, which travels: small grey pictures, with their manifest.

    Pictures become WebP in 8 bits; boxes and polygons shrink with them; groups, splits and labels stay. The quality is
    the highest at which all of them stay under --most. Files that cannot be read or have no label are left out; the
    original files stay as they are. The data set's licence holds for the copy too.

    \b
    Examples:
      callus data compact audit/manifest.parquet --out small
      callus data compact radiographs/ --out small --side 448 --most 20
    """
    from callus.dataset import load
    from callus.dataset.compact import compact as write_copy
    from callus.dataset.manifest import few

    made = write_copy(load(path), out, side=side, most=round(most * 1e6))
    if made.left_out:
        _say(f"left out: {len(made.left_out):,} files without a label or that cannot be read: {few(made.left_out)}")
    _say(f"{len(made.manifest):,} pictures, {made.size / 1e6:.1f} MB, WebP of quality {made.quality}")
    _say(f"wrote {out / 'manifest.parquet'}")


def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="fracatlas, grazpedwri, bonedata or mura.")],
    *,
    out: Annotated[
        Path, typer.Option("--out", "-o", readable=False, help="The folder that gets it, as a folder of its name.")
    ],
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Accept the licence without being asked.")
    ] = False,
) -> None:
    """Fetch a public data set; a download that was stopped goes on where it was.

    Shows the licence first, which has to be accepted. MURA may not be passed on: says where to ask for it. A mirror's
    address may stand in the variable CALLUS_FETCH_BASE.

    \b
    Examples:
      callus data fetch fracatlas --out datasets
      callus data fetch grazpedwri --out datasets --accept-licence
    """
    from callus.dataset.fetch import fetch as fetch_set

    def accept(public: PublicSet) -> bool:
        typer.echo(public.text(), err=True, nl=False)
        if accept_licence:
            return True
        return sys.stdin.isatty() and typer.confirm("Do you accept this licence?", err=True)

    folder = fetch_set(name, out, accept=accept)
    _say(f"{folder} is there; next: callus data manifest {folder} --out {name}.parquet")


def from_verdicts(
    data: Annotated[Path, typer.Argument(readable=False, metavar="DATA", help="The folder of a callus serve.")],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", readable=False, help="The manifest to write: .parquet or .csv.")],
    database: Annotated[
        str, typer.Option("--database", help="URL of its database; SQLite in the folder where not given.")
    ] = "",
) -> None:
    """Make a manifest of what readers said in the service's page, for the next training. It may run meanwhile.

    A row for each image that somebody judged, with the boxes that were drawn; each reader's last verdict counts. Where
    readers disagree there is no label and the note says so. Patients and studies are named by hashes; comments stay in
    the service.

    Exit code: 0 written; 1 it could not be written; 2 there is no such service, or no verdict yet.

    \b
    Examples:
      callus data from-verdicts clinic --out verdicts.parquet
    """
    from callus.dataset import write_manifest
    from callus.service.objects import ObjectStore
    from callus.service.pairing import open_pair
    from callus.service.verdicts import verdict_manifest

    _check_name(out)
    if not (data / "objects").is_dir():
        raise DatasetError("holds no callus serve", where=data, hint="give the folder that --data named")
    opened = open_pair(data, database)
    try:
        with opened.reading() as session:
            frame = verdict_manifest(session, ObjectStore(data / "objects", keep_free=0))
    finally:
        opened.close()
    write_manifest(frame, out)
    _print_summary(frame)
    _say(f"wrote {out}")


def _say(line: str) -> None:
    """Print a line; names in it may hold anything."""
    typer.echo(printable(line))


def _tell_of_copies(frame: pd.DataFrame) -> None:
    """Say of what was not audited what an audit would have found in it."""
    from callus.dataset import UNSEEN_COPIES

    if frame.attrs.get("audited") is False:
        _say(f"note: {UNSEEN_COPIES}")


def _check_name(out: Path) -> None:
    """Refuse a name that no manifest can have before the work, not after it."""
    if out.suffix.lower() not in (".parquet", ".csv"):
        raise DatasetError("a manifest's name ends in .parquet or .csv", where=out, hint="name it so")


def _print_summary(frame: pd.DataFrame) -> None:
    from callus.dataset import readable

    is_readable = readable(frame)
    lines = {
        "files": len(frame),
        "unreadable": int((~is_readable).sum()),
        "radiographs": frame.loc[frame["radiograph"] != "", "radiograph"].nunique(),
        "groups": frame["group"].nunique(),
        "fractured": int((frame["label"] == FRACTURED).sum()),
        "not fractured": int((frame["label"] == NOT_FRACTURED).sum()),
        "without label": int(frame["label"].isna().sum()),
        "boxes": int(frame["boxes"].map(len).sum()),
    }
    _say(f"source          {frame['source'].iloc[0]}")
    for what, count in lines.items():
        _say(f"{what:15} {count:,}")
    _print_notes(frame)
    for remark in frame.attrs.get("remarks", []):
        _say(f"remark: {remark}")


def _print_notes(frame: pd.DataFrame) -> None:
    """Print how often each kind of note is there, with the first file; what follows a colon is the single file's."""
    noted = frame.loc[frame["note"] != "", ["path", "note"]].copy()
    noted["kind"] = noted["note"].str.replace(r"\d+", "N", regex=True).str.slice(0, 90)
    kinds = noted.groupby("kind").agg(files=("path", "size"), first=("path", "first"), note=("note", "first"))
    kinds = kinds.sort_values("files", ascending=False, kind="stable")
    for line in kinds.head(_MOST_NOTES).itertuples():
        more = "" if line.files == 1 else f" and {int(str(line.files)) - 1:,} more like it"
        _say(f"note: {Path(str(line.first)).name}{more}: {line.note}")
    if len(kinds) > _MOST_NOTES:
        rest = int(kinds["files"].iloc[_MOST_NOTES:].sum())
        _say(f"note: {rest:,} other files have notes: see the manifest's column note")


def _print_parts(frame: pd.DataFrame) -> None:
    from callus.dataset import group_keys
    from callus.dataset.clean import set_aside

    table = frame.assign(group=group_keys(frame))
    parted = table[table["split"] != ""].groupby("split")
    _say(f"{'part':8} {'files':>8} {'groups':>8} {'fractured':>10}")
    for part, rows in parted:
        positive = int((rows["label"] == FRACTURED).sum())
        share = f"{positive:,} ({positive / len(rows):.0%})"
        _say(f"{part!s:8} {len(rows):8,} {rows['group'].nunique():8,} {share:>10}")
    left = int((table["split"] == "").sum())
    if left:
        _say(f"{left:,} files are in no part:")
        for line in set_aside(frame):
            _say(f"  {line}")
