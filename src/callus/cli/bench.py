"""``callus bench``: how fast a model answers on the user's own machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from callus.cli.identify import EngineOption
from callus.cli.model import DEFAULT, ModelOption
from callus.labels import RESEARCH_ONLY

SIMULATED: Final = 12
"""Radiographs that are made where none are given."""
SIMULATED_SIZE: Final = (1280, 1024)
"""Height and width that their sizes vary about, pixels: between FracAtlas' 454 x 373 and a digital detector's 2,500."""
BUSY: Final = 0.25
"""Load for each core, before anything is measured, from which figures are worse than the machine."""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("bench")(bench)


def bench(
    *,
    model: ModelOption = DEFAULT,
    files: Annotated[
        Path | None,
        typer.Option(
            "--files", readable=False, metavar="DIR", help="Radiographs of your own; else some are simulated."
        ),
    ] = None,
    engine: EngineOption = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="Cores for the network; all where not given.")] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="For how long answers are asked for, in all.")] = 20.0,
    json_file: Annotated[
        Path | None, typer.Option("--json", readable=False, help="Write the figures to this JSON file.")
    ] = None,
) -> None:
    """Measure how fast a model answers on this machine, and where the time goes.

    One radiograph at a time with all cores, then many with the cores shared out; each in a process of its own, from a
    file's bytes to the finding with map and boxes. Prints a table. Of a folder at most 64 radiographs are used.
    Exit code: 0 measured; 1 a result could not be written; 2 wrong use: no such model, or no radiographs.

    \b
    Examples:
      callus bench
      callus bench --model runs/mine
      callus bench --model mine.callus --files radiographs/ --seconds 60 --json bench.json
      callus bench --model mine.callus --engine onnx-float32 --threads 2
    """
    import json
    import tempfile

    from callus.bundle import Bundle
    from callus.measure.run import measure

    Bundle.load(model)  # before anything takes long
    with tempfile.TemporaryDirectory(prefix="callus-bench-") as scratch:
        chosen = _simulated(Path(scratch) / "radiographs") if files is None else _found(files)
        told = measure(model, chosen, engine=engine, threads=threads, seconds=seconds, simulated=files is None)
    for line in table(told):
        typer.echo(line)
    for warning in warnings(told):
        typer.echo(f"warning: {warning}", err=True)
    if json_file is not None:
        from callus.atomic import whole_file

        with whole_file(json_file, "w") as out:
            json.dump(told, out, indent=2, ensure_ascii=False, allow_nan=False)
            out.write("\n")


def table(told: dict[str, Any]) -> list[str]:
    """The figures for people.

    Args:
        told: by :func:`callus.measure.run.measure`.
    """
    one, many, start = told["one"], told["many"], told["start"]
    cores_each = f"for each; decoding and preparing {many['decode_share']:.1%}"
    return [
        *_what_ran(told),
        "",
        _line("one radiograph, 50 %", f"{one['p50_ms']:.1f} ms", f"of {one['answers']} answers, bytes to finding"),
        _line("one radiograph, 99 %", f"{one['p99_ms']:.1f} ms", _rare(one["answers"])),
        _line("  decoding", f"{one['decode_ms']:.1f} ms"),
        _line("  preparing", f"{one['prepare_ms']:.1f} ms", f"with decoding {one['decode_share']:.1%} of all"),
        _line("  bare network", f"{one['network_ms']:.1f} ms"),
        _line("  map, features, boxes", f"{one['map_share']:.1%}", f"of the network; boxes {one['boxes_ms']:.2f} ms"),
        _line("  most memory", _memory(one["peak_memory_mib"])),
        "",
        _line("many radiographs", f"{many['images_a_second']:.2f} /s", f"{many['answers']}, {many['batch']} at once"),
        _line("  time of cores", f"{many['cpu_ms']:.1f} ms", cores_each),
        _line("  cores busy", f"{many['cores_busy']:.2f}"),
        _line("  most memory", _memory(many["peak_memory_mib"])),
        "",
        _line("start to first answer", f"{start['total_s']:.2f} s", _start(start)),
        "",
        f"For {RESEARCH_ONLY}.",
    ]


def warnings(told: dict[str, Any]) -> list[str]:
    """What makes the figures say less than they seem to."""
    found = []
    load, cores = told["machine"]["load_average"], told["machine"]["cores"]
    if load is not None and load > BUSY * cores:
        found.append(f"the machine was busy before (load {load:.1f} on {cores} cores): alone it is faster")
    if told["files"]["unreadable"]:
        found.append(f"{told['files']['unreadable']} files could not be read and were left out")
    return found


def _simulated(folder: Path) -> list[Path]:
    from callus.dataset.simulated import simulate

    return [Path(path) for path in simulate(folder, SIMULATED, size=SIMULATED_SIZE)["path"]]


def _found(folder: Path) -> list[Path]:
    """The radiographs of a folder; what cannot be walked or is none is the caller's to refuse."""
    from callus.archive.listing import gather
    from callus.errors import RadiographError

    inputs, failed = gather([folder])
    if not inputs:
        raise (
            failed[0][1]
            if failed
            else RadiographError("holds no radiographs", where=folder, hint="give a folder of image or DICOM files")
        )
    return [item.path for item in inputs]


def _what_ran(told: dict[str, Any]) -> list[str]:
    """Model, machine, versions and radiographs, a line each."""
    machine, model, files = told["machine"], told["model"], told["files"]
    kind = "simulated radiographs" if files["simulated"] else "radiographs"
    instructions = f" ({', '.join(machine['instructions'])})" if machine["instructions"] else ""
    threads = told["one"]["threads"]
    used = "" if threads == machine["cores"] else f", {threads} used"
    return [
        f"{model['name']}, {model['width']} x {model['height']}, {told['one']['engine']}",
        f"{machine['processor']}{instructions}, {machine['cores']} cores{used}; {machine['system']}",
        ", ".join(f"{name} {version}" for name, version in told["versions"].items()),
        f"{files['count']} {kind}, {files['median_megapixels']:.1f} megapixels in the middle",
    ]


def _rare(answers: int) -> str:
    return "" if answers >= 100 else "the slowest, nearly: fewer than 100 answers; more --seconds"  # noqa: PLR2004


def _start(start: dict[str, float]) -> str:
    parts = ("python", "imports", "load", "first answer")
    return ", ".join(f"{name} {start[name.replace(' ', '_') + '_s']:.2f}" for name in parts)


def _memory(mib: float | None) -> str:
    return "-" if mib is None else f"{mib:.0f} MiB"


def _line(name: str, value: str, note: str = "") -> str:
    return f"{name:<24}{value:>12}  {note}".rstrip()
