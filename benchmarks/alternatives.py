"""Libraries and simpler code in place of parts of this package, timed against these parts.

    python -m benchmarks --only alternatives --no-peak     # all of them
    python -m benchmarks --only alternatives-regex         # with peak memory

The libraries are no dependency of this package: ``pip install torchao outlines-core``. What is not
installed is left out. ``make bench`` does not run this group; docs/experiments.md has the results.
"""

from __future__ import annotations

import gc
import sysconfig
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from shutil import which

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from benchmarks import generators, models
from benchmarks.measure import Comparison, Run, Variant
from unmask.models.runtimes import int8, packed
from unmask.sampling import categorical
from unmask.sampling.categorical import Drawn
from unmask.sampling.constraints.token_automaton import Automaton
from unmask.sampling.token_sampling import Draw

_TOP_P, _ROWS, _STEPS = 0.95, 128, 10
_PATTERNS = {
    "text": r".{0,200}",
    "date": r"[0-9]{4}-[0-9]{2}-[0-9]{2}",
}
_BPE_SIZE = 50257


def comparisons(quick: bool) -> Iterator[Comparison]:
    """Yield top-p, backends, the head of the network and regular expressions."""
    layers, length = (2, 48) if quick else (12, 240)
    yield from _top_p(quick)
    sizes = (
        ("base", partial(models.roberta, layers), f"{layers} layers of 768"),
        ("bundled", models.bundled_size, "size of the bundled model"),
    )
    for name, make, size in sizes:
        yield _top_p_step(name, make, size, length)
        yield _backends(name, make, size, length)
    yield _first_call(models.bundled_size, length)
    yield _head(partial(models.roberta, layers, "packed"), length)
    yield from _regex(2000 if quick else _BPE_SIZE)


# --- top-p ---


@dataclass(frozen=True)
class SortedDraw(Draw):
    """Top-p by sorting all weights; draws the same tokens as ``Draw``.

    Args:
        by: ``numpy``, ``torch``, or ``topk`` for the 1024 largest, and all only if these hold less
            than p.
    """

    by: str = "numpy"

    def _pick(self, logits: Tensor, u: Tensor) -> Drawn:
        weights = categorical.padded_softmax(categorical.cooled(logits.float(), self.temperature))
        return categorical.draw(_sorted_nucleus(weights, self.top_p, self.by), u)


def _sorted_nucleus(weights: Tensor, top_p: float, by: str) -> Tensor:
    """Zero all weights except the largest that together hold ``top_p``; of ties, all stay."""
    whole = weights.sum(1, keepdim=True, dtype=torch.float64)
    if by == "numpy":
        # From the smallest, since NumPy sorts in ascending order.
        ordered = torch.from_numpy(np.sort(weights.numpy(), axis=1))
        first = (ordered.cumsum(1, dtype=torch.float64) <= (1 - top_p) * whole).sum(1, keepdim=True)
        return weights.mul_(weights >= ordered.gather(1, first))
    ordered = weights.topk(min(1024, weights.shape[1]), dim=1).values if by == "topk" else None
    if ordered is None or (ordered.sum(1, keepdim=True) < top_p * whole).any():
        ordered = weights.sort(dim=1, descending=True).values
    reached = ordered.cumsum(1, dtype=torch.float64)
    last = (reached < top_p * whole).sum(1, keepdim=True).clamp_max_(ordered.shape[1] - 1)
    return weights.mul_(weights >= ordered.gather(1, last))


def _draws() -> dict[str, Draw]:
    return {
        "histogram (ours)": Draw(top_p=_TOP_P),
        "np.sort": SortedDraw(top_p=_TOP_P, by="numpy"),
        "torch.topk, else torch.sort": SortedDraw(top_p=_TOP_P, by="topk"),
        "torch.sort": SortedDraw(top_p=_TOP_P, by="torch"),
    }


