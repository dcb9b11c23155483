"""Minimum Bayes risk: the candidate that agrees most with all other candidates.

    argmax_c  sum over the other candidates c' of BLEU(hypothesis c, reference c')

A candidate is not its own reference: the smoothed BLEU of a text with itself grows with its length,
and a long outlier would win. Another candidate with the same text is a reference. Sentence BLEU is
that of NLTK, up to 4-grams of words separated by white space, with smoothing method 4.

References: Kumar, Byrne 2004, "Minimum Bayes-Risk Decoding for Statistical Machine Translation",
NAACL; Chen, Cherry 2014, "A Systematic Comparison of Smoothing Techniques for Sentence-Level BLEU",
WMT (method 4); as in He et al. 2022, arXiv:2211.15029.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

from unmask.errors import UserError

Utility: TypeAlias = Callable[[str, str], float]
"""(hypothesis, reference) -> the quality of the hypothesis if the reference is right."""


def bleu() -> Utility:
    """Return the sentence BLEU of a hypothesis, from 0 to 1.

    Raises:
        UserError: If NLTK is not installed.
    """
    try:
        from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
    except ImportError as error:
        missing = error.name or "a library"
        raise UserError(
            f"choosing among candidates needs {missing}, which is not installed; "
            "run: pip install 'unmask[metrics]'"
        ) from error
    smoothing = SmoothingFunction().method4

    def utility(hypothesis: str, reference: str) -> float:
        words = hypothesis.split()
        return float(sentence_bleu([reference.split()], words, smoothing_function=smoothing))

    return utility


def choose(candidates: Sequence[str], utility: Utility) -> int:
    """Return the index of the candidate with the highest utility over the others; ties: first."""
    totals = [
        math.fsum(utility(one, other) for j, other in enumerate(candidates) if j != i)
        for i, one in enumerate(candidates)
    ]
    return totals.index(max(totals))
