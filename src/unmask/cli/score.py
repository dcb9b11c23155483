"""``unmask score``."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from unmask.cli import options
from unmask.errors import UserError


@click.command("score")
@click.argument("text")
@options.model
@click.option("--draws", type=int, help="Mask patterns per row of text; 16.")
@options.seed
@options.as_json
@options.device
@options.backend
def command(
    text: str,
    model: str | None,
    draws: int | None,
    seed: int,
    as_json: bool,
    device: str | None,
    backend: str,
) -> None:
    """Bound -log p of TEXT: a file, a text, or "-" for standard input.

    An upper bound for a masked model, the exact value for a causal one.
    """
    from unmask.training.data import joined, read_documents

    text = options.read_text(text)
    if not text.strip():
        raise UserError("there is no text to score; give a text, a file, or - for standard input")
    path = Path(text)
    looks_like_file = (
        "\n" not in text
        and len(text) < 200
        and (path.suffix in (".txt", ".md", ".jsonl", ".csv", ".gz") or os.path.exists(text))
    )
    if looks_like_file:
        text = joined(read_documents(text))
    writer = options.open_writer(model, device, backend)
    from unmask.unmasker import Unmasker

    if isinstance(writer, Unmasker):
        score = writer.score(text, draws=16 if draws is None else draws, seed=seed)
    elif draws is not None:
        raise UserError("the score of a causal model is exact, without masks; leave --draws out")
    else:
        score = writer.score(text, seed=seed)
    if as_json:
        computed = {"backend": writer.backend} if isinstance(writer, Unmasker) else {}
        click.echo(json.dumps(score.as_dict() | computed))
        return
    sign = "" if score.exact else "<= "
    click.echo(
        f"{sign}{score.nats:.2f} nats in {score.tokens} tokens, {score.characters} characters\n"
        f"{sign}{score.nats_per_token:.4f} nats/token · perplexity {score.perplexity:.2f} · "
        f"{score.bits_per_char:.4f} bits/char · word perplexity {score.word_perplexity:.2f}"
    )
