"""240 tokens after a prompt of 16 by the same GPT-2: one by one, and in blocks of 32.

The reference is ``transformers.generate`` with its cache, in float32; a call reads one token. A
call of a block model reads one block, and its cache is exact, too. It runs on packed float32, the
default on a CPU, or on ``torch-int8``. Weights are random, which does not change times. Calls are
those of the whole text: 2, 4 or 8 for each of 8 blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from benchmarks import generators, models
from benchmarks.measure import Comparison, Run, Variant

SIZE = 32
# Preset, calls per block, and the largest ratio to GPT-2 allowed in float32 and in int8.
OURS = (
    ("maskgit", 2, None, None),
    ("maskgit", 4, 1 / 3.5, 1 / 6.0),
    ("maskgit", 8, None, None),
    ("ancestral", 4, None, None),
)


def comparisons(quick: bool) -> Iterator[Comparison]:
    """Yield float32 and int8."""
    layers, length = (2, 48) if quick else (12, 240)
    what = f"{length} tokens after {generators.PROMPT}, GPT-2 of {layers} layers, blocks of {SIZE}"
    for kind in ("packed", "int8"):
        plain = [_plain(layers, length, name) for name in ("float32", kind)]
        name = "blocks" if kind == "packed" else f"blocks-{kind}"
        rows = (*plain, *_ours(layers, length, kind))
        yield Comparison(name, f"{what}, batch 1, {kind}", rows, repeats=2, peak=False)


def _plain(layers: int, length: int, kind: str) -> Variant:
    def build() -> Run:
        model = models.gpt2(layers, kind)
        generators.autoregressive(model, 4)
        return partial(generators.autoregressive, model, length)

    return Variant(f"token by token, {kind}", build)


def _ours(layers: int, length: int, kind: str) -> Iterator[Variant]:
    blocks = -(-(generators.PROMPT + length) // SIZE)
    for preset, steps, float_limit, int8_limit in OURS:
        limit = {"packed": float_limit, "int8": int8_limit}[kind]
        build = partial(_build, layers, kind, preset, steps, length)
        yield Variant(f"{preset}, {steps * blocks} calls, {kind}", build, limit=limit)


def _build(layers: int, kind: str, preset: str, steps: int, length: int) -> Run:
    model = models.gpt2(layers, kind)
    generators.blocks(model, SIZE, preset, 1, length)
    return partial(generators.blocks, model, SIZE, preset, steps, length)
