"""Samplers by name: grid x policy x draw, with the defaults of the paper that proposed each.

ancestral             exact reverse process, random order        MD4, arXiv:2406.04329
refine                guess all, hide again at the next rate     RoBERTa diffusion, blog of 2025
confidence            all above a threshold, else the surest     RoBERTa diffusion, repository
schedule-confidence   a fixed number of the surest every step    MaskGIT, LLaDA
gibbs                 hide and redraw one random position        BERT-Mouth, arXiv:1902.04094
gibbs-sequential      the same from left to right, in sweeps     BERT-Mouth
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from unmask.draw import BurnIn, Draw
from unmask.errors import UserError, did_you_mean
from unmask.policy import Gibbs, MostConfident, Policy, RandomOrder, Renoise
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
        burn_in: Steps at the beginning that draw without top-k and top-p.
    """

    policy: Policy
    draw: Draw
    steps: int | None
    grid: str = "uniform"
    burn_in: int = 0

    @property
    def drawing(self) -> Draw | BurnIn:
        """Which token, step by step."""
        if not self.burn_in:
            return self.draw
        return BurnIn(self.burn_in, Draw(self.draw.temperature), self.draw)

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
    "gibbs": Preset(Gibbs(), Draw(top_k=100), steps=500, burn_in=250),
    "gibbs-sequential": Preset(Gibbs(sequential=True), Draw(top_k=100), steps=500, burn_in=250),
}


def make_preset(
    name: str,
    *,
    steps: int | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    threshold: float | None = None,
    burn_in: int | None = None,
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
        burn_in: For ``gibbs``, how many steps draw among all tokens at first; half of the steps if
            only these are given.

    Raises:
        UserError: If the name is unknown, a number is out of range, or an option has no effect on
            this sampler.
    """
    if name not in PRESETS:
        raise UserError(f"unknown sampler {name!r}{did_you_mean(name, PRESETS)}")
    preset = PRESETS[name]
    if threshold is not None:
        preset = replace(preset, policy=_with_threshold(name, preset.policy, threshold))
    if burn_in is not None and not isinstance(preset.policy, Gibbs):
        raise UserError(f"sampler {name!r} has no burn-in; use 'gibbs'")
    if steps is not None:
        if not 1 <= steps <= MAX_STEPS:
            raise UserError(f"steps must be from 1 to {MAX_STEPS}, not {steps}")
        policy = preset.policy
        if isinstance(policy, MostConfident):
            policy = replace(policy, paced=True)
        preset = replace(preset, steps=steps, policy=policy)
    if isinstance(preset.policy, Gibbs):
        preset = replace(preset, burn_in=(preset.steps or 0) // 2 if burn_in is None else burn_in)
        if not 0 <= preset.burn_in <= (preset.steps or 0):
            raise UserError(f"burn-in must be from 0 to the {preset.steps} steps, not {burn_in}")
    changes: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    changes = {key: value for key, value in changes.items() if value is not None}
    if temperature == 0:
        # Filters that the user did not ask for must not stand in the way of the most likely token.
        changes = {"top_k": None, "top_p": 1.0} | changes
    return replace(preset, draw=replace(preset.draw, **changes))


def choose_preset(
    saved: Mapping[str, Any], options: Mapping[str, Any]
) -> tuple[Preset, dict[str, Any]]:
    """Return the sampler that is asked for, and the settings that are then in force.

    Args:
        saved: Name and options of a model's own sampler; its options belong to its name only.
        options: ``sampler`` and the numbers of ``make_preset`` that differ; None is not said.

    Raises:
        UserError: As ``make_preset``, or if there is no such option.
    """
    wished = {key: value for key, value in options.items() if value is not None}
    name = wished.pop("sampler", None) or saved.get("name", "ancestral")
    numbers = {k: v for k, v in saved.items() if k != "name" and name == saved.get("name")}
    if wished.get("temperature") == 0:
        numbers = {k: v for k, v in numbers.items() if k not in ("top_k", "top_p")}
    try:
        preset = make_preset(name, **(numbers | wished))
    except TypeError as error:
        unknown = str(error).rpartition(" ")[2]
        raise UserError(f"there is no sampler option {unknown}") from error
    settings = {
        "sampler": name,
        "steps": preset.steps,
        "temperature": preset.draw.temperature,
        "top_k": preset.draw.top_k,
        "top_p": preset.draw.top_p,
    }
    if isinstance(preset.policy, MostConfident) and preset.policy.threshold is not None:
        settings["threshold"] = preset.policy.threshold
    if preset.burn_in:
        settings["burn_in"] = preset.burn_in
    return preset, settings


def _with_threshold(name: str, policy: Policy, threshold: float) -> Policy:
    if not isinstance(policy, MostConfident) or policy.threshold is None:
        raise UserError(f"sampler {name!r} has no threshold; use 'confidence'")
    return replace(policy, threshold=threshold)
