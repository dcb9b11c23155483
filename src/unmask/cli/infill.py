"""``unmask infill``."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from unmask.cli import options, pictures
from unmask.cli.declared import declared
from unmask.cli.grouped import GroupedCommand
from unmask.errors import UserError
from unmask.pipelines.layout_options import LayoutOptions

BESIDE_TOP = ("template", "top", "model", "backend", "device", "as_json")


@click.command("infill", cls=GroupedCommand)
@click.argument("template", required=False)
@options.top
@options.model
@options.files
@declared(LayoutOptions, ["choose_length"])
@options.generating
@pictures.masks
@pictures.grid
def command(
    template: str | None,
    top: int | None,
    model: str | None,
    device: str | None,
    cache: str,
    backend: str,
    **values: Any,
) -> None:
    """Fill the blanks of TEMPLATE ("-" reads standard input).

    [MASK] is a blank of one token, [MASK:5] of five, [MASK:3-8] of three to eight: the length is
    drawn by how well it explains the given text.

    With --data, do so for every text of a file; one without a blank stays as it is.

    With a model of images TEMPLATE is an image file; see the options under Images.

    Instead, --top K prints the most likely tokens of every masked position.
    """
    from unmask.cli.rows import Files
    from unmask.cli.writing import write, write_file, write_top

    options.check_pictures(frames=values["frames"], gif=values["gif"], html=values["html"])
    if model is not None and options.is_of_images(model):
        pictures.infill(template, model, device, backend, cache, **values)
        return
    others = (*pictures.INFILLING[1:], "grid_file")
    pictures.refuse_for_text(**{name: values.pop(name) for name in others})
    if top is not None:
        options.refuse_beside("--top generates nothing", *BESIDE_TOP)
    files = Files.take(values, template, "TEMPLATE")
    if template is None and (files is None or files.data is None):
        raise UserError("there is no TEMPLATE; give one, or a file of them with --data")
    template = options.read_text(template or "")
    if files is not None:
        pipeline = options.open_unmasker(model, device, backend, cache)
        write_file(files, pipeline, template, pipeline.generate, "template", blanks=True, **values)
        return
    pipeline = options.open_unmasker(model, device, backend, cache)
    pipeline.require_blank([template])
    if top is not None:
        write_top(pipeline, template, top, values["as_json"])
        return
    write(pipeline, partial(pipeline.generate, template), **values)
