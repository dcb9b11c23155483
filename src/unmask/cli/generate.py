"""``unmask generate``."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from unmask.cli import options
from unmask.cli.grouped import GroupedCommand
from unmask.errors import UserError

ALONE = ("length", "window", "stride", "stop_at_end", "choose_length")


@click.command("generate", cls=GroupedCommand)
@click.argument("prompt", required=False)
@options.model
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

    With --source, which is for models that were trained on pairs, write the target for it. Of
    several candidates the one is kept that agrees most with the others.
    """
    from unmask.cli.writing import write

    options.check_pictures(frames=wishes["frames"], gif=wishes["gif"], html=wishes["html"])
    if source is None:
        if candidates is not None:
            raise UserError("--candidates goes with --source; for a prompt use --num-samples")
        writer = options.open_unmasker(model, device, backend, cache)
        write(writer, partial(writer.generate, options.read_text(prompt or "")), **wishes)
        return
    asked = [name for name in ALONE if wishes.pop(name) not in (None, False)]
    if prompt is not None or asked or wishes.pop("num_samples") != 1:
        raise UserError(
            "--source goes without a prompt, --length, --window, --stride, --stop-at-end, "
            "--choose-length and --num-samples"
        )
    # What a pipe ends with is no part of the text.
    text = options.read_text(source).rstrip("\r\n") if source == "-" else source
    writer = options.open_unmasker(model, device, backend, cache)
    work = partial(writer.transform, text, candidates=1 if candidates is None else candidates)
    write(writer, work, **wishes)
