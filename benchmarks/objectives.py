"""The cost of each method: a training step at RoBERTa-base size, against that of MD4.

All steps noise the same sequences and compute the loss and its gradient, without the optimizer,
which is the same for all. Times are one half, so every method masks the same fraction of tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from transformers import PreTrainedModel

from benchmarks import models
from benchmarks.measure import Comparison, Run, Variant
from unmask.diffusion.registry import make_formulation
from unmask.models.encoder import EncoderDenoiser
from unmask.models.extra_weights import equip, learned_of
from unmask.training.initialize import set_dropout

ROWS = 4
SPINDLE = {"name": "spindle", "strength": 0.3}
LEARNED = {"name": "learned"}
LINEAR = {"name": "linear"}


@dataclass(frozen=True)
class Choice:
    """A method, its time conditioning, and the largest ratio to MD4 allowed."""

    schedule: dict[str, Any]
    num_steps: int = 0
    time: str = "none"
    limit: float | None = None


CHOICES = {
    "MD4": Choice(LINEAR),
    "MD4, prefix": Choice(LINEAR, time="prefix", limit=1.05),
    "MD4, layerwise": Choice(LINEAR, time="layerwise", limit=1.05),
    "MD4, adaln": Choice(LINEAR, time="adaln", limit=1.05),
    "D3PM absorbing, T = 1000": Choice({"name": "mutual-information"}, 1000, limit=1.03),
    "spindle": Choice(SPINDLE, limit=1.03),
    "spindle, T = 2048": Choice(SPINDLE, 2048, limit=1.03),
    "GenMD4, adaln": Choice(LEARNED, time="adaln", limit=2.2),
}


def comparisons(quick: bool) -> Iterator[Comparison]:
    """Yield the comparison."""
    layers, length = (2, 64) if quick else (12, 256)
    yield Comparison(
        "objectives",
        f"loss and gradient, RoBERTa-base ({layers} layers), batch {ROWS} x {length}",
        tuple(
            Variant(name, partial(_build, choice, layers, length), limit=choice.limit)
            for name, choice in CHOICES.items()
        ),
        peak=False,
        notes=("D3PM with uniform noise predicts every position, twice as many as masks do.",),
    )


def _build(choice: Choice, layers: int, length: int) -> Run:
    conditioned = choice.time != "none"
    # Time conditioning adds hooks to the model, which can therefore not be shared.
    model: PreTrainedModel = (models.roberta.__wrapped__ if conditioned else models.roberta)(layers)
    set_dropout(model.train(), 0.0)
    equip(model, choice.time, choice.schedule)
    denoiser = EncoderDenoiser(model, models.SPECIAL)
    counts = torch.arange(denoiser.vocab_size).flip(0)
    formulation = make_formulation(
        "absorbing",
        choice.schedule,
        mask_token_id=models.MASK,
        vocab_size=denoiser.vocab_size,
        data_ids=denoiser.data_ids,
        num_steps=choice.num_steps,
        counts=counts,
        learned=learned_of(model),
    )
    rng = torch.Generator().manual_seed(0)
    rows = torch.randint(4, 8000, (ROWS, length), generator=rng)
    half, everywhere = torch.full((ROWS,), 0.5), torch.ones_like(rows, dtype=torch.bool)

    def run() -> None:
        model.zero_grad()
        loss, nats = formulation.objective(
            denoiser, x0=rows, t=half, editable=everywhere, generator=rng
        )
        (nats.sum() / loss.tokens.sum()).backward()

    run()
    return run
