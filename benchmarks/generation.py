"""240 tokens after a prompt of 16, at the size of RoBERTa-base and GPT-2 small, 1 and 8 rows.

The reference is always GPT-2 in float32 through ``transformers.generate`` with its cache. Peers run
on torch's own layers. Samplers of this package run on packed float32 (the default on a CPU), on
``torch-int8`` or in bfloat16; GPT-2 is timed on these as well. On a GPU, if there is one, all run
on torch's own layers, in float32 and in bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

from torch import Tensor

from benchmarks import generators, models
from benchmarks.measure import Comparison, Run, Variant

# Preset, calls, and the largest ratio to GPT-2 allowed in float32 and in int8.
OURS = (
    ("refine", 10, 1 / 2.0, 1 / 3.2),
    ("refine", 16, None, None),
    ("refine", 32, None, None),
    ("refine", 64, None, None),
    ("ancestral", 10, 1 / 2.4, 1 / 4.0),
    ("ancestral", 16, None, None),
    ("ancestral", 32, None, None),
    ("ancestral", 64, None, None),
    ("maskgit", 10, None, None),
    ("maskgit", 16, None, None),
    ("maskgit", 32, 1 / 0.65, 1 / 1.05),
    ("maskgit", 64, None, None),
    ("any order with cache", 10, None, None),
    ("any order with cache", 16, None, None),
    ("any order with cache", 32, 1 / 5.0, 1 / 9.0),
    ("any order with cache", 64, None, None),
)

MANY = (10, 32)
"""Calls in batches of eight, where a round of all calls would take a quarter of an hour."""


@dataclass(frozen=True)
class Size:
    """The size of a comparison: layers of both networks, tokens, and batch."""

    layers: int
    length: int
    rows: int = 1


def comparisons(quick: bool) -> Iterator[Comparison]:
    """Yield float32, int8, bfloat16 if the processor has it, batches of 8, and a GPU."""
    size = Size(2, 48) if quick else Size(12, 240)
    what = f"{size.length} tokens after {generators.PROMPT}, {size.layers} layers of 768"
    rows = (
        *_gpt2(size, "float32", "packed"),
        *_peers(size, "float32", calls=32),
        *_ours(size, OURS, "packed"),
    )
    left_out = "Left out: LLaDA2Pipeline; it needs pip install diffusers."
    notes = () if find_spec("diffusers") else (left_out,)
    yield Comparison("generation", f"{what}, batch 1, float32", rows, notes=notes)
    for kind in ("int8", "bfloat16") if models.BF16 else ("int8",):
        rows = (*_gpt2(size, "float32", kind), *_ours(size, OURS, kind))
        name = f"generation-{kind.replace('bfloat', 'bf')}"
        yield Comparison(name, f"{what}, batch 1, {kind}", rows, repeats=2, peak=False)
    many = Size(size.layers, size.length, rows=8)
    rows = (
        *_gpt2(many, "float32", "packed"),
        *_peers(many, "float32", calls=16),
        *_ours(many, tuple(row for row in OURS if row[1] in MANY), "packed"),
    )
    yield Comparison(
        "generation-8", f"{what}, batch 8, float32", rows, repeats=1, peak=False, notes=notes
    )
    if models.GPU is not None:
        yield from _on_gpu(models.GPU, size, what, notes)
        yield from _on_gpu(models.GPU, many, what, notes)


def _on_gpu(device: str, size: Size, what: str, notes: tuple[str, ...]) -> Iterator[Comparison]:
    plain, half = f"float32 on {device}", f"bfloat16 on {device}"
    for kind in (plain, half):
        rows = (
            *_gpt2(size, *dict.fromkeys((plain, kind))),
            *_peers(size, kind, calls=32),
            *_ours(size, OURS, kind),
        )
        name = f"generation-{device}-{kind.split()[0]}-{size.rows}"
        title = f"{what}, batch {size.rows}, {kind}"
        yield Comparison(name, title, rows, repeats=5, peak=False, notes=notes)


def _gpt2(size: Size, *kinds: str) -> Iterator[Variant]:
    for kind in kinds:
        yield Variant(f"GPT-2, {kind}", partial(_build_gpt2, size, kind))


def _build_gpt2(size: Size, kind: str) -> Run:
    model = models.gpt2(size.layers, kind)
    generators.autoregressive(model, 4, size.rows)
    return partial(generators.autoregressive, model, size.length, size.rows)


def _peers(size: Size, kind: str, calls: int) -> Iterator[Variant]:
    yield _peer("plain loop of the blog", generators.plain_refine, size, 10, kind)
    yield _peer("plain confidence", generators.plain_confidence, size, calls, kind)
    if find_spec("diffusers"):
        whole = generators.PROMPT + size.length
        for name, blocks in (("one block", 1), ("8 blocks", 8)):
            loop = partial(_llada2, blocks=blocks, block=whole // blocks)
            yield _peer(f"LLaDA2Pipeline, {name}", loop, size, calls, kind)


def _llada2(*task: Any, blocks: int, block: int) -> Tensor:
    model, mask, calls, length, rows = task
    return generators.llada2(model, mask, max(1, calls // blocks), length, rows, block)


def _peer(name: str, loop: Callable[..., Tensor], size: Size, calls: int, kind: str) -> Variant:
    def build() -> Run:
        model = models.roberta(size.layers, kind)
        loop(model, models.MASK, 1, size.length, size.rows)
        return partial(loop, model, models.MASK, calls, size.length, size.rows)

    return Variant(f"{name}, {calls} calls", build)


def _ours(
    size: Size, choices: tuple[tuple[str, int, float | None, float | None], ...], kind: str
) -> Iterator[Variant]:
    for name, steps, float_limit, int8_limit in choices:
        limit = {"packed": float_limit, "int8": int8_limit}.get(kind) if size.rows == 1 else None
        build = partial(_build, size, name, steps, kind)
        yield Variant(f"{name}, {steps} calls, {kind}", build, limit=limit)


def _build(size: Size, name: str, steps: int, kind: str) -> Run:
    model, mask = models.roberta(size.layers, kind), models.MASK
    if name == "any order with cache":
        network = generators.any_order_of(model, mask)

        def run() -> Tensor:
            session = network.session()
            return generators.ours(session, mask, "ancestral", steps, size.length, size.rows)

        run()
        return run
    denoiser = generators.denoiser_of(model, mask)
    generators.ours(denoiser, mask, name, 1, size.length, size.rows)
    return partial(generators.ours, denoiser, mask, name, steps, size.length, size.rows)
