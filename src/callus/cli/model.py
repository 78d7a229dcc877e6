"""``callus model``: the models that come with callus."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from callus.labels import RESEARCH_ONLY

if TYPE_CHECKING:
    from callus.bundle import Bundle

ModelOption = Annotated[
    Path,
    typer.Option(
        "--model",
        "-m",
        readable=False,
        help="A bundle, a .callus file, a run folder, or a name that callus model list shows.",
    ),
]
DEFAULT: Final = Path("radiograph")
"""What --model is where it is not given: :data:`callus.bundle.DEFAULT_MODEL`, which costs an import to ask."""
_MEGABYTE: Final = 1_000_000

models = typer.Typer(no_args_is_help=True, help="The models that come with callus.")


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.add_typer(models, name="model")


@models.command("list")
def list_models(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
) -> None:
    """List the models that come with callus: what each is, what it was trained on, how good it was on validation.

    The first is taken where no --model is given. Any verb's --model takes a name from this list.

    \b
    Examples:
      callus model list
      callus model list --json
    """
    import json

    from callus.bundle import DEFAULT_MODEL, Bundle, shipped_models

    entries = [
        described(Bundle.load(file), file, default=name == DEFAULT_MODEL) for name, file in shipped_models().items()
    ]
    if as_json:
        typer.echo(json.dumps(entries, indent=2, ensure_ascii=False))
        return
    for entry in entries:
        default = " (taken where none is named)" if entry["default"] else ""
        typer.echo(f"{entry['name']}{default}: {entry['trunk']}, {entry['width']} x {entry['height']} pixels")
        typer.echo(
            f"  trained on {entry['files']:,} files of {entry['groups']:,} groups; began from {entry['weights']}"
        )
        for figure in entry["figures"]:
            typer.echo(f"  {figure['split']}, {figure['engine']}: AUROC {figure['auroc']:.3f} on {figure['n']:,} files")
        typer.echo(f"  {entry['megabytes']:.1f} MB, {', '.join(entry['engines'])}; licence {entry['licence']}")
    typer.echo(f"More: callus model show NAME. For {RESEARCH_ONLY}.")


@models.command("show")
def show(
    model: Annotated[Path, typer.Argument(readable=False, metavar="MODEL", help="A model as --model takes it.")],
) -> None:
    """Print a model's card: what it was trained on, how good it was, what it cannot do.

    \b
    Examples:
      callus model show radiograph
      callus model show runs/mine
    """
    from callus.bundle import Bundle
    from callus.errors import printable

    # A stranger's card may hold what a terminal would obey.
    typer.echo("\n".join(printable(line.expandtabs()) for line in Bundle.load(model).card.splitlines()))


def described(bundle: Bundle, file: Path, *, default: bool) -> dict[str, Any]:
    """What the list says of a model."""
    training, spec = bundle.info["training"], bundle.spec
    kept = ("split", "engine", "auroc", "n")
    return {
        "name": file.stem,
        "default": default,
        "trunk": training["trunk"],
        "weights": training["weights"].partition(", SHA-256")[0],
        "width": spec.width,
        "height": spec.height,
        "files": training["files"],
        "groups": training["groups"],
        "engines": list(bundle.engines),
        "figures": [{key: figure[key] for key in kept} for figure in bundle.info["figures"]],
        "licence": bundle.info["licence"],
        "megabytes": file.stat().st_size / _MEGABYTE,
    }
