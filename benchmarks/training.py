"""A training step of this package against a naive one, at two sizes.

    plain   all positions through the head, the model's own loss with -100 labels, the dropout that
            transformers sets by default, torch.optim.AdamW with default options
    ours    masked positions only through the head (EncoderDenoiser, continuous_nelbo), no dropout,
            fused AdamW

Both mask half of the tokens and clip gradients. The variants share one network; the learning rate
is so small that they do not change each other's results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from transformers import PreTrainedModel

from benchmarks import models
from benchmarks.measure import Comparison, Run, Variant
from unmask.diffusion.objectives.masked import continuous_nelbo
from unmask.diffusion.processes.absorbing import AbsorbingProcess
from unmask.diffusion.schedules.continuous import make_schedule
from unmask.models.encoder import EncoderDenoiser
from unmask.training import recipe_file
from unmask.training.initialize import set_dropout
from unmask.training.optimizer import muon

_RATE = 1e-7


@dataclass
class Bench:
    """One network with a batch and the optimizers made so far."""

    make: Callable[[], PreTrainedModel]
    rows: int
    length: int
    optimizers: dict[str, torch.optim.Optimizer] = field(default_factory=dict)

    def step(self, way: str, dropout: float, optimizer: str, bf16: bool = False) -> Run:
        """Return a training step, warmed up.

        Args:
            way: ``plain`` or ``ours``.
            dropout: The rate of all dropouts.
            optimizer: ``default``, ``fused`` or ``muon``.
            bf16: Compute in bfloat16 where autocast would.
        """
        model = self.make()
        mask = model.config.vocab_size - 1
        loss_of = partial(_plain_loss if way == "plain" else _our_loss, model, mask, self._ids())
        rule = self._optimizer(model, optimizer)
        cast: AbstractContextManager = (
            torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext()
        )

        def run() -> None:
            model.train()
            set_dropout(model, dropout)
            with cast:
                loss = loss_of()
            loss.backward()
            clip_grad_norm_(model.parameters(), 1.0)
            rule.step()
            rule.zero_grad()

        run()
        return run

    def _ids(self) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.randint(4, 8000, (self.rows, self.length), generator=generator)

    def _optimizer(self, model: PreTrainedModel, name: str) -> torch.optim.Optimizer:
        if name not in self.optimizers:
            if name == "muon":
                made = muon(model, _RATE, weight_decay=0.01, beta2=0.98)
            else:
                fused = True if name == "fused" else None
                made = torch.optim.AdamW(model.parameters(), lr=_RATE, fused=fused)
            self.optimizers[name] = made
        return self.optimizers[name]


def _plain_loss(model: PreTrainedModel, mask: int, ids: Tensor) -> Tensor:
    masked = torch.rand(ids.shape) < 0.5
    return model(
        input_ids=ids.masked_fill(masked, mask), labels=ids.masked_fill(~masked, -100)
    ).loss


def _our_loss(model: PreTrainedModel, mask: int, ids: Tensor) -> Tensor:
    # A new denoiser per step, as in the Trainer.
    denoiser = EncoderDenoiser(model, (0, 1, mask))
    process = AbsorbingProcess(make_schedule("linear"), mask)
    half, everywhere = torch.full((len(ids),), 0.5), torch.ones_like(ids, dtype=torch.bool)
    generator = torch.Generator().manual_seed(0)
    return continuous_nelbo(denoiser, process, ids, half, everywhere, generator).per_token


def comparisons(quick: bool) -> Iterator[Comparison]:
    """Yield the step at RoBERTa-base size and at the size of the model in the package."""
    layers = 2 if quick else 12
    base = Bench(partial(models.roberta, layers), rows=4, length=64 if quick else 256)
    variants = [
        _variant(base, "plain", "plain", 0.1, "default"),
        _variant(base, "plain, dropout 0", "plain", 0.0, "default"),
        _variant(base, "ours, dropout 0.1", "ours", 0.1, "fused"),
        _variant(base, "ours", "ours", 0.0, "fused", limit=0.60),
    ]
    if models.BF16:
        reference = "plain, bf16 autocast"
        variants += [
            _variant(base, reference, "plain", 0.1, "default", bf16=True),
            # The default of `unmask train` on such a processor.
            _variant(base, "ours, bf16 autocast", "ours", 0.0, "fused", bf16=True),
        ]
    yield Comparison(
        "training-base",
        f"training step, RoBERTa-base ({layers} layers), batch {base.rows} x {base.length}",
        tuple(variants),
    )
    tiny = recipe_file.load("tiny")
    rows = 4 if quick else 16
    bench = Bench(models.bundled_size, rows=rows, length=tiny.data.length)
    yield Comparison(
        "training-bundled",
        f"training step, size of the bundled model, batch {rows} x {bench.length}",
        (
            _variant(bench, "plain", "plain", 0.0, "default"),
            _variant(bench, "plain, dropout 0.1", "plain", 0.1, "default"),
            _variant(bench, "ours, dropout 0.1", "ours", 0.1, "fused"),
            _variant(bench, "ours", "ours", 0.0, "fused", limit=0.80),
            _variant(bench, "ours, Muon as in the recipe", "ours", 0.0, "muon"),
        ),
        repeats=5,
        notes=("Dropout is 0 by default in ModernBERT, so 'plain' has none here.",),
    )


def _variant(
    bench: Bench,
    name: str,
    way: str,
    dropout: float,
    optimizer: str,
    bf16: bool = False,
    limit: float | None = None,
) -> Variant:
    return Variant(name, partial(bench.step, way, dropout, optimizer, bf16), limit=limit)
