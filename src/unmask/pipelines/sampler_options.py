"""The sampler of one run: what is asked for, over what the model says, over the preset."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from unmask.diffusion.schedules.grids import GRIDS
from unmask.sampling.presets import (
    FILTERS,
    POLICY_OPTIONS,
    PRESETS,
    Preset,
    has_filters,
    make_preset,
    option_of,
    read_options,
)
from unmask.validation import word

RESTRICTIONS = {"ban", "unban", "repetition_penalty"}
"""What a model's own sampler says of every other one too."""


def choose_preset(
    saved: Mapping[str, Any], options: Mapping[str, Any]
) -> tuple[Preset, dict[str, Any]]:
    """Return the sampler that is asked for, and the settings that are then in force.

    Args:
        saved: Name and options of a model's own sampler; but for what is never to be written, or
            less willingly, its options belong to its name only, and those that contradict what is
            asked for are left out.
        options: ``sampling.sampler`` and the numbers of ``make_preset`` that differ; None is not
            said.

    Raises:
        UserError: As ``make_preset`` and ``read_options``.
    """
    own_name = saved.get("name", "ancestral")
    asked = options.get("sampler")
    name = word("sampler", own_name if asked is None else asked)
    wished = read_options({k: v for k, v in options.items() if k != "sampler"})
    ours = set(saved) - {"name"} if name == own_name else RESTRICTIONS
    numbers = read_options({k: v for k, v in saved.items() if k in ours})
    numbers = {k: v for k, v in numbers.items() if k not in _contradicted(name, numbers, wished)}
    preset = make_preset(name, **(numbers | wished))
    settings = {
        "sampler": name,
        "steps": preset.steps,
        "temperature": preset.draw.temperature,
        "top_k": preset.draw.top_k,
        "top_p": preset.draw.top_p,
    }
    own = {option: option_of(preset.policy, option) for option in POLICY_OPTIONS}
    settings |= {option: value for option, value in own.items() if value is not None}
    if preset.burn_in:
        settings["burn_in"] = preset.burn_in
    return preset, settings | _unusual(name, preset)


def sampler_grid(
    saved: Mapping[str, Any],
    num_steps: int | None = None,
    grid: str | Sequence[float] | None = None,
) -> Tensor:
    """Return the times at which ``ancestral`` writes: the grid of its bound.

    Of all samplers only ``ancestral``, without filters, has this bound, so another sampler that a
    model has for its own is left aside.

    Args:
        saved: Name and options of a model's own sampler, as in its card.
        num_steps: Number of steps, T; None for the model's own, or as many as the grid has.
        grid: A name or times, as for ``make_preset``; None for the model's own.

    Returns:
        The T + 1 times from 1 down to 0, float64.

    Raises:
        UserError: If a number is out of range, or steps and a list of times are both given.
    """
    options = {"sampler": "ancestral", "steps": num_steps, "grid": grid}
    preset, _ = choose_preset(saved, options)
    return preset.times(masks=1)


def _contradicted(name: str, saved: Mapping[str, Any], wished: Mapping[str, Any]) -> set[str]:
    """Return the options of a model's own sampler that do not go with what is asked for."""
    found = set()
    if "steps" in wished or "grid" in wished:
        found.add("tokens_per_step")
    # A list of times has steps of its own; a grid with a name goes with any number of them.
    if "tokens_per_step" in wished or wished.get("grid", GRIDS[0]) not in GRIDS:
        found.add("steps")
    if saved.get("burn_in", 0) > wished.get("steps", math.inf):
        found.add("burn_in")
    if "tokens_per_step" in wished or ("steps" in wished and saved.get("grid") not in GRIDS):
        found.add("grid")
    if wished.get("temperature") == 0:
        found.add("burn_in")
    if saved.get("temperature") == 0 and (has_filters(wished) or wished.get("burn_in")):
        found.add("temperature")
    idle = _burns_in_only(name, found, saved, wished)
    if idle and has_filters(wished) and "burn_in" not in wished:
        # Filters that are asked for must have steps to act in.
        found.add("burn_in")
    elif idle or wished.get("temperature") == 0:
        found |= set(FILTERS)
    if wished.get("top_p") == 1:
        found.add("top_p_crossing")
    for one, other in (("ban", "unban"), ("unban", "ban")):
        if {*saved.get(one, ())} & {*wished.get(other, ())}:
            found.add(one)
    if "confidence_metric" in wished and name in PRESETS and PRESETS[name].draw.greedy:
        # Where the likeliest token is taken, the temperature belonged to the measure before.
        found.add("temperature")
    return found


def _burns_in_only(
    name: str, dropped: set[str], saved: Mapping[str, Any], wished: Mapping[str, Any]
) -> bool:
    """Return whether every step draws among all tokens, so that a model's own filters are idle."""
    if name not in PRESETS or not PRESETS[name].burn_in:
        return False
    said = {key: value for key, value in saved.items() if key not in dropped} | dict(wished)
    return said.get("burn_in", 0) >= said.get("steps", PRESETS[name].steps)


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
