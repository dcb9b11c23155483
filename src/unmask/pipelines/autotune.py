r"""Which sampler for this model: quality against cost, measured on the user's text.

Quality is how far the character trigrams of what is written are from those of a text (the total
variation, from 0 to 1): repetition and nonsense both raise it, and no model has to judge another.
A part of the text as long as what is written gives the floor below which nothing can be told apart.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from unmask.errors import UserError
from unmask.pipelines.sampler_options import RESTRICTIONS
from unmask.pipelines.unmasker import Unmasker

GRAM = 3
LEAST = 10_000
ALONE = 3
"""Texts that are written one by one, to be timed."""

# Settings that span what there is, from the fastest to the best.
CANDIDATES: tuple[dict[str, Any], ...] = (
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


@dataclass(frozen=True)
class Trial:
    """One sampler on one model.

    Attributes:
        sampler: Its name and the numbers that differ from its preset.
        calls: Network calls of a text that is written alone.
        seconds: Of such a text.
        distance: Total variation between the trigrams written and those of the text.
    """

    sampler: dict[str, Any]
    calls: float
    seconds: float
    distance: float

    @property
    def label(self) -> str:
        """The sampler and its numbers in words."""
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
    """What was measured.

    Attributes:
        trials: Of the samplers that the model can use.
        floor: Distance of a part of the text as long as what one of them wrote.
        refused: Why, by label of each sampler that it cannot use.
    """

    trials: list[Trial] = field(default_factory=list)
    floor: float = 0.0
    refused: dict[str, str] = field(default_factory=dict)


def restrictions(sampler: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a sampler says that is no matter of speed or quality: what is not to be written.

    It holds in every trial and stays whatever is chosen.
    """
    return {key: value for key, value in sampler.items() if key in RESTRICTIONS}


def label(sampler: Mapping[str, Any]) -> str:
    """Return a sampler and its numbers in words."""
    rest = (f"{k.replace('_', ' ')} {v:g}" for k, v in sampler.items() if k != "name")
    return ", ".join([sampler["name"], *rest])


def profile(texts: Iterable[str]) -> Counter[str]:
    """Count the trigrams of characters."""
    found: Counter[str] = Counter()
    for text in texts:
        found.update(text[i : i + GRAM] for i in range(len(text) - GRAM + 1))
    return found


def distance(one: Counter[str], two: Counter[str]) -> float:
    """Return the total variation between two profiles, from 0 to 1; 1 if one is empty."""
    if not one or not two:
        return 1.0
    first, second = one.total(), two.total()
    return sum(abs(one[g] / first - two[g] / second) for g in one.keys() | two.keys()) / 2


def measure(
    writer: Unmasker,
    text: str,
    *,
    candidates: Sequence[Mapping[str, Any]] = CANDIDATES,
    length: int = 100,
    rows: int = 16,
    seed: int = 0,
    advance: Callable[[], None] = lambda: None,
) -> Tuning:
    """Write with every candidate and compare with a text.

    Args:
        writer: The model.
        text: What it should write like; at least 10,000 characters.
        candidates: Samplers as a card has them: ``name`` and numbers.
        length: Tokens of a text.
        rows: Texts of each sampler, to be compared.
        seed: Of the random numbers.
        advance: Called after each candidate.

    Raises:
        UserError: If the text is too short for the length, the model cannot write so much, or none
            of the candidates can be used with it.
    """
    if len(text) < LEAST:
        raise UserError(f"tuning needs {LEAST:,} characters to compare with, not {len(text):,}")
    _check_length(writer, text, length)
    # What the model's own sampler says besides would be mixed into a candidate's numbers.
    writer = copy.copy(writer)
    writer.card = replace(writer.card, sampler=restrictions(writer.card.sampler))
    wishes: dict[str, Any] = {"length": length, "num_samples": rows, "seed": seed}
    # Whatever is done on first use is no time of the first candidate.
    writer.generate(**wishes, sampler="ancestral", steps=1)
    goal, trials, refused, size = profile([text]), [], {}, 1
    for sampler in candidates:
        options = {key: value for key, value in sampler.items() if key != "name"}
        try:
            result = writer.generate(**wishes, sampler=sampler["name"], **options)
        except UserError as error:
            refused[label(sampler)] = str(error)
        else:
            size = max(size, sum(map(len, result.texts)) // rows)
            far = distance(profile(result.texts), goal)
            # A batch takes less than all its texts, and a text is what will be waited for.
            alone = [
                writer.generate(length=length, seed=seed + i, sampler=sampler["name"], **options)
                for i in range(ALONE)
            ]
            seconds = sum(one.seconds for one in alone) / ALONE
            trials.append(Trial(dict(sampler), sum(one.nfe for one in alone) / ALONE, seconds, far))
        advance()
    if not trials:
        raise UserError(f"this model can use none of the samplers: {next(iter(refused.values()))}")
    # Parts from all over the text: neighbours would share their topic.
    places = [i * max(len(text) - size, 0) // rows for i in range(rows)]
    return Tuning(trials, distance(profile(text[p : p + size] for p in places), goal), refused)


def _check_length(writer: Unmasker, text: str, length: int) -> None:
    """Raise a UserError if the text is about as long as what is compared with it, or shorter."""
    sample = text[:LEAST]
    characters = length * len(sample) // max(len(writer.codec.encode(sample)), 1)
    if len(text) < 2 * characters:
        raise UserError(
            f"{length} tokens are about {characters:,} characters and the text to compare with has "
            f"only {len(text):,}; tuning needs at least twice as many, so pass more text or a "
            "smaller length"
        )


def frontier(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials that no other one beats in both seconds and distance, fastest first."""
    best: list[Trial] = []
    for trial in sorted(trials, key=lambda t: (t.seconds, t.distance)):
        if not best or trial.distance < best[-1].distance:
            best.append(trial)
    return best


def check_target(seconds: float | None, quality: float | None) -> None:
    """Raise a UserError for a target that no measurement could meet, before any is made."""
    if seconds is not None and quality is not None:
        raise UserError("give a time or a quality to aim at, not both")
    if seconds is not None and not 0 < seconds < math.inf:
        raise UserError(f"the time of a text must be a number of seconds above 0, not {seconds:g}")
    if quality is not None and not 0 < quality <= 1:
        raise UserError(f"the quality is a distance above 0 and at most 1, not {quality:g}")


def choose(
    trials: Sequence[Trial], seconds: float | None = None, quality: float | None = None
) -> Trial:
    """Return the best trial within a time, or the fastest one of a quality.

    Args:
        trials: What was measured.
        seconds: The most that a text may take.
        quality: The largest distance; with neither the best of all is returned.

    Raises:
        UserError: As ``check_target``, or if none is within the target.
    """
    check_target(seconds, quality)
    ranked = frontier(trials)
    if quality is not None:
        good = [trial for trial in ranked if trial.distance <= quality]
        if not good:
            raise UserError(
                f"no sampler comes within {quality:g} of the text; the nearest is "
                f"{ranked[-1].label} with {ranked[-1].distance:.3f}"
            )
        return good[0]
    quick = ranked if seconds is None else [t for t in ranked if t.seconds <= seconds]
    if not quick:
        raise UserError(
            f"no sampler writes a text in {seconds:g} s; the fastest is {ranked[0].label} with "
            f"{ranked[0].seconds:.2f} s"
        )
    return quick[-1]
