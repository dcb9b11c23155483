"""``unmask generate``."""

from __future__ import annotations

from typing import Any

import click

from unmask.cli import options


@click.command("generate")
@click.argument("prompt", default="")
@options.model
@click.option("--length", type=int, default=None, help="Tokens to write; 100 or what fits.")
@options.sampler
@options.output
@options.device
def command(prompt: str, model: str | None, device: str | None, **wishes: Any) -> None:
    """Write after PROMPT ("-" reads standard input), or on the [MASK:n] blanks that it holds."""
    from unmask.cli.writing import write

    write(options.open_unmasker(model, device), options.read_text(prompt), **wishes)
