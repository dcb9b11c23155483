"""``unmask score``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unmask.cli import options
from unmask.errors import UserError

if TYPE_CHECKING:
    from unmask.autoregressor import Autoregressor
    from unmask.likelihood import Score
    from unmask.unmasker import Unmasker


@click.command("score")
@click.argument("text")
@options.model
@click.option(
    "--draws",
    type=int,
    help="Random masks of each row; as many as bring the standard error under 1 % if left out.",
)
@click.option(
    "--order",
    metavar="ORDER",
    help="Exact likelihood of writing one token at a time: left-to-right, right-to-left, or the "
    "numbers of the tokens such as 2,0,1.",
)
@click.option(
    "--pseudo",
    is_flag=True,
    help="Pseudo-log-likelihood: each token given all others. No likelihood and no bound.",
)
@click.option("--per-token", is_flag=True, help="Show the nats of every token.")
@options.seed
@options.as_json
@options.device
@options.backend
def command(
    text: str,
    model: str | None,
    draws: int | None,
    order: str | None,
    pseudo: bool,
    per_token: bool,
    seed: int,
    as_json: bool,
    device: str | None,
    backend: str,
) -> None:
    """Bound -log p of TEXT: a file, a text, or "-" for standard input.

    An upper bound with its error for a masked model, the exact value for a causal one.
    """
    from unmask import report

    if pseudo and order is not None:
        raise UserError("--pseudo and --order are two ways to score; choose one")
    text = _read(text)
    writer = options.open_writer(model, device, backend)
    score = _score(writer, text, draws=draws, order=order, pseudo=pseudo, seed=seed)
    if per_token and score.token_nats is None:
        raise UserError(
            "the bound of this model is known for whole rows only; add --order left-to-right or "
            "--pseudo to --per-token"
        )
    pieces = report.token_table(score, writer.codec) if per_token else []
    if as_json:
        facts = score.as_dict() | _computed(writer)
        facts |= {"per_token": [piece.as_dict() for piece in pieces]} if per_token else {}
        click.echo(json.dumps(facts, ensure_ascii=False))
        return
    for piece in pieces:
        click.echo(piece.line())
    click.echo("\n".join(report.lines(score)))


def _read(text: str) -> str:
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
    return joined(read_documents(text)) if looks_like_file else text


def _score(
    writer: Unmasker | Autoregressor,
    text: str,
    *,
    draws: int | None,
    order: str | None,
    pseudo: bool,
    seed: int,
) -> Score:
    from unmask.unmasker import Unmasker

    if isinstance(writer, Unmasker):
        if pseudo or order is not None:
            if draws is not None:
                what = "--pseudo" if pseudo else "--order"
                raise UserError(f"{what} hides no token at random; leave --draws out")
            return writer.pseudo_score(text) if pseudo else writer.score(text, order=_order(order))
        return writer.score(text, draws=draws, seed=seed)
    for option, value in (("draws", draws), ("order", order), ("pseudo", pseudo or None)):
        if value is not None:
            raise UserError(
                f"a causal model has one exact score, from left to right; leave --{option} out"
            )
    return writer.score(text, seed=seed)


def _order(order: str | None) -> str | list[int]:
    """Return the name of an order, or the numbers that spell one."""
    assert order is not None
    parts = [part.strip() for part in order.split(",")]
    return [int(part) for part in parts] if all(p.isdecimal() for p in parts) else order


def _computed(writer: Unmasker | Autoregressor) -> dict[str, Any]:
    from unmask.unmasker import Unmasker

    return {"backend": writer.backend} if isinstance(writer, Unmasker) else {}