def _top_p(quick: bool) -> Iterator[Comparison]:
    for vocab in (4000, 50000):
        for kind, spread in (("flat", 0.5), ("peaked", 4.0)):
            yield Comparison(
                f"alternatives-top-p-{vocab}-{kind}",
                f"{_ROWS} draws with top-p {_TOP_P}, V = {vocab}, normal logits of standard "
                f"deviation {spread}",
                tuple(
                    Variant(name, partial(_build_draw, draw, vocab, spread))
                    for name, draw in {**_draws(), "no filter": Draw()}.items()
                ),
                repeats=3 if quick else 15,
                peak=False,
            )


def _build_draw(draw: Draw, vocab: int, spread: float) -> Run:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(_ROWS, vocab, generator=generator) * spread
    u = torch.rand(_ROWS, generator=generator, dtype=torch.float64)
    same = draw(logits, u).tokens == Draw(top_p=_TOP_P)(logits, u).tokens
    if draw.top_p < 1 and not same.all():
        raise AssertionError(f"{draw} draws other tokens")
    return partial(draw, logits, u)


def _top_p_step(
    name: str, make: Callable[[], PreTrainedModel], size: str, length: int
) -> Comparison:
    return Comparison(
        f"alternatives-top-p-step-{name}",
        f"{length} tokens, maskgit, {_STEPS} calls, {size}, packed",
        tuple(
            Variant(label, partial(_build_packed, make, draw, length))
            for label, draw in {"no filter": Draw(), **_draws()}.items()
        ),
        repeats=5,
        peak=False,
    )


def _build_packed(make: Callable[[], PreTrainedModel], draw: Draw, length: int) -> Run:
    model = packed.pack(deepcopy(make()))
    mask = model.config.vocab_size - 1
    denoiser = generators.denoiser_of(model, mask)
    return partial(generators.ours, denoiser, mask, "maskgit", _STEPS, length, draw=draw)


# --- backends ---


def _backends(name: str, make: Callable[[], PreTrainedModel], size: str, length: int) -> Comparison:
    kinds = ["torch float32", "torch-packed", "torch-int8"]
    if which("g++"):
        kinds += ["torch.compile", "torch.compile with freezing"]
    if find_spec("torchao"):
        kinds += ["torchao int8"]
    return Comparison(
        f"alternatives-backends-{name}",
        f"{length} tokens, ancestral, {_STEPS} calls, batch 1, {size}",
        tuple(Variant(kind, partial(_build_backend, make, kind, length)) for kind in kinds),
        repeats=5,
        peak=False,
    )


def _build_backend(make: Callable[[], PreTrainedModel], kind: str, length: int) -> Run:
    model = deepcopy(make())
    mask = model.config.vocab_size - 1
    if kind == "torch-packed":
        packed.pack(model)
    elif kind == "torch-int8":
        int8.quantise(model)
    elif kind == "torchao int8":
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

        quantize_(model, Int8DynamicActivationInt8WeightConfig())
    elif kind != "torch float32":
        options = {"freezing": True} if kind.endswith("freezing") else None
        model.base_model.forward = torch.compile(model.base_model.forward, options=options)
    denoiser = generators.denoiser_of(model, mask)
    # Warm up on the same shapes, which compiles.
    run = partial(generators.ours, denoiser, mask, "ancestral", _STEPS, length)
    run()
    return run


def _first_call(make: Callable[[], PreTrainedModel], length: int) -> Comparison:
    """Time the preparation of a backend and its first text, without the cache of the compiler."""
    kinds = ["torch float32", "torch-packed"]
    kinds += ["torch.compile", "torch.compile with freezing"] if which("g++") else []
    return Comparison(
        "alternatives-first-call",
        f"preparation and the first {length} tokens, size of the bundled model",
        tuple(Variant(kind, partial(_build_first, make, kind, length)) for kind in kinds),
        repeats=1,
        peak=False,
    )


def _build_first(make: Callable[[], PreTrainedModel], kind: str, length: int) -> Run:
    import torch._inductor.config as inductor

    def run() -> None:
        torch.compiler.reset()
        with inductor.patch(force_disable_caches=True):
            _build_backend(make, kind, length)

    return run


# --- logits at all positions ---


