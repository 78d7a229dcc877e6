"""``callus train``: from radiographs to a run folder that ends with a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from callus.errors import CallusError

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("train")(train)


def train(
    *,
    data: Annotated[
        Path, typer.Option(readable=False, help="A folder of radiographs, or a manifest (Parquet or CSV).")
    ],
    recipe: Annotated[str, typer.Option(help="A recipe's file, or a name: callus, radiograph, seed, demo.")] = "callus",
    trunk: Annotated[
        str | None, typer.Option(help="Instead of the recipe's: resnet50v2, resnet101v2, resnet152v2, mobilenet_v2.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Instead of the recipe's: imagenet, none, or a file in Keras' layout.")
    ] = None,
    out: Annotated[Path, typer.Option(readable=False, help="The run folder to make.")],
    fold: Annotated[
        str | None, typer.Option(help="K/N: test on fold K of N; the rest is for training and validation.")
    ] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="Another value of the recipe, as section.key=value; repeatable.")
    ] = None,
    allow_leaks: Annotated[
        bool, typer.Option("--allow-leaks", help="Go on where groups cross the data's own split; every result says so.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run that --out holds.")] = False,
    devices: Annotated[int, typer.Option(min=1, help="Processes (CPU) or GPUs on each machine.")] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="Machines.")] = 1,
    accelerator: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    precision: Annotated[str, typer.Option(help="32-true, 64-true, bf16-mixed or 16-mixed.")] = "32-true",
    cache: Annotated[
        Path | None, typer.Option(readable=False, help="Where trunk features are kept.", show_default="your cache")
    ] = None,
    cache_limit: Annotated[str, typer.Option(help="How much disk trunk features may take.")] = "20GB",
    threads: Annotated[int, typer.Option(min=0, help="Threads that read pictures; 0: one a core.")] = 0,
) -> None:
    """Train a network; the run folder ends with a bundle that the other verbs take.

    The data are split by group (radiograph, study, patient), never by file. A split that they bring is kept, and
    refused where a group crosses it. A stopped run goes on with --resume and ends with the same weights.

    \b
    Examples:
      callus train --data radiographs/ --out runs/mine
      callus train --data manifest.parquet --recipe seed --out runs/original
      callus train --data radiographs/ --trunk mobilenet_v2 --weights weights.h5 --out runs/small
      callus train --data radiographs/ --set tuning.epochs=0 --fold 1/5 --out runs/fold1
      callus train --data radiographs/ --out runs/mine --resume
    """
    from callus.training import Options
    from callus.training import train as run

    if not data.exists():
        raise CallusInputError("there is no such folder or manifest", where=data)
    options = Options(
        devices=devices,
        nodes=nodes,
        accelerator=accelerator,
        precision=precision,
        cache=cache,
        cache_limit=_bytes(cache_limit),
        threads=threads,
    )
    run(
        data,
        recipe,
        out,
        trunk=trunk,
        weights=weights,
        overrides=dict(_change(text) for text in change or []),
        fold=_fold(fold),
        allow_leaks=allow_leaks,
        resume=resume,
        options=options,
        say=typer.echo,
    )


class CallusInputError(CallusError):
    """An option's value does not fit."""


def _bytes(text: str) -> int:
    number = text.strip().upper().rstrip("KMGTB")
    unit = text.strip().upper()[len(number) :]
    try:
        return int(float(number) * _UNITS[unit])
    except (ValueError, KeyError):
        raise CallusInputError(f"--cache-limit is {text!r}; expected a size such as 20GB or 500MB") from None


def _fold(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    first, _, second = text.partition("/")
    if first.isdigit() and second.isdigit() and 1 <= int(first) <= int(second) and int(second) > 2:  # noqa: PLR2004
        return int(first), int(second)
    raise CallusInputError(f"--fold is {text!r}; expected K/N with N at least 3, such as 1/5")


def _change(text: str) -> tuple[str, Any]:
    """``section.key=value``, the value as TOML has it; a bare word is a text."""
    import tomllib

    name, sign, value = text.partition("=")
    if not sign:
        raise CallusInputError(f"--set is {text!r}; expected section.key=value")
    try:
        return name.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name.strip(), value.strip()
