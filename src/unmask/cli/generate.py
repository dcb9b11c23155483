"""``unmask generate``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from unmask.cli import options
from unmask.cli.grouped import GroupedCommand
from unmask.errors import UserError

if TYPE_CHECKING:
    from unmask.cli.rows import Files
    from unmask.pipelines.unmasker import Unmasker

ALONE = ("length", "window", "stride", "stop_at_end", "choose_length")
ALONE_SAYS = (
    "--source goes without a prompt, --length, --window, --stride, --stop-at-end, "
    "--choose-length and --num-samples"
)


@click.command("generate", cls=GroupedCommand)
@click.argument("prompt", required=False)
@options.model
@options.files
@click.option("--length", type=int, default=None, help="Tokens to write; 100 or what fits.")
@click.option("--window", type=int, help="Tokens of a longer text that are seen at once.")
@click.option("--stride", type=int, help="Tokens that a longer text grows by; half a window.")
@click.option("--stop-at-end", is_flag=True, help="Write nothing behind an end symbol.")
@click.option("--source", help='Write the target for this text ("-" reads standard input).')
@click.option("--candidates", type=int, help="Of a source, targets to choose among; else 1.")
@options.choose_length
@options.sampler
@options.steering
@options.output
@options.cache
@options.device
@options.backend
def command(
    prompt: str | None,
    source: str | None,
    candidates: int | None,
    model: str | None,
    device: str | None,
    cache: str,
    backend: str,
    **wishes: Any,
) -> None:
    """Write after PROMPT ("-" reads standard input), or on the [MASK:n] blanks that it holds.

    With --data, write for every text of a file; each has the same seed.

    With --source, which is for models that were trained on pairs, write the target for it. Of
    several candidates the one is kept that agrees most with the others.
    """
    from unmask.cli.rows import Files
    from unmask.cli.writing import write

    files = Files.take(wishes, prompt, "PROMPT")
    if files is not None:
        if files.data is not None and source is not None:
            raise UserError("--data has the texts, so leave --source out")
        if source is None:
            writer = options.open_unmasker(model, device, backend, cache)
            _write_file(files, writer, prompt, candidates, wishes)
            return
        raise UserError("--out is for prompts; for the targets of sources name them with --data")
    options.check_pictures(frames=wishes["frames"], gif=wishes["gif"], html=wishes["html"])
    if source is None:
        if candidates is not None:
            raise UserError("--candidates goes with --source; for a prompt use --num-samples")
        writer = options.open_unmasker(model, device, backend, cache)
        write(writer, partial(writer.generate, options.read_text(prompt or "")), **wishes)
        return
    if prompt is not None:
        raise UserError(ALONE_SAYS)
    _check_alone(wishes)
    # What a pipe ends with is no part of the text.
    text = options.read_text(source).rstrip("\r\n") if source == "-" else source
    writer = options.open_unmasker(model, device, backend, cache)
    work = partial(writer.transform, text, candidates=1 if candidates is None else candidates)
    write(writer, work, **wishes)


def _write_file(
    files: Files,
    writer: Unmasker,
    prompt: str | None,
    candidates: int | None,
    wishes: dict[str, Any],
) -> None:
    """Write after every text of a file, or the target for it if the model was trained on pairs."""
    from unmask.cli.writing import write_file

    if files.data is None or not writer.card.pairs:
        if candidates is not None:
            raise UserError("--candidates is for models that were trained on pairs, with --data")
        text = options.read_text(prompt or "")
        write_file(files, writer, text, writer.generate, "prompt", **wishes)
        return
    _check_alone(wishes)
    wishes["candidates"] = 1 if candidates is None else candidates
    write_file(files, writer, "", writer.transform, "source", **wishes)


def _check_alone(wishes: dict[str, Any]) -> None:
    """Remove the options that do not go with sources; refuse those that were given."""
    asked = [name for name in ALONE if wishes.pop(name) not in (None, False)]
    if wishes.pop("num_samples") != 1 or asked:
        raise UserError(ALONE_SAYS)