def _head(make: Callable[[], PreTrainedModel], length: int) -> Comparison:
    counts = {
        f"{share} of {length} positions": share for share in (length // _STEPS, length // 2, length)
    }
    return Comparison(
        "alternatives-head",
        "one call of a packed encoder: logits at the queried positions",
        tuple(Variant(name, partial(_build_head, make, n, length)) for name, n in counts.items()),
        repeats=15,
        peak=False,
    )


def _build_head(make: Callable[[], PreTrainedModel], count: int, length: int) -> Run:
    model = make()
    ids = generators.prompt(length // generators.PROMPT, model.config.vocab_size, model.device)
    ids = ids.flatten()[None]

    @torch.no_grad()
    def run() -> None:
        model.lm_head(model.base_model(input_ids=ids).last_hidden_state[:, :count])

    run()
    return run


# --- regular expressions ---


def _regex(size: int) -> Iterator[Comparison]:
    kinds = {"ours": _ours_regex}
    notes: tuple[str, ...] = ("Left out: outlines-core; it is not installed.",)
    if find_spec("outlines_core"):
        kinds |= {"outlines-core": _outlines, "outlines-core, as tensors": _outlines_tensors}
        notes = ()
    for name, pattern in _PATTERNS.items():
        yield Comparison(
            f"alternatives-regex-{name}",
            f"the automaton of {pattern} over {size} byte-level tokens",
            tuple(
                Variant(kind, partial(_build_regex, build, pattern, size))
                for kind, build in kinds.items()
            ),
            repeats=3,
            notes=notes,
        )


def _build_regex(build: Callable[[str, dict[bytes, int]], object], pattern: str, size: int) -> Run:
    return partial(build, pattern, _vocabulary(size))


@cache
def _vocabulary(size: int) -> dict[bytes, int]:
    """Return a byte-level BPE trained on the source files of Python's standard library."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    stdlib = Path(sysconfig.get_paths()["stdlib"])
    files = sorted([*stdlib.glob("*.py"), *stdlib.glob("[a-z]*/*.py")])
    texts = (file.read_text("utf-8", "ignore") for file in files if file.parent.name != "test")
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(texts, vocab_size=size, min_frequency=1, show_progress=False)
    byte = {character: value for value, character in bytes_to_unicode().items()}
    return {bytes(byte[c] for c in word): i for word, i in tokenizer.get_vocab().items()}


def _ours_regex(pattern: str, vocabulary: dict[bytes, int]) -> Automaton:
    texts = {}
    for word, token in vocabulary.items():
        text = word.decode("utf-8", "replace")
        if "\N{REPLACEMENT CHARACTER}" not in text:
            texts[token] = text
    return Automaton.from_regex(pattern, texts, len(vocabulary))


def _outlines(pattern: str, vocabulary: dict[bytes, int]) -> object:
    from outlines_core import Index, Vocabulary

    words = {word: [token] for word, token in vocabulary.items()}
    # Like ours, which ignores one space in front.
    return Index(f" ?(?:{pattern})", Vocabulary(len(vocabulary), words))


def _outlines_tensors(pattern: str, vocabulary: dict[bytes, int]) -> Automaton:
    """Return the sums' automaton from the transitions of outlines-core."""
    index = _outlines(pattern, vocabulary)
    steps, end = index.get_transitions(), len(vocabulary)
    final = index.get_final_states()
    start = index.get_initial_state()
    states = sorted({*steps, *final, *(t for row in steps.values() for t in row.values())})
    states.remove(start)
    number = {state: i for i, state in enumerate([start, *states], start=1)}
    table = torch.zeros(len(number) + 1, end + 1, dtype=torch.int32)
    for state, row in steps.items():
        tokens = torch.tensor([token for token in row if token != end], dtype=torch.int64)
        targets = [number[target] for token, target in row.items() if token != end]
        table[number[state], tokens] = torch.tensor(targets, dtype=torch.int32)
    del steps, index
    gc.collect()
    columns, of_token = table.unique(dim=1, return_inverse=True)
    accepting = torch.tensor([False, *(state in final for state in [start, *states])])
    return Automaton(of_token[:-1], columns.long(), accepting)
