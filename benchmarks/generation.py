"""240 tokens after a prompt of 16, one row, at the size of RoBERTa-base and GPT-2 small.

The reference is always GPT-2 in float32 through ``transformers.generate`` with its cache. Eight-bit
variants quantise the linear layers dynamically (``torch.ao.quantization``), of both networks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from torch import Tensor

from benchmarks import models, writers
from benchmarks.measure import Comparison, Run, Variant

# Preset, steps, and the largest ratio to GPT-2 allowed in float32 and in int8.
OURS = (
    ("refine", 10, 1 / 2.0, 1 / 3.2),
    ("ancestral", 10, 1 / 2.4, 1 / 4.0),
    ("schedule-confidence", 32, 1 / 0.65, 1 / 1.05),
)
# Calls of an encoder that writes in any order with its cache, and the same limits.
CACHED = ((10, None, None), (16, None, None), (32, 1 / 5.0, 1 / 9.0), (64, None, None))


def comparisons(quick: bool) -> Iterator[Comparison]:
    """Yield float32, int8 and, where the processor has it, bfloat16."""
    layers, length = (2, 48) if quick else (12, 240)
    what = f"{length} tokens after {writers.PROMPT}, {layers} layers of 768, batch 1"
    reference = _gpt2(layers, length, "float32")
    plain = (
        _variant("plain loop of the blog, 10 calls", writers.plain_refine, layers, 10, length),
        _variant("plain confidence, 32 calls", writers.plain_confidence, layers, 32, length),
    )
    yield Comparison(
        "generation", f"{what}, float32", (reference, *plain, *_ours(layers, length, "float32"))
    )
    if models.INT8:
        rows = (reference, _gpt2(layers, length, "int8"), *_ours(layers, length, "int8"))
        note = "torch.ao.quantization is deprecated in favour of torchao, and still works."
        yield Comparison("generation-int8", f"{what}, int8", rows, repeats=2, notes=(note,))
    if models.BF16:
        rows = (reference, _gpt2(layers, length, "bfloat16"), *_ours(layers, length, "bfloat16"))
        yield Comparison("generation-bf16", f"{what}, bfloat16", rows, repeats=2)


def _gpt2(layers: int, length: int, kind: str) -> Variant:
    def build() -> Run:
        model = models.gpt2(layers, kind)
        writers.autoregressive(model, 4)
        return partial(writers.autoregressive, model, length)

    return Variant(f"GPT-2, {kind}", build)


def _ours(layers: int, length: int, kind: str) -> Iterator[Variant]:
    for preset, steps, float_limit, int8_limit in OURS:
        limit = {"float32": float_limit, "int8": int8_limit}.get(kind)
        build = partial(_build_ours, layers, length, kind, preset, steps)
        yield Variant(f"{preset}, {steps} calls, {kind}", build, limit=limit)
    for steps, float_limit, int8_limit in CACHED:
        limit = {"float32": float_limit, "int8": int8_limit}.get(kind)
        build = partial(_build_cached, layers, length, kind, steps)
        yield Variant(f"any order with cache, {steps} calls, {kind}", build, limit=limit)


def _build_ours(layers: int, length: int, kind: str, preset: str, steps: int) -> Run:
    denoiser = writers.denoiser_of(models.roberta(layers, kind), models.MASK)
    writers.ours(denoiser, models.MASK, preset, 1, length)
    return partial(writers.ours, denoiser, models.MASK, preset, steps, length)


def _build_cached(layers: int, length: int, kind: str, steps: int) -> Run:
    denoiser = writers.any_order_of(models.roberta(layers, kind), models.MASK)

    def run() -> Tensor:
        return writers.ours(denoiser.session(), models.MASK, "ancestral", steps, length)

    run()
    return run


def _variant(
    name: str, write: Callable[..., Tensor], layers: int, steps: int, length: int
) -> Variant:
    def build() -> Run:
        model = models.roberta(layers)
        write(model, models.MASK, 1, length)
        return partial(write, model, models.MASK, steps, length)

    return Variant(name, build)
