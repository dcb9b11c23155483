"""Options of the sequences to generate: how many, how long, and how a long one is cut."""

from __future__ import annotations

from dataclasses import dataclass

from unmask.sampling.samplers.base import MAX_LENGTH
from unmask.validation import Options, flag, option, whole, with_default, word

MAX_TEXTS = 2**20
"""Texts of one call."""
LENGTH_RULES = ("sample", "likeliest")


@dataclass(frozen=True, kw_only=True)
class SampleOptions(Options):
    """How many samples, and with which random numbers."""

    num_samples: int = option(1, "Samples per prompt.", whole, low=1, high=MAX_TEXTS)
    # Every row has a seed of its own, made of this one and its number.
    seed: int = option(
        0,
        "The same seed gives the same result.",
        whole,
        low=-(2**40),
        high=2**40,
        above=True,
        below=True,
    )


@dataclass(frozen=True, kw_only=True)
class LayoutOptions(SampleOptions):
    """How prompts become the sequences that the model sees."""

    length: int | None = option(
        None, "Tokens to generate; 100 or as many as fit.", whole, low=1, high=MAX_LENGTH
    )
    stop_at_end: bool = option(
        False, "Generate nothing after the first end symbol, and skip the calls for it.", flag
    )
    window: int | None = option(
        None, "Tokens of a longer text that the model sees at once.", whole, low=1
    )
    stride: int | None = option(
        None,
        "Tokens that a longer text grows by; half a window.",
        whole,
        low=1,
        unit="in tokens that the window moves by",
    )
    choose_length: str | None = option(
        None,
        "How the length of a blank such as [MASK:3-8] is chosen: sampled from its posterior "
        "(the default) or the most likely one.",
        word,
        choices=LENGTH_RULES,
    )


@dataclass(frozen=True, kw_only=True)
class PairOptions(Options):
    """How the target for a source is generated, by a model that was trained on pairs."""

    candidates: int = option(
        1,
        "Candidates to generate per source; the best is kept (MBR).",
        whole,
        low=1,
        high=1024,
    )
    seed: int = with_default(SampleOptions, "seed", 0)
