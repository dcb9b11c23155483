"""``unmask export``."""

from __future__ import annotations

from pathlib import Path

import click

from unmask.cli import options, printing
from unmask.cli.declared import Choice
from unmask.cli.grouped import Command


@click.command("export", cls=Command)
@options.model
@click.option("--out", type=options.PLACE, required=True, help="Folder for the copy.")
@click.option(
    "--weights",
    type=Choice(("float32", "int8")),
    default="float32",
    show_default=True,
    help="Weights of the exported network; int8 is smaller, faster and less exact.",
)
@click.option("--overwrite", is_flag=True, help="Replace the model in --out.")
def command(model: str | None, out: Path, weights: str, overwrite: bool) -> None:
    """Copy a model with its network exported for OpenVINO, a faster runtime for CPUs.

    The copy is an ordinary model folder; other commands take its exported network by themselves.
    """
    options.quiet_libraries()
    from unmask.models import checkpoint
    from unmask.models.runtimes import openvino, openvino_export

    options.check_of_texts(model)
    # What can be known at once costs no waiting for the model.
    openvino_export.PRECISION("weights", weights)
    checkpoint.claim(out, overwrite)
    openvino.runtime()
    options.open_unmasker(model, "cpu", "torch").export(out, weights=weights, overwrite=overwrite)
    size = sum((out / name).stat().st_size for name in checkpoint.EXPORTED) / 2**20
    printing.say(options.console(), f"saved {out} · exported in {weights}, {size:.1f} MiB")
