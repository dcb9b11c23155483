"""``unmask infill``."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from unmask.cli import options
from unmask.cli.grouped import GroupedCommand

BESIDE_TOP = ("template", "top", "model", "backend", "device", "as_json")


@click.command("infill", cls=GroupedCommand)
@click.argument("template")
@options.top
@options.model
@options.choose_length
@options.sampler
@options.steering
@options.output
@options.cache
@options.device
@options.backend
def command(
    template: str,
    top: int | None,
    model: str | None,
    device: str | None,
    cache: str,
    backend: str,
    **wishes: Any,
) -> None:
    """Write on the blanks of TEMPLATE ("-" reads standard input).

    [MASK] is a blank of one token, [MASK:5] of five, [MASK:3-8] of three to eight: the length is
    drawn by how well it explains the given text.

    Instead, --top K prints the likeliest tokens of every masked position with their probabilities.
    """
    from unmask.cli.writing import write, write_top

    if top is not None:
        options.refuse_beside("--top writes nothing", *BESIDE_TOP)
    options.check_pictures(frames=wishes["frames"], gif=wishes["gif"], html=wishes["html"])
    template = options.read_text(template)
    writer = options.open_unmasker(model, device, backend, cache)
    writer.require_blank([template])
    if top is not None:
        write_top(writer, template, top, wishes["as_json"])
        return
    write(writer, partial(writer.generate, template), **wishes)
