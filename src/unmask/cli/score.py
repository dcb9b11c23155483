"""``unmask score``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unmask.cli import options, pictures, printing
from unmask.cli.grouped import Command
from unmask.errors import UserError
from unmask.validation import exclude, require

if TYPE_CHECKING:
    from unmask.evaluation.scores import Score
    from unmask.pipelines.autoregressor import Autoregressor
    from unmask.pipelines.unmasker import Unmasker


@click.command("score", cls=Command)
@click.argument("text", required=False)
@options.model
@options.files
@click.option(
    "--draws",
    type=int,
    help="Random masks of each row; as many as bring the standard error under 1 % if left out.",
)
@click.option(
    "--order",
    metavar="ORDER",
    help="Exact likelihood of generating one token at a time: left-to-right, right-to-left, or the "
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
    text: str | None,
    model: str | None,
    draws: int | None,
    order: str | None,
    pseudo: bool,
    per_token: bool,
    seed: int,
    as_json: bool,
    device: str | None,
    backend: str,
    **files: Any,
) -> None:
    """Bound -log p of TEXT: a file, a text, or "-" for standard input.

    With a model of images, of an image or a folder of them.

    An upper bound with its error for a masked model, the exact value for a causal one. With --data,
    score every text of a file by itself.
    """
    from unmask.cli.marks import Marks
    from unmask.cli.rows import Files, write_rows
    from unmask.evaluation import report

    if model is not None and options.is_of_images(model):
        pictures.score(text, model, device, backend, draws, seed, as_json)
        return
    exclude(("--pseudo", pseudo and order is not None, "--order"))
    possible = {"draws": draws, "order": order, "pseudo": pseudo or None}
    requested = {k: v for k, v in possible.items() if v is not None}
    given = Files.take(files | {"as_json": as_json}, text, "TEXT")
    if given is not None:
        lines = given.data is not None and not given.is_fasta
        require(("--out", lines, "rows of --data, in a file that ends in .jsonl"))
        pipeline = options.open_pipeline(model, device, backend)

        def work(texts: list[str]) -> list[dict[str, Any]]:
            found = [_score(pipeline, text, requested, seed, per_token) for text in texts]
            return [{"score": _facts(score, pipeline, per_token)} for score in found]

        marks = Marks(
            pipeline, {"work": "score", "seed": seed, "per_token": per_token, **requested}
        )
        write_rows(given, "", work, name="text", adds=("score",), marks=marks)
        return
    text = _read("" if text is None else text)
    pipeline = options.open_pipeline(model, device, backend)
    score = _score(pipeline, text, requested, seed, per_token)
    if as_json:
        printing.record(_facts(score, pipeline, per_token))
        return
    for piece, nats in report.token_scores(score, pipeline.codec) if per_token else []:
        printing.result(f"{nats:9.4f}  {piece!r}")
    printing.result("\n".join(report.lines(score)))


def _read(text: str) -> str:
    from unmask.data.documents import joined, read_documents
    from unmask.data.sources import KNOWN
    from unmask.data.text_files import PACKED

    if text == "-":
        return _some(options.read_text(text))
    _some(text)
    path = Path(text)
    known_ending = path.suffix.lower() in (*KNOWN, *PACKED)
    looks_like_file = len(text) < 200 and (
        (known_ending and not set(text) & set(" \n")) or os.path.exists(text)
    )
    return joined(read_documents(text, note=options.note)) if looks_like_file else text


def _some(text: str) -> str:
    if not text.strip():
        raise UserError("there is no text to score; give a text, a file, or - for standard input")
    return text


def _score(
    pipeline: Unmasker | Autoregressor,
    text: str,
    requested: dict[str, Any],
    seed: int,
    per_token: bool,
) -> Score:
    from unmask.pipelines.unmasker import Unmasker

    if not isinstance(pipeline, Unmasker):
        exact = "a causal model, whose score is exact and from left to right"
        exclude(*((f"--{option}", True, exact) for option in requested))
        return pipeline.score(text, seed=seed)
    way = next((name for name in ("order", "pseudo") if name in requested), None)
    if way is None:
        return pipeline.score(text, draws=requested.get("draws"), seed=seed, per_token=per_token)
    exclude(("--draws", "draws" in requested, f"--{way}, which masks no token at random"))
    if way == "pseudo":
        return pipeline.pseudo_score(text)
    return pipeline.score_in_order(text, _order(requested["order"]))


def _facts(score: Score, pipeline: Unmasker | Autoregressor, per_token: bool) -> dict[str, Any]:
    """Return a score with how it was computed, fit for JSON."""
    from unmask.evaluation import report

    facts = score.as_dict() | _computed(pipeline)
    if per_token:
        pieces = report.token_scores(score, pipeline.codec)
        facts["per_token"] = [{"token": piece, "nats": nats} for piece, nats in pieces]
    return facts


def _order(order: str) -> str | list[int]:
    """Return the name of an order, or the numbers that spell one."""
    parts = [part.strip() for part in order.split(",")]
    return [int(part) for part in parts] if all(p.isdecimal() for p in parts) else order


def _computed(pipeline: Unmasker | Autoregressor) -> dict[str, Any]:
    from unmask.pipelines.unmasker import Unmasker

    return {"backend": pipeline.backend} if isinstance(pipeline, Unmasker) else {}
