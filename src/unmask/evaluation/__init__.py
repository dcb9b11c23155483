"""Likelihoods of texts, and samplers against exact laws; loaded on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unmask._names.lazy import lazy

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

__getattr__, __dir__ = lazy(__name__)
