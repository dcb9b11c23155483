"""Choose a sampler for a model: quality against cost, measured on the user's text.

Quality is the total variation, from 0 to 1, between the character trigrams of generated texts and
those of a reference text. Repetition and nonsense both raise it, and no second model has to judge.
Parts of the reference as long as a generated text give the floor, below which no distance means
anything.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from unmask.errors import UserError
from unmask.evaluation.sampler_study import CANDIDATES, label, pareto_front
from unmask.pipelines.sampler_options import RESTRICTIONS
from unmask.pipelines.unmasker import Unmasker

GRAM = 3
LEAST = 10_000
"""Characters that the reference text must have."""
ALONE = 3
"""Texts that are generated one at a time, to be timed."""


@dataclass(frozen=True)
class Trial:
    """One sampler on one model.

    Attributes:
        sampler: Its name and the options that differ from its defaults.
        calls: Network calls for a text that is generated alone, the mean over ``ALONE`` texts.
        seconds: Seconds for such a text.
        distance: Total variation between its trigrams and those of the reference text.
    """

    sampler: dict[str, Any]
    calls: float
    seconds: float
    distance: float

    @property
    def label(self) -> str:
        """The sampler and its options in words."""
        return label(self.sampler)

    def as_dict(self) -> dict[str, Any]:
        """Return what a card keeps."""
        return {
            "sampler": self.sampler,
            "calls": round(self.calls, 1),
            "seconds_per_text": round(self.seconds, 4),
            "trigram_distance": round(self.distance, 4),
        }


@dataclass(frozen=True)
class Tuning:
    """The measurements of one model.

    Attributes:
        trials: One for each sampler that the model supports.
        floor: Distance of parts of the reference text as long as the longest generated ones.
        refused: The reason, by label, for each sampler that the model does not support.
    """

    trials: list[Trial] = field(default_factory=list)
    floor: float = 0.0
    refused: dict[str, str] = field(default_factory=dict)


def restrictions(sampler: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that decide what may be generated (bans, repetition penalty).

    They affect neither speed nor quality, hold in every trial and are kept whatever is chosen.
    """
    return {key: value for key, value in sampler.items() if key in RESTRICTIONS}


def trigrams(texts: Iterable[str]) -> Counter[str]:
    """Count the trigrams of characters."""
    found: Counter[str] = Counter()
    for text in texts:
        found.update(text[i : i + GRAM] for i in range(len(text) - GRAM + 1))
    return found


def total_variation(one: Counter[str], two: Counter[str]) -> float:
    """Return the total variation between two laws given by counts; 1 if one is empty."""
    if not one or not two:
        return 1.0
    first, second = one.total(), two.total()
    return sum(abs(one[g] / first - two[g] / second) for g in one.keys() | two.keys()) / 2


def measure_samplers(
    unmasker: Unmasker,
    text: str,
    *,
    candidates: Iterable[Mapping[str, Any]] = CANDIDATES,
    length: int = 100,
    rows: int = 16,
    seed: int = 0,
) -> Tuning:
    """Generate with every candidate and compare with a reference text.

    Args:
        unmasker: The model.
        text: The reference; at least 10,000 characters.
        candidates: Samplers as a card stores them: ``name`` and options.
        length: Tokens per text.
        rows: Texts per sampler that are compared with the reference.
        seed: Seed of the random numbers.

    Raises:
        UserError: If the reference is too short for the length, the model cannot generate so many
            tokens, or it supports none of the candidates.
    """
    if len(text) < LEAST:
        raise UserError(f"tuning needs {LEAST:,} characters to compare with, not {len(text):,}")
    _check_length(unmasker, text, length)
    # Other options of the model's own sampler would mix with those of a candidate.
    unmasker = copy.copy(unmasker)
    unmasker.card = replace(unmasker.card, sampler=restrictions(unmasker.card.sampler))
    # Warm up before timing.
    unmasker.generate(length=length, num_samples=rows, seed=seed, sampler="ancestral", steps=1)
    goal, found, size = trigrams([text]), Tuning(), 1
    for sampler in candidates:
        options = {"length": length, "sampler": sampler["name"], **sampler}
        del options["name"]
        try:
            texts = unmasker.generate(num_samples=rows, seed=seed, **options).texts
        except UserError as error:
            found.refused[label(sampler)] = str(error)
            continue
        size = max(size, sum(map(len, texts)) // rows)
        # A user waits for one text, and a batch takes less time than its texts one by one.
        alone = [unmasker.generate(seed=seed + i, **options) for i in range(ALONE)]
        calls, seconds = sum(one.nfe for one in alone), sum(one.seconds for one in alone)
        distance = total_variation(trigrams(texts), goal)
        found.trials.append(Trial(dict(sampler), calls / ALONE, seconds / ALONE, distance))
    if not found.trials:
        reason = next(iter(found.refused.values()))
        raise UserError(f"this model supports none of the samplers: {reason}")
    # Parts from all over the text: adjacent ones would share their topic.
    starts = [i * max(len(text) - size, 0) // rows for i in range(rows)]
    parts = trigrams(text[start : start + size] for start in starts)
    return replace(found, floor=total_variation(parts, goal))


def _check_length(unmasker: Unmasker, text: str, length: int) -> None:
    """Raise a UserError if the reference is not much longer than a generated text."""
    sample = text[:LEAST]
    characters = length * len(sample) // max(len(unmasker.codec.encode(sample)), 1)
    if len(text) < 2 * characters:
        raise UserError(
            f"{length} tokens are about {characters:,} characters and the text to compare with has "
            f"only {len(text):,}; tuning needs at least twice as many, so pass more text or a "
            "smaller length"
        )


def fastest_first(trials: Iterable[Trial]) -> list[Trial]:
    """Return the trials that no other one beats in both seconds and distance, fastest first."""
    return pareto_front(trials, lambda trial: (trial.seconds, trial.distance))


def check_target(seconds: float | None, quality: float | None) -> None:
    """Raise a UserError for a target that no measurement could meet, before any is made."""
    if seconds is not None and quality is not None:
        raise UserError("give a time or a quality to aim at, not both")
    if seconds is not None and not 0 < seconds < math.inf:
        raise UserError(f"the time of a text must be a number of seconds above 0, not {seconds:g}")
    if quality is not None and not 0 < quality <= 1:
        raise UserError(f"the quality is a distance above 0 and at most 1, not {quality:g}")


def best_trial(
    trials: Sequence[Trial], seconds: float | None = None, quality: float | None = None
) -> Trial:
    """Return the best trial within a time, or the fastest one within a distance.

    Args:
        trials: The measurements.
        seconds: Longest time of a text.
        quality: Largest distance; without both limits the best trial of all is returned.

    Raises:
        UserError: As ``check_target``, or if no trial is within the target.
    """
    check_target(seconds, quality)
    front = fastest_first(trials)
    fastest, best = front[0], front[-1]
    if quality is not None:
        good = [trial for trial in front if trial.distance <= quality]
        if not good:
            raise UserError(
                f"no sampler comes within {quality:g} of the text; the nearest is {best.label} "
                f"with {best.distance:.3f}"
            )
        return good[0]
    quick = [trial for trial in front if seconds is None or trial.seconds <= seconds]
    if not quick:
        raise UserError(
            f"no sampler generates a text in {seconds:g} s; the fastest is {fastest.label} with "
            f"{fastest.seconds:.2f} s"
        )
    return quick[-1]
