r"""Samplers measured against the truth, with exact denoisers instead of a network.

Every error that is seen is then the sampler's own. Two worlds, in both of which p(x_i | visible
tokens) is known:

    a joint that is enumerated     KL(law of the sampler || p), from many rows
    a chain of order 2 of letters  what a row costs under p, above the true entropy, and how far the
                                   trigrams that are written are from those of the chain

A sampler that writes one token a step, in an order that does not depend on its guesses, has the law
of the data. All others pay for writing several tokens at once as if they were independent, or for
preferring what they are sure of; both numbers show how much, by network call.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from unmask.canvas import Canvas
from unmask.denoiser import Denoiser
from unmask.draw import Draw
from unmask.noise import Noise
from unmask.oracle import JointOracle
from unmask.oracle_chain import SecondOrderOracle
from unmask.presets import Preset, make_preset
from unmask.process import AbsorbingProcess
from unmask.sampler import sample
from unmask.schedule import make_schedule

ALPHABET = " abcdefghijklmnopqrstuvwxyz"
# Samplers that decide themselves how much they write in a step, and the number that they decide by.
KNOBS = {
    "confidence": ("threshold", (0.3, 0.5, 0.7, 0.9, 0.99)),
    "confidence-factor": ("factor", (0.5, 1.0, 2.0, 4.0)),
    "entropy-bound": ("gamma", (0.01, 0.1, 0.3, 1.0, 3.0)),
}
# Those that take a number of steps.
BY_STEPS = (
    "ancestral",
    "random-quota",
    "schedule-confidence",
    "remask-rescaled",
    "remask-loop",
    "keep-likeliest",
    "refine",
)


@dataclass(frozen=True)
class Measured:
    """What one sampler did with one number of steps.

    Attributes:
        sampler: Its name.
        setting: What differs from its preset.
        calls: Calls of the denoiser for the whole batch.
        seconds: Time that it took, denoiser included.
        error: Nats. In the enumerated world KL(law || p) of a row, corrected for the number of
            rows; in the world of letters the mean of -log p(row) above the entropy, per token:
            negative where the sampler writes what is likelier than the truth is.
        trigrams: Total variation between the trigrams written and those of the chain, from 0 to 1;
            None in the enumerated world.
    """

    sampler: str
    setting: str
    calls: int
    seconds: float
    error: float
    trigrams: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return all fields by name."""
        return dict(vars(self))


def letters(text: str) -> Tensor:
    """Return a text as ids of 27 symbols, lower-case letters and one space between words, (N,)."""
    kept = "".join(c if c in ALPHABET else " " for c in text.lower())
    return torch.tensor([ALPHABET.index(c) for c in " ".join(kept.split())])


def exactly(name: str, **options: Any) -> Preset:
    """Return a preset that draws from the guesses as they are: no temperature, no filters."""
    return replace(make_preset(name, **options), draw=Draw())


def small_joint() -> JointOracle:
    """Return the enumerated world of the command line: four tokens of three kinds, any joint."""
    generator = torch.Generator().manual_seed(7)
    noise = torch.rand((3,) * 4, dtype=torch.float64, generator=generator)
    weights = 0.1 - noise.log()
    return JointOracle(weights / weights.sum())


def write(
    denoiser: Denoiser, mask_token_id: int, preset: Preset, rows: int, length: int, seed: int
) -> tuple[Tensor, int, float]:
    """Write rows from nothing; return them (B, L), the calls and the seconds."""
    canvas = Canvas.from_rows([[None] * length] * rows, mask_token_id, mask_token_id)
    process = AbsorbingProcess(make_schedule("linear"), mask_token_id)
    noise = Noise(torch.arange(rows) + seed * rows)
    begun = time.perf_counter()
    *_, last = sample(
        denoiser, process, canvas, preset.policy, preset.drawing, preset.times(length), noise
    )
    return last.canvas.ids, last.nfe, time.perf_counter() - begun


def against_joint(
    oracle: JointOracle,
    name: str,
    setting: str,
    preset: Preset,
    rows: int = 20_000,
    seed: int = 0,
) -> Measured:
    """Measure a sampler in the enumerated world; see ``Measured``."""
    ids, calls, seconds = write(oracle, oracle.mask_token_id, preset, rows, oracle.length, seed)
    size = oracle.vocab_size
    place = torch.tensor([size**i for i in reversed(range(oracle.length))])
    share = torch.bincount((ids * place).sum(1), minlength=size**oracle.length).double() / rows
    divergence = (torch.xlogy(share, share) - torch.xlogy(share, oracle.probs.flatten())).sum()
    # The plug-in estimate is too large by (cells - 1) / 2N (Miller 1955).
    bias = (int((oracle.probs > 0).sum()) - 1) / (2 * rows)
    return Measured(name, setting, calls, seconds, float(divergence) - bias)


def against_text(
    oracle: SecondOrderOracle,
    name: str,
    setting: str,
    preset: Preset,
    rows: int = 64,
    length: int = 128,
    seed: int = 0,
) -> Measured:
    """Measure a sampler in the world of letters; see ``Measured``."""
    ids, calls, seconds = write(oracle, oracle.mask_token_id, preset, rows, length, seed)
    return _judged(oracle, (name, setting), ids, calls, seconds)


def true_text(oracle: SecondOrderOracle, rows: int, length: int, seed: int) -> Measured:
    """Return what rows of the chain itself measure: the floor that so many rows allow."""
    generator = torch.Generator().manual_seed(seed)
    ids = oracle.sequences(rows, length, generator)
    return _judged(oracle, ("the truth", ""), ids, 0, 0.0)


def _judged(
    oracle: SecondOrderOracle, names: tuple[str, str], ids: Tensor, calls: int, seconds: float
) -> Measured:
    length = ids.shape[1]
    error = float(-oracle.log_prob(ids).mean()) - oracle.entropy(length)
    written = SecondOrderOracle.triples(ids, oracle.vocab_size)
    distance = (written / written.sum() - oracle.triple_law(length)).abs().sum() / 2
    return Measured(*names, calls, seconds, error / length, float(distance))


def settings(steps: Sequence[int], length: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the samplers to measure, and the option by which each is made faster or better.

    Args:
        steps: Numbers of steps of those that take one.
        length: Tokens of a row; steps beyond it are left out where they change nothing.
    """
    for name in BY_STEPS:
        for count in steps:
            yield name, {"steps": count}
    for name in ("left-to-right", "first-hitting"):
        for count in sorted({max(length // n, 1) for n in steps}, reverse=True):
            yield name, {"tokens_per_step": count}
    for name, (option, values) in KNOBS.items():
        for value in values:
            yield name, {option: value}
