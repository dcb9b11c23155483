"""Samplers by name: grid x policy x draw, with the defaults of the paper that proposed each.

ancestral             exact reverse process, random order        MD4, arXiv:2406.04329
refine                guess all, hide again at the next rate     RoBERTa diffusion, blog of 2025
confidence            all above a threshold, else the surest     RoBERTa diffusion, repository
schedule-confidence   a fixed number of the surest every step    MaskGIT, LLaDA
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from unmask.draw import Draw
from unmask.errors import UserError, did_you_mean
from unmask.policy import MostConfident, Policy, RandomOrder, Renoise
from unmask.schedule import time_grid

MAX_STEPS = 100_000


@dataclass(frozen=True)
class Preset:
    """A named sampler.

    Attributes:
        policy: Which positions.
        draw: Which token.
        steps: Default number of steps; None takes as many as there are masks.
        grid: ``uniform`` or ``cosine``.
    """

    policy: Policy
    draw: Draw
    steps: int | None
    grid: str = "uniform"

    def times(self, masks: int) -> Tensor:
        """Return the time grid for a canvas whose fullest row has this many masks."""
        return time_grid(max(self.steps or masks, 1), self.grid)


PRESETS: dict[str, Preset] = {
    "ancestral": Preset(RandomOrder(), Draw(), steps=64, grid="cosine"),
    "refine": Preset(Renoise(), Draw(top_k=50, top_p=0.95), steps=10),
    "confidence": Preset(
        MostConfident(threshold=0.9, paced=False), Draw(temperature=0.8, greedy=True), steps=None
    ),
    "schedule-confidence": Preset(MostConfident(), Draw(top_p=0.95), steps=32),
}


def make_preset(
    name: str,
    *,
    steps: int | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    threshold: float | None = None,
) -> Preset:
    """Return a named sampler with some of its numbers changed.

    Args:
        name: A key of ``PRESETS``.
        steps: Number of steps. For ``confidence`` the most that it may take: it reveals what is
            above the threshold, and as many more as are needed to finish in time.
        temperature: Divides the logits; 0 takes the most likely token.
        top_k: Draw among the k most likely tokens.
        top_p: Draw among the fewest tokens that hold this much probability.
        threshold: For ``confidence``, the probability at which a token is revealed at once.

    Raises:
        UserError: If the name is unknown, a number is out of range, or an option has no effect on
            this sampler.
    """
    if name not in PRESETS:
        raise UserError(f"unknown sampler {name!r}{did_you_mean(name, PRESETS)}")
    preset = PRESETS[name]
    if threshold is not None:
        preset = replace(preset, policy=_with_threshold(name, preset.policy, threshold))
    if steps is not None:
        if not 1 <= steps <= MAX_STEPS:
            raise UserError(f"steps must be from 1 to {MAX_STEPS}, not {steps}")
        policy = preset.policy
        if isinstance(policy, MostConfident):
            policy = replace(policy, paced=True)
        preset = replace(preset, steps=steps, policy=policy)
    changes: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    changes = {key: value for key, value in changes.items() if value is not None}
    if temperature == 0:
        # Filters that the user did not ask for must not stand in the way of the most likely token.
        changes = {"top_k": None, "top_p": 1.0} | changes
    return replace(preset, draw=replace(preset.draw, **changes))


def _with_threshold(name: str, policy: Policy, threshold: float) -> Policy:
    if not isinstance(policy, MostConfident) or policy.threshold is None:
        raise UserError(f"sampler {name!r} has no threshold; use 'confidence'")
    return replace(policy, threshold=threshold)
