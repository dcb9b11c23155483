"""Samplers by name: grid x policy x draw, with the defaults of the paper that proposed each.

ancestral             exact reverse process, random order        MD4, arXiv:2406.04329
refine                guess all, hide again at the next rate     RoBERTa diffusion, blog of 2025
confidence            all above a threshold, else the surest     RoBERTa diffusion, repository
schedule-confidence   a fixed number of the surest every step    MaskGIT, LLaDA
gibbs                 hide and redraw one random position        BERT-Mouth, arXiv:1902.04094
gibbs-sequential      the same from left to right, in sweeps     BERT-Mouth
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from unmask.draw import BurnIn, Draw
from unmask.errors import UserError, did_you_mean
from unmask.policy import Gibbs, MostConfident, Policy, RandomOrder, Renoise
from unmask.restriction import Restriction
from unmask.schedule import GRIDS, given_grid, time_grid

MAX_STEPS = 100_000
FILTERS: dict[str, Any] = {"top_k": None, "top_p": 1.0, "min_p": 0.0, "top_p_crossing": "keep"}
"""What keeps tokens out of a draw, with the values that let all in."""


@dataclass(frozen=True)
class Preset:
    """A named sampler.

    Attributes:
        policy: Which positions.
        draw: Which token.
        steps: Default number of steps; None takes as many as there are masks.
        grid: ``uniform``, ``cosine``, or the times themselves, of which there are steps + 1.
        burn_in: Steps at the beginning that draw without top-k and top-p.
        restriction: What is not written, or less willingly.
    """

    policy: Policy
    draw: Draw
    steps: int | None
    grid: str | tuple[float, ...] = "uniform"
    burn_in: int = 0
    restriction: Restriction = field(default_factory=Restriction)

    @property
    def drawing(self) -> Draw | BurnIn:
        """Which token, step by step."""
        if not self.burn_in:
            return self.draw
        return BurnIn(self.burn_in, Draw(self.draw.temperature), self.draw)

    def times(self, masks: int) -> Tensor:
        """Return the time grid for a canvas whose fullest row has this many masks."""
        if isinstance(self.grid, tuple):
            return given_grid(self.grid)
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
    min_p: float | None = None,
    top_p_crossing: str | None = None,
    grid: str | Sequence[float] | None = None,
    repetition_penalty: float | None = None,
    ban: str | Sequence[str] | None = None,
) -> Preset:
    """Return a named sampler with some of its numbers changed.

    Args:
        name: A key of ``PRESETS``.
        steps: Number of steps. For ``confidence`` the most that it may take: it reveals what is
            above the threshold, and as many more as are needed to finish in time.
        temperature: Divides the logits; 0 takes the most likely token.
        top_k: Draw among the k most likely tokens.
        top_p: Draw among the likeliest tokens that together hold this much probability.
        threshold: For ``confidence``, the probability at which a token is revealed at once.
        burn_in: For ``gibbs``, how many steps draw among all tokens at first; half of the steps if
            only these are given.
        min_p: Draw among the tokens at least this many times as likely as the likeliest.
        top_p_crossing: ``keep`` or ``drop``, what top-p does with the token that crosses p.
        grid: ``uniform``, ``cosine``, or times from 1 down to 0, as numbers or as in "1,0.5,0".
        repetition_penalty: Above 1, tokens that the row shows already become less likely.
        ban: Texts that are never written.

    Raises:
        UserError: If the name is unknown, a number is out of range, or an option has no effect on
            this sampler.
    """
    if name not in PRESETS:
        raise UserError(f"unknown sampler {name!r}{did_you_mean(name, PRESETS)}")
    preset = PRESETS[name]
    if grid is not None:
        preset, steps = _on_grid(name, preset, _read_grid(grid), steps)
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
    changes |= {"min_p": min_p, "top_p_crossing": top_p_crossing}
    changes = {key: value for key, value in changes.items() if value is not None}
    if temperature == 0:
        # Filters that the user did not ask for must not stand in the way of the most likely token.
        changes = FILTERS | changes
    restriction = Restriction.of(repetition_penalty, ban)
    return replace(preset, draw=replace(preset.draw, **changes), restriction=restriction)


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
    for key in _overruled(numbers, wished):
        numbers.pop(key, None)
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
    return preset, settings | _unusual(name, preset)


def _overruled(saved: Mapping[str, Any], wished: Mapping[str, Any]) -> tuple[str, ...]:
    """Return which of a model's own options make way for what the user wishes."""
    keys: tuple[str, ...] = ()
    if wished.get("temperature") == 0:
        keys += tuple(FILTERS)
    if wished.get("top_p") == 1:
        keys += ("top_p_crossing",)
    # A list of times has steps of its own; a grid with a name goes with any.
    if wished.get("grid", GRIDS[0]) not in GRIDS:
        keys += ("steps",)
    if "steps" in wished and saved.get("grid") not in GRIDS:
        keys += ("grid",)
    return keys


def _unusual(name: str, preset: Preset) -> dict[str, Any]:
    """Return the settings that are worth a word only if they were asked for."""
    draw = preset.draw
    settings: dict[str, Any] = {}
    if draw.min_p:
        settings["min_p"] = draw.min_p
    if draw.top_p_crossing != "keep":
        settings["top_p_crossing"] = draw.top_p_crossing
    if preset.grid != PRESETS[name].grid:
        settings["grid"] = preset.grid if isinstance(preset.grid, str) else list(preset.grid)
    return settings | preset.restriction.settings


def _read_grid(grid: str | Sequence[float]) -> str | tuple[float, ...]:
    """Return the name of a grid as it is, and times as numbers that make a grid."""
    if isinstance(grid, str) and "," not in grid:
        if grid not in GRIDS:
            raise UserError(
                f"unknown grid {grid!r}; choose uniform or cosine, or list its times, as in 1,0.5,0"
            )
        return grid
    try:
        times = tuple(float(x) for x in (grid.split(",") if isinstance(grid, str) else grid))
    except (TypeError, ValueError) as error:
        raise UserError(
            f"cannot read the grid {grid!r}; list its times from 1 down to 0, as in 1,0.5,0"
        ) from error
    given_grid(times)
    return times


def _on_grid(
    name: str, preset: Preset, grid: str | tuple[float, ...], steps: int | None
) -> tuple[Preset, int | None]:
    """Return a sampler on another grid, and its steps: those of a list, else what was asked."""
    if isinstance(preset.policy, Gibbs):
        raise UserError(f"sampler {name!r} writes one position a step and has no grid; use steps")
    if isinstance(grid, tuple):
        if steps is not None:
            raise UserError("a grid of times has steps of its own, so leave steps out")
        return replace(preset, grid=grid), len(grid) - 1
    if preset.steps is None and steps is None:
        raise UserError(f"sampler {name!r} follows a grid only if it is given steps")
    return replace(preset, grid=grid), steps


def _with_threshold(name: str, policy: Policy, threshold: float) -> Policy:
    if not isinstance(policy, MostConfident) or policy.threshold is None:
        raise UserError(f"sampler {name!r} has no threshold; use 'confidence'")
    return replace(policy, threshold=threshold)
