"""Which samplers are measured against the truth, and with which settings: every preset.

A setting is a preset and the options by which it is made faster or better: steps, tokens a step, a
threshold, a factor, a bound, or how much is hidden again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

Option = dict[str, Any]
# Samplers that take a number of steps, of which more than tokens change nothing.
UP_TO_LENGTH: tuple[tuple[str, Option], ...] = (
    ("random", {}),
    ("random", {"grid": "cosine"}),
    ("maskgit", {}),
    ("maskgit", {"confidence_metric": "entropy"}),
    ("maskgit", {"alg_temperature": 0.5}),
    ("p2", {}),
)
# And those that have use for more.
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
# Samplers that decide themselves how much they write in a step, and the number that they decide by.
KNOBS: tuple[tuple[str, str, tuple[float, ...]], ...] = (
    ("threshold", "threshold", (0.3, 0.5, 0.7, 0.9, 0.99)),
    ("fast-dllm-factor", "factor", (0.5, 1.0, 2.0, 4.0)),
    ("entropy-bound", "gamma", (0.0, 0.01, 0.1, 0.3, 1.0, 3.0, 10.0)),
    ("threshold-edit", "edit_threshold", (0.01, 0.1)),
)
# How much is hidden again, and the steps by the tokens of a row.
ETAS: tuple[tuple[str, tuple[float, ...], float], ...] = (
    ("remdm-cap", (0.05, 0.2), 2),
    ("remdm-rescale", (0.1, 0.5), 2),
    ("remdm-loop", (0.1,), 2),
    ("p2", (0.0, 0.5, 2.0), 0.25),
)


def settings(steps: Sequence[int], length: int) -> Iterator[tuple[str, Option]]:
    """Yield all samplers, with the options by which each is made faster or better.

    Args:
        steps: Numbers of steps of those that take one.
        length: Tokens of a row; steps beyond it are left out where they change nothing.
    """
    for samplers, counts in (
        (BEYOND, steps),
        (UP_TO_LENGTH, sorted({min(n, length) for n in steps})),
    ):
        for name, options in samplers:
            for count in counts:
                yield name, {**options, "steps": count}
    for name in ("first-hitting", "left-to-right"):
        for count in sorted({max(length // n, 1) for n in steps}, reverse=True):
            yield name, {"tokens_per_step": count}
    for name, option, values in KNOBS:
        for value in values:
            yield name, {option: value}
    for name, etas, share in ETAS:
        for eta in etas:
            yield name, {"eta": eta, "steps": max(round(share * length), 1)}
    for name in ("gibbs", "gibbs-sequential"):
        for sweeps in (2, 4, 8):
            yield name, {"steps": sweeps * length}


def label(options: Option) -> str:
    """Return options in words."""
    return ", ".join(
        f"{key.replace('_', ' ')} {value if isinstance(value, str) else f'{value:g}'}"
        for key, value in options.items()
    )
