"""Batches of 1, 8 and 32 rows, with 10.7 million parameters on characters, against GPT-2's shape.

In a large batch the autoregressive network is limited by arithmetic, too, and few passes over the
whole canvas are no longer an advantage; this comparison shows where. GPT-2 and the naive loops run
on torch's own layers. Samplers of this package run on packed layers, the default on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from torch import Tensor

from benchmarks import generators, models
from benchmarks.measure import Comparison, Run, Variant

_MASK = models.SMALL["vocab"] - 1
_OURS = (("refine", 10), ("ancestral", 10), ("maskgit", 10))
_PLAIN: tuple[tuple[str, Callable[..., Tensor]], ...] = (
    ("plain loop of the blog, 10 calls", generators.plain_refine),
    ("plain confidence, 10 calls", generators.plain_confidence),
)


def comparisons(quick: bool) -> Iterator[Comparison]:
    """Yield one comparison for each batch size."""
    length = 48 if quick else 240
    for rows in (1, 8, 32):
        gpt2 = (
            Variant(f"GPT-2, {kind}", partial(_build_gpt2, kind, length, rows))
            for kind in ("float32", "packed")
        )
        plain = (Variant(name, partial(_build_plain, loop, length, rows)) for name, loop in _PLAIN)
        ours = (
            Variant(f"{preset}, {steps} calls", partial(_build, preset, steps, length, rows))
            for preset, steps in _OURS
        )
        cached = (
            Variant(
                f"any order with cache, {steps} calls", partial(_build_cached, steps, length, rows)
            )
            for steps in (10, 32)
        )
        yield Comparison(
            f"batches-{rows}",
            f"{length} tokens, 6 layers of 384, characters, batch {rows}, float32",
            (*gpt2, *plain, *ours, *cached),
            repeats=3 if rows == 1 else 2,
            peak=rows == 32,
        )


def _build_gpt2(kind: str, length: int, rows: int) -> Run:
    model = models.small_gpt2(kind)
    generators.autoregressive(model, 4, rows)
    return partial(generators.autoregressive, model, length, rows)


def _build_plain(loop: Callable[..., Tensor], length: int, rows: int) -> Run:
    model = models.small_roberta()
    loop(model, _MASK, 1, length, rows)
    return partial(loop, model, _MASK, 10, length, rows)


def _build(preset: str, steps: int, length: int, rows: int) -> Run:
    denoiser = generators.denoiser_of(models.small_roberta("packed"), _MASK)
    generators.ours(denoiser, _MASK, preset, 1, length, rows)
    return partial(generators.ours, denoiser, _MASK, preset, steps, length, rows)


def _build_cached(steps: int, length: int, rows: int) -> Run:
    network = generators.any_order_of(models.small_roberta("packed"), _MASK)

    def run() -> Tensor:
        return generators.ours(network.session(), _MASK, "ancestral", steps, length, rows)

    run()
    return run
