"""The likeliest tokens of every masked position of a template, as a fill-mask model gives them.

    p(x_i | given tokens),   every blank masked, one network call

which is what a sampler sees in its first step. The positions do not see each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unmask.data.text import TextCodec
from unmask.errors import UserError
from unmask.pipelines.base import DiffusionPipeline
from unmask.pipelines.prompts import Rows


@dataclass(frozen=True)
class Candidate:
    """A token for a masked position.

    Attributes:
        text: What it adds after a word: with its space if it begins a word.
        token: Its name in the vocabulary.
        id: Its id.
        probability: That of the network at temperature 1, among all tokens that a text can hold,
            unknown and end of text included.
    """

    text: str
    token: str
    id: int
    probability: float

    def as_dict(self) -> dict[str, Any]:
        """Return the facts, fit for JSON."""
        return dict(vars(self))


@torch.no_grad()
def top(pipeline: DiffusionPipeline, rows: Rows, k: int) -> tuple[tuple[Candidate, ...], ...]:
    """Return the k likeliest tokens of each masked position, the likeliest first.

    Symbols that stand for no text are left out, see ``data.special_tokens``.

    Args:
        pipeline: The model.
        rows: One row, on its device.
        k: Tokens for each position.

    Raises:
        UserError: If a length is open, k is out of range, or the model does not support it.
    """
    pipeline.require("top")
    if rows.is_open:
        raise UserError(
            "the likeliest tokens are those of a blank of one length; write [MASK] or [MASK:5] in "
            "place of a range"
        )
    canvas, codec = rows.canvas, pipeline.codec
    time = pipeline.formulation.process.time_of(canvas.masked, canvas.editable)
    logits = pipeline.new_denoiser()(canvas.ids, time, at=canvas.masked, valid=canvas.valid)
    data = pipeline.denoiser.data_ids
    symbols = torch.tensor([*codec.symbols], dtype=torch.long, device=data.device)
    ordinary = data[~torch.isin(data, symbols)]
    if not 1 <= k <= len(ordinary):
        raise UserError(f"top must be from 1 to {len(ordinary)} tokens, not {k}")
    # One position at a time: a blank of hundreds of tokens needs no copy of all its logits.
    return tuple(_best(codec, row, ordinary, k) for row in logits)


def _best(codec: TextCodec, logits: Tensor, ordinary: Tensor, k: int) -> tuple[Candidate, ...]:
    best = logits.double().softmax(0)[ordinary].topk(k)
    ids, probabilities = ordinary[best.indices].tolist(), best.values.tolist()
    return tuple(_candidate(codec, *pair) for pair in zip(ids, probabilities, strict=True))


def _candidate(codec: TextCodec, token: int, probability: float) -> Candidate:
    name = str(codec.tokenizer.convert_ids_to_tokens(token))
    return Candidate(codec.piece(token), name, token, probability)
