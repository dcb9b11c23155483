"""The grids of a study of samplers, and its labels, Pareto front and table.

Two studies use them: ``sampler_benchmark`` measures every sampler with exact denoisers, and
``pipelines.autotune`` measures a model on the user's text. A setting is a sampler with the option
that makes it faster or better: steps, tokens per step, a threshold, a factor, a bound, or the
fraction of tokens to remask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

Option = dict[str, Any]
# Samplers whose number of steps is capped at the sequence length.
UP_TO_LENGTH: tuple[tuple[str, Option], ...] = (
    ("random", {}),
    ("random", {"grid": "cosine"}),
    ("maskgit", {}),
    ("maskgit", {"confidence_metric": "entropy"}),
    ("maskgit", {"alg_temperature": 0.5}),
    ("p2", {}),
)
# Samplers that benefit from more steps than tokens.
BEYOND: tuple[tuple[str, Option], ...] = (
    ("ancestral", {}),
    ("ancestral", {"grid": "uniform"}),
    ("remdm-cap", {}),
    ("remdm-rescale", {}),
    ("remdm-conf", {}),
    ("remdm-loop", {}),
    ("remdm-next-rate", {}),
    ("forward-backward", {}),
    ("refine", {}),
)
# Adaptive samplers, and the option that sets how many tokens they reveal per step.
KNOBS: tuple[tuple[str, str, tuple[float, ...]], ...] = (
    ("threshold", "threshold", (0.3, 0.5, 0.7, 0.9, 0.99)),
    ("fast-dllm-factor", "factor", (0.5, 1.0, 2.0, 4.0)),
    ("entropy-bound", "gamma", (0.0, 0.01, 0.1, 0.3, 1.0, 3.0, 10.0)),
    ("threshold-edit", "edit_threshold", (0.01, 0.1)),
)
# Remasking strengths, and the steps per token of the sequence.
ETAS: tuple[tuple[str, tuple[float, ...], float], ...] = (
    ("remdm-cap", (0.05, 0.2), 2),
    ("remdm-rescale", (0.1, 0.5), 2),
    ("remdm-loop", (0.1,), 2),
    ("p2", (0.0, 0.5, 2.0), 0.25),
)
# Settings for a real network, as a card stores them: from the fastest to the best.
CANDIDATES: tuple[Option, ...] = (
    *({"name": "ancestral", "steps": n} for n in (8, 16, 32, 64, 128)),
    *({"name": "ancestral", "steps": n, "top_p": 0.9} for n in (8, 16, 32, 64)),
    *({"name": "refine", "steps": n} for n in (5, 10, 20)),
    *({"name": "maskgit", "steps": n} for n in (8, 16, 32, 64)),
    *({"name": "maskgit", "steps": n, "alg_temperature": 0.5} for n in (8, 16, 32)),
    *({"name": "p2", "steps": n} for n in (16, 64)),
    *({"name": "remdm-rescale", "steps": n} for n in (32, 128)),
    *({"name": "entropy-bound", "gamma": g} for g in (0.3, 1.0, 3.0, 10.0)),
    *({"name": "threshold", "threshold": p} for p in (0.5, 0.9)),
)
_T = TypeVar("_T")


def settings(steps: Sequence[int], length: int) -> Iterator[tuple[str, Option]]:
    """Yield the name and options of every setting for the benchmark with exact denoisers.

    Args:
        steps: Numbers of steps, for samplers that have this option.
        length: Tokens per sequence, which caps the steps of some samplers.
    """
    capped = sorted({min(n, length) for n in steps})
    for samplers, counts in ((BEYOND, steps), (UP_TO_LENGTH, capped)):
        for name, options in samplers:
            yield from ((name, {**options, "steps": count}) for count in counts)
    for name in ("first-hitting", "left-to-right"):
        for count in sorted({max(length // n, 1) for n in steps}, reverse=True):
            yield name, {"tokens_per_step": count}
    for name, option, values in KNOBS:
        yield from ((name, {option: value}) for value in values)
    for name, etas, share in ETAS:
        yield from ((name, {"eta": eta, "steps": max(round(share * length), 1)}) for eta in etas)
    for name in ("gibbs", "gibbs-sequential"):
        yield from ((name, {"steps": sweeps * length}) for sweeps in (2, 4, 8))


def label(options: Mapping[str, Any]) -> str:
    """Return options as words, the value of ``name`` first: "ancestral, steps 8, top p 0.9"."""
    words = [str(options["name"])] if "name" in options else []
    for key, value in options.items():
        if key != "name":
            number = value if isinstance(value, str) else f"{value:g}"
            words.append(f"{key.replace('_', ' ')} {number}")
    return ", ".join(words)


def pareto_front(found: Iterable[_T], key: Callable[[_T], tuple[float, float]]) -> list[_T]:
    """Return what nothing else beats in both cost and distance, in order of cost.

    Args:
        found: Measurements, in any order.
        key: Returns the cost and the distance of one; lower is better.
    """
    front: list[_T] = []
    for one in sorted(found, key=key):
        if not front or key(one)[1] < key(front[-1])[1]:
            front.append(one)
    return front


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
