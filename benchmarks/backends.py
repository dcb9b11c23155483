"""Backends for one network: torch, compiled, packed, int8, OpenVINO; on a GPU also bfloat16.

Same weights, same sampler. ``torch.compile``, which the package does not offer, needs a C++
compiler; the exported networks need the extra ``openvino``. Without them they are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from shutil import which

import torch
from transformers import PreTrainedModel

from benchmarks import generators, models
from benchmarks.measure import Comparison, Run, Variant
from unmask.diffusion.denoiser import Denoiser
from unmask.models.runtimes import int8, openvino, openvino_export, packed
from unmask.models.runtimes.openvino import ExportedDenoiser

_STEPS = 10


def comparisons(quick: bool) -> Iterator[Comparison]:
    """Yield RoBERTa-base size and the size of the model in the package."""
    layers, length = (2, 48) if quick else (12, 240)
    kinds = ["torch float32", "torch-packed", "torch-int8"]
    notes: tuple[str, ...] = ()
    if which("g++"):
        kinds.insert(1, "torch compiled")
    else:
        notes = ("Left out: torch.compile; it needs g++.",)
    if openvino.installed():
        kinds += ["openvino float32", "openvino int8"]
    else:
        notes += ("Left out: OpenVINO; it needs pip install 'unmask[openvino]'.",)
    yield from _of_kinds(kinds, layers, length, notes, "float32")
    if models.GPU is not None:
        kinds = [kind for kind in kinds if kind in ("torch float32", "torch compiled")]
        kinds.append("torch bfloat16")
        yield from _of_kinds(kinds, layers, length, (), f"float32 on {models.GPU}")


def _of_kinds(
    kinds: list[str], layers: int, length: int, notes: tuple[str, ...], model: str
) -> Iterator[Comparison]:
    _, _, device = model.partition(" on ")
    for name, make, size in (
        ("base", partial(models.roberta, layers, model), f"{layers} layers of 768"),
        ("bundled", partial(models.bundled_size, model), "size of the bundled model"),
    ):
        what = (
            f"{length} tokens after {generators.PROMPT}, ancestral, {_STEPS} calls, batch 1, {size}"
        )
        yield Comparison(
            f"backends-{name}{device and f'-{device}'}",
            f"{what}, on {device}" if device else what,
            tuple(Variant(kind, partial(_build, make, kind, length)) for kind in kinds),
            peak=not device,
            notes=notes,
        )


def _build(make: Callable[[], PreTrainedModel], kind: str, length: int) -> Run:
    model = make()
    mask = model.config.vocab_size - 1
    denoiser = _denoiser(model, kind, mask)
    generators.ours(denoiser, mask, "ancestral", 1, length)
    return partial(generators.ours, denoiser, mask, "ancestral", _STEPS, length)


def _denoiser(model: PreTrainedModel, kind: str, mask: int) -> Denoiser:
    changed = {"torch-packed": packed.pack, "torch-int8": int8.quantise}
    if kind in changed:
        # The model itself is shared with the other variants.
        return generators.denoiser_of(changed[kind](deepcopy(model)), mask)
    backend, weights = kind.split()
    if weights == "bfloat16":
        model = deepcopy(model).bfloat16()
    if weights == "compiled":
        model = deepcopy(model)
        model.base_model.forward = torch.compile(model.base_model.forward)
    original = generators.denoiser_of(model, mask)
    if backend == "torch":
        return original
    return ExportedDenoiser(openvino.compiled(openvino_export.convert(model, weights)), original)
