"""Images of the size of CIFAR-10: 32 x 32 x 3 sub-pixels of 256 values, the network of a recipe.

    pixels-head        loss and gradient with logits at masks only, against logits at every
                       sub-pixel and a cross-entropy that is masked afterwards
    pixels-step        a whole training step (noise, network, loss, gradient, clipping, fused AdamW)
                       against noise regression with the same U-Net of diffusers
    pixels-generation  16 steps with logits at the sub-pixels that are revealed, against all

Times are drawn as in training, and both ways have the dropout of the recipe. The network is that of
``md4-pixels``; ``--only pixels_published`` takes that of ``cifar10``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.nn.utils import clip_grad_norm_

from benchmarks import models
from benchmarks.measure import Comparison, Run, Variant
from unmask.diffusion.objectives.masked import continuous_nelbo
from unmask.diffusion.processes.absorbing import AbsorbingProcess
from unmask.diffusion.rng import RowRng
from unmask.diffusion.schedules.continuous import make_schedule, rate
from unmask.diffusion.schedules.grids import stratified_times
from unmask.models.encoder import EncoderDenoiser
from unmask.models.time_conditioning import conditioning_of
from unmask.sampling.canvas import Canvas
from unmask.sampling.sampler import sample
from unmask.sampling.samplers.registry import make_sampler

_RATE = 1e-7
_STEPS = 16

Objective = Callable[[], Tensor]


def comparisons(
    quick: bool, recipe: str = "md4-pixels", group: str = "pixels", rows: int = 8
) -> Iterator[Comparison]:
    """Yield the three comparisons.

    Args:
        quick: Fewer images.
        recipe: Whose network it is.
        group: Beginning of the names.
        rows: Images in a batch.
    """
    rows = 1 if quick else rows
    about = f"images of 32 x 32 x 3, network of {recipe}, batch"
    yield Comparison(
        f"{group}-head",
        f"loss and gradient, {about} {rows}",
        (
            Variant("plain, all logits", partial(_gradient, _all_logits, recipe, rows)),
            Variant("ours, logits at masks", partial(_gradient, _nelbo, recipe, rows)),
        ),
        repeats=5,
    )
    reference = "noise regression, diffusers"
    variants = [
        Variant(reference, partial(_step, _regression, recipe, rows)),
        Variant("masked diffusion, ours", partial(_step, _nelbo, recipe, rows), limit=1.25),
    ]
    if models.BF16:
        bf16 = f"{reference}, bf16 autocast"
        variants += [
            Variant(bf16, partial(_step, _regression, recipe, rows, True), against=bf16),
            Variant(
                "masked diffusion, ours, bf16 autocast",
                partial(_step, _nelbo, recipe, rows, True),
                against=bf16,
            ),
        ]
    yield Comparison(
        f"{group}-step",
        f"training step, {about} {rows}",
        tuple(variants),
        repeats=5,
        peak=False,
        notes=("In bfloat16 the ratio is to noise regression in bfloat16.",),
    )
    rows = max(1, rows // 2)
    yield Comparison(
        f"{group}-generation",
        f"generation, {_STEPS} steps of ancestral, {about} {rows}",
        (
            Variant("plain loop, all logits", partial(_plain_generation, recipe, rows)),
            Variant("ours, all logits", partial(_generation, recipe, rows, everywhere=True)),
            Variant("ours, logits where needed", partial(_generation, recipe, rows)),
        ),
        repeats=2,
        peak=False,
        notes=(f"Images per second are {rows} / seconds.",),
    )


def _gradient(way: Callable[[Any, str, int], Objective], recipe: str, rows: int) -> Run:
    model = models.pixels(recipe)
    objective = way(model, recipe, rows)

    def run() -> None:
        model.train()
        objective().backward()
        model.zero_grad()

    run()
    return run


def _step(
    way: Callable[[Any, str, int], Objective], recipe: str, rows: int, bf16: bool = False
) -> Run:
    make = models.noise_regression if way is _regression else models.pixels
    model: nn.Module = make(recipe)
    objective = way(model, recipe, rows)
    rule = torch.optim.AdamW(model.parameters(), lr=_RATE, fused=True)

    def run() -> None:
        cast: AbstractContextManager = (
            torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext()
        )
        model.train()
        with cast:
            loss = objective()
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        rule.step()
        rule.zero_grad()

    run()
    return run


def _nelbo(model: Any, _recipe: str, rows: int) -> Objective:
    """Return our loss on random images, a new denoiser for each as in the Trainer."""
    x0, editable, process, generator = _batch(model, rows)

    def loss() -> Tensor:
        t = stratified_times(rows, generator)
        denoiser = _denoiser(model)
        return continuous_nelbo(denoiser, process, x0, t, editable, generator).per_token

    return loss


def _all_logits(model: Any, _recipe: str, rows: int) -> Objective:
    """Return the same loss from the logits and the cross-entropy of every sub-pixel."""
    x0, editable, process, generator = _batch(model, rows)

    def loss() -> Tensor:
        t = stratified_times(rows, generator)
        noised = process.corrupt(x0, t, editable, generator)
        with conditioning_of(model).at(t):
            logits = model(input_ids=noised.ids).logits
        nats = cross_entropy(logits.flatten(0, 1), x0.flatten(), reduction="none").view_as(x0)
        weight = rate(process.schedule, t)[:, None]
        return (weight * nats * noised.masked).sum() / editable.sum()

    return loss


def _regression(model: Any, _recipe: str, rows: int) -> Objective:
    """Return the loss of the plain tutorial: the mean squared error of the predicted noise."""
    generator = torch.Generator().manual_seed(0)
    height, width, channels = models.PIXELS
    images = torch.rand(rows, channels, height, width, generator=generator) * 2 - 1

    def loss() -> Tensor:
        noise, t = torch.randn(images.shape, generator=generator), torch.rand(rows)
        alpha = t[:, None, None, None]
        noised = alpha.sqrt() * images + (1 - alpha).sqrt() * noise
        return mse_loss(model(noised, 1000 * t, return_dict=False)[0], noise)

    return loss


def _batch(model: Any, rows: int) -> tuple[Tensor, Tensor, AbsorbingProcess, torch.Generator]:
    """Return random images without a class, what of them is modelled, the process and numbers."""
    levels, generator = model.config.levels, torch.Generator().manual_seed(0)
    x0 = torch.randint(0, levels, (rows, _length(model)), generator=generator)
    x0[:, 0] = levels
    editable = torch.ones_like(x0, dtype=torch.bool)
    editable[:, 0] = False
    return x0, editable, AbsorbingProcess(make_schedule("linear"), levels), generator


def _length(model: Any) -> int:
    return int(model.config.max_position_embeddings)


def _denoiser(model: Any) -> EncoderDenoiser:
    return EncoderDenoiser(model, range(model.config.levels, model.config.vocab_size))


class _Everywhere(EncoderDenoiser):
    """Computes all logits and keeps the queried ones."""

    def _logits(self, xt: Tensor, t: Tensor, at: Tensor | None, valid: Tensor | None) -> Tensor:
        logits = super()._logits(xt, t, None, valid)
        return logits if at is None else logits[at]


def _generation(recipe: str, rows: int, everywhere: bool = False) -> Run:
    model = models.pixels(recipe)
    kind = _Everywhere if everywhere else EncoderDenoiser
    denoiser = kind(model, range(model.config.levels, model.config.vocab_size))
    _, _, process, _ = _batch(model, rows)
    row: list[int | None] = [model.config.levels, *[None] * (_length(model) - 1)]
    canvas = Canvas.from_rows([row] * rows, model.config.levels, model.config.levels)
    chosen = make_sampler("ancestral", steps=_STEPS, grid="uniform")
    grid, rng = chosen.times(_length(model) - 1), RowRng(torch.arange(rows))

    def run() -> None:
        model.eval()
        for frame in sample(denoiser, process, canvas, chosen.policy, chosen.drawing, grid, rng):
            last = frame.canvas
        assert not last.masked.any()

    return run


def _plain_generation(recipe: str, rows: int) -> Run:
    """Return a loop that draws every sub-pixel in each step and reveals a share of the masks."""
    model = models.pixels(recipe)
    levels = model.config.levels

    @torch.no_grad()
    def run() -> None:
        model.eval()
        ids = torch.full((rows, _length(model)), levels)
        for step in range(_STEPS):
            with conditioning_of(model).at(torch.full((rows,), 1 - step / _STEPS)):
                logits = model(input_ids=ids).logits[..., :levels]
            drawn = torch.multinomial(logits.flatten(0, 1).softmax(-1), 1).view_as(ids)
            now = (ids == levels) & (torch.rand(ids.shape) < 1 / (_STEPS - step))
            now[:, 0] = False
            ids = torch.where(now, drawn, ids)
        assert (ids[:, 1:] < levels).all()

    return run
