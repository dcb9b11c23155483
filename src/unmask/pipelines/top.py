"""The likeliest tokens of every masked position of a template, as a fill-mask model gives them.

    p(x_i | what is given),   every blank hidden, one network call

which is what a sampler sees in its first step. The positions do not see each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unmask.data.text import TextCodec
from unmask.diffusion.formulation import UniformFormulation
from unmask.errors import UserError
from unmask.pipelines.generation import Network
from unmask.pipelines.prompts import Plan


@dataclass(frozen=True)
class Candidate:
    """A token for a masked position.

    Attributes:
        text: What it adds behind a word: with its blank if it begins a word.
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
def top(network: Network, plan: Plan, k: int) -> tuple[tuple[Candidate, ...], ...]:
    """Return the k likeliest tokens of each masked position, the likeliest first.

    Symbols that stand for no text are left out, see ``data.special_tokens``.

    Args:
        network: What guesses.
        plan: One row.
        k: How many.

    Raises:
        UserError: If a length is open, k is out of range, or the model has no masks or writes in
            blocks.
    """
    _check(network, plan)
    canvas, codec = plan.canvas, network.codec
    time = network.formulation.process.time_of(canvas.masked, canvas.editable)
    logits = network.writing()(canvas.ids, time, at=canvas.masked, valid=canvas.valid)
    data = network.denoiser.data_ids
    symbols = torch.tensor([*codec.symbols], dtype=torch.long, device=data.device)
    ordinary = data[~torch.isin(data, symbols)]
    if not 1 <= k <= len(ordinary):
        raise UserError(f"top must be from 1 to {len(ordinary)} tokens, not {k}")
    # Blanks of hundreds of tokens need no copies of all their logits.
    return tuple(_best(codec, row, ordinary, k) for row in logits)


def _best(codec: TextCodec, logits: Tensor, ordinary: Tensor, k: int) -> tuple[Candidate, ...]:
    best = logits.double().softmax(0)[ordinary].topk(k)
    ids, probabilities = ordinary[best.indices].tolist(), best.values.tolist()
    return tuple(_candidate(codec, *pair) for pair in zip(ids, probabilities, strict=True))


def _candidate(codec: TextCodec, token: int, probability: float) -> Candidate:
    name = str(codec.tokenizer.convert_ids_to_tokens(token))
    return Candidate(codec.piece(token), name, token, probability)


def _check(network: Network, plan: Plan) -> None:
    if isinstance(network.formulation, UniformFormulation) or network.block_length:
        kind = "writes in blocks" if network.block_length else "was trained without masks"
        raise UserError(
            f"this model {kind}, so that it has no probabilities for all blanks at once; take a "
            "model that was trained with masks"
        )
    if plan.is_open:
        raise UserError(
            "the likeliest tokens are those of a blank of one length; write [MASK] or [MASK:5] in "
            "place of a range"
        )
