"""``unmask infill``."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from unmask.cli import options
from unmask.cli.grouped import GroupedCommand


@click.command("infill", cls=GroupedCommand)
@click.argument("template")
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
    model: str | None,
    device: str | None,
    cache: str,
    backend: str,
    **wishes: Any,
) -> None:
    """Write on the blanks of TEMPLATE ("-" reads standard input).

    [MASK] is a blank of one token, [MASK:5] of five, [MASK:3-8] of three to eight: the length is
    drawn by how well it explains the given text.
    """
    from unmask.cli.writing import write

    options.check_pictures(frames=wishes["frames"], gif=wishes["gif"], html=wishes["html"])
    template = options.read_text(template)
    writer = options.open_unmasker(model, device, backend, cache)
    writer.require_blank([template])
    write(writer, partial(writer.generate, template), **wishes)
