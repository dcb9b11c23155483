"""Likelihoods of texts, and samplers against exact laws; loaded on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unmask.evaluation.likelihood import bound_of_rows, bound_of_tokens, score_text
    from unmask.evaluation.report import difference_table, legend, lines, table
    from unmask.evaluation.sampler_benchmark import Measured, against_joint, against_text, true_text
    from unmask.evaluation.scores import Difference, Score

__all__ = [
    "Difference",
    "Measured",
    "Score",
    "against_joint",
    "against_text",
    "bound_of_rows",
    "bound_of_tokens",
    "difference_table",
    "legend",
    "lines",
    "score_text",
    "table",
    "true_text",
]

_HOMES = {
    "Difference": "scores",
    "Measured": "sampler_benchmark",
    "Score": "scores",
    "against_joint": "sampler_benchmark",
    "against_text": "sampler_benchmark",
    "bound_of_rows": "likelihood",
    "bound_of_tokens": "likelihood",
    "difference_table": "report",
    "legend": "report",
    "lines": "report",
    "score_text": "likelihood",
    "table": "report",
    "true_text": "sampler_benchmark",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
