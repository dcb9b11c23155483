"""The sampler's loop over the bare calls of its network: same network, same ids, same positions.

Every sampler runs once with its calls recorded. The bare variant repeats only these calls: body,
queried positions, head. The limits are for the samplers with their own filters. Other filters are
timed next to them; with random weights top-p is slowest, as it keeps nearly every token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from benchmarks import generators, models
from benchmarks.measure import Comparison, Run, Variant
from unmask.models.encoder import EncoderDenoiser
from unmask.sampling.samplers.registry import make_sampler
from unmask.sampling.token_sampling import Draw

# Other filters for each preset.
_PRESETS = {
    "refine": Draw(),
    "ancestral": Draw(top_k=50),
    "maskgit": Draw(top_p=0.95),
}
_STEPS = 10


@dataclass
class Recorder:
    """A denoiser that records its calls."""

    inner: EncoderDenoiser
    calls: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the inner denoiser."""
        return getattr(self.inner, name)

    def __call__(self, xt: Tensor, t: Tensor, *, at: Tensor, **rest: Any) -> Tensor:
        """Call the inner denoiser, and record ids and positions."""
        self.calls.append((xt, at))
        return self.inner(xt, t, at=at, **rest)


def comparisons(quick: bool) -> Iterator[Comparison]:
    """Yield RoBERTa-base size and the size of the model in the package."""
    layers, length = (2, 48) if quick else (12, 240)
    base = partial(models.roberta, layers, "packed")
    title = f"sampler over bare calls, {length} tokens, {_STEPS} calls"
    yield Comparison(
        "overhead-base",
        f"{title}, {layers} layers of 768",
        tuple(_pairs(base, lambda model: model.lm_head, length, limit=1.05)),
        repeats=25,
        peak=False,
    )
    yield Comparison(
        "overhead-bundled",
        f"{title}, size of the bundled model",
        tuple(_pairs(partial(models.bundled_size, "packed"), _modern_head, length, limit=1.15)),
        repeats=25,
        peak=False,
    )


def _modern_head(model: PreTrainedModel) -> Callable[[Tensor], Tensor]:
    return lambda hidden: model.decoder(model.head(hidden))


def _pairs(
    make: Callable[[], PreTrainedModel],
    head_of: Callable[[PreTrainedModel], Callable[[Tensor], Tensor]],
    length: int,
    limit: float | None,
) -> Iterator[Variant]:
    for preset, other in _PRESETS.items():
        bare = f"bare calls of {preset}"
        yield Variant(bare, partial(_build_bare, make, head_of, preset, length), against=bare)
        for draw, most in ((make_sampler(preset).draw, limit), (other, None)):
            filters = ", ".join(_filters(draw)) or "no filter"
            yield Variant(
                f"{preset}, {filters}",
                partial(_build, make, preset, length, draw),
                against=bare,
                limit=most,
            )


def _filters(draw: Draw) -> Iterator[str]:
    if draw.top_k is not None:
        yield f"top-k {draw.top_k}"
    if draw.top_p < 1:
        yield f"top-p {draw.top_p}"


def _build(make: Callable[[], PreTrainedModel], preset: str, length: int, draw: Draw) -> Run:
    model = make()
    mask = model.config.vocab_size - 1
    denoiser = generators.denoiser_of(model, mask)
    return partial(generators.ours, denoiser, mask, preset, _STEPS, length, draw=draw)


def _build_bare(
    make: Callable[[], PreTrainedModel],
    head_of: Callable[[PreTrainedModel], Callable[[Tensor], Tensor]],
    preset: str,
    length: int,
) -> Run:
    model = make()
    mask = model.config.vocab_size - 1
    recorder = Recorder(generators.denoiser_of(model, mask))
    generators.ours(recorder, mask, preset, _STEPS, length)
    body, head = model.base_model, head_of(model)

    @torch.no_grad()
    def run() -> None:
        for ids, at in recorder.calls:
            head(body(input_ids=ids).last_hidden_state[at])

    return run
