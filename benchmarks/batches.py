"""Batches of 1, 8 and 32 rows, with 10.7 million parameters on characters, against GPT-2's shape.

In a batch the autoregressive network is limited by arithmetic too, and the advantage of few passes
over the whole canvas goes away: here is where.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from benchmarks import models, writers
from benchmarks.measure import Comparison, Run, Variant

_MASK = models.SMALL["vocab"] - 1


def comparisons(quick: bool) -> Iterator[Comparison]:
    """Yield one comparison for each batch size."""
    length = 48 if quick else 240
    for rows in (1, 8, 32):
        ours = (
            Variant(f"{preset}, {steps} calls", partial(_build, preset, steps, length, rows))
            for preset, steps in (("refine", 10), ("ancestral", 10), ("schedule-confidence", 10))
        )
        yield Comparison(
            f"batches-{rows}",
            f"{length} tokens, 6 layers of 384, characters, batch {rows}, float32",
            (Variant("GPT-2", partial(_build_gpt2, length, rows)), *ours),
            repeats=3 if rows == 1 else 2,
            peak=rows == 32,
        )


def _build_gpt2(length: int, rows: int) -> Run:
    model = models.small_gpt2()
    writers.autoregressive(model, 4, rows)
    return partial(writers.autoregressive, model, length, rows)


def _build(preset: str, steps: int, length: int, rows: int) -> Run:
    denoiser = writers.denoiser_of(models.small_roberta(), _MASK)
    writers.ours(denoiser, _MASK, preset, 1, length, rows)
    return partial(writers.ours, denoiser, _MASK, preset, steps, length, rows)
