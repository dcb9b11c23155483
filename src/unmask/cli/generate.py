"""``unmask generate``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from unmask.cli import options, pictures
from unmask.cli.declared import declared
from unmask.cli.grouped import GroupedCommand
from unmask.pipelines.layout_options import LayoutOptions, PairOptions
from unmask.validation import exclude, require

if TYPE_CHECKING:
    from unmask.cli.rows import Files
    from unmask.pipelines.unmasker import Unmasker

ALONE = ("length", "window", "stride", "stop_at_end", "choose_length")
"""Options that do not go with a source."""


@click.command("generate", cls=GroupedCommand)
@click.argument("prompt", required=False)
@options.model
@options.files
@declared(LayoutOptions, ALONE)
@click.option("--source", help='Generate the target for this text ("-" reads standard input).')
@declared(PairOptions, ["candidates"])
@options.generating
@pictures.grid
def command(
    prompt: str | None,
    source: str | None,
    candidates: int,
    model: str | None,
    device: str | None,
    cache: str,
    backend: str,
    **values: Any,
) -> None:
    """Continue PROMPT ("-" reads standard input), or fill the [MASK:n] blanks that it holds.

    With --data, do so for every text of a file; each has the same seed.

    With --source, which is for models that were trained on pairs, generate the target for it.

    A model of images generates images: --grid draws them on one sheet, --out is a folder for them,
    --label names their class.
    """
    from unmask.cli.rows import Files
    from unmask.cli.writing import write

    options.check_pictures(frames=values["frames"], gif=values["gif"], html=values["html"])
    if model is not None and options.is_of_images(model):
        pictures.generate(model, device, backend, cache, **values)
        return
    pictures.refuse_for_text(grid_file=values.pop("grid_file"))
    files = Files.take(values, prompt, "PROMPT")
    if files is not None:
        require(("--source", source is None, "neither --data nor --out; name them with --data"))
        pipeline = options.open_unmasker(model, device, backend, cache)
        _write_file(files, pipeline, prompt, candidates, values)
        return
    if source is None:
        chosen = options.is_given("candidates")
        require(("--candidates", not chosen, "--source; for a prompt use --num-samples"))
        pipeline = options.open_unmasker(model, device, backend, cache)
        write(pipeline, partial(pipeline.generate, options.read_text(prompt or "")), **values)
        return
    _check_alone(values, prompt)
    # What a pipe ends with is no part of the text.
    text = options.read_text(source).rstrip("\r\n") if source == "-" else source
    pipeline = options.open_unmasker(model, device, backend, cache)
    work = partial(pipeline.transform, text, candidates=candidates)
    write(pipeline, work, **values)


def _write_file(
    files: Files,
    pipeline: Unmasker,
    prompt: str | None,
    candidates: int,
    values: dict[str, Any],
) -> None:
    """Continue every text of a file; a model that was trained on pairs generates its target."""
    from unmask.cli.writing import write_file

    if files.data is None or not pipeline.card.pairs:
        pairs = "models that were trained on pairs, and --data or --source"
        require(("--candidates", not options.is_given("candidates"), pairs))
        text = options.read_text(prompt or "")
        write_file(files, pipeline, text, pipeline.generate, "prompt", **values)
        return
    _check_alone(values)
    values["candidates"] = candidates
    write_file(files, pipeline, "", pipeline.transform, "source", **values)


def _check_alone(values: dict[str, Any], prompt: str | None = None) -> None:
    """Remove the options that do not go with sources; refuse those that were given."""
    requested = {name: values.pop(name) not in (None, False) for name in ALONE}
    requested["num_samples"] = values.pop("num_samples") != 1
    rules = ((f"--{name.replace('_', '-')}", given) for name, given in requested.items())
    exclude(*((*rule, "a source") for rule in (("a prompt", prompt is not None), *rules)))
