"""Resolve sampler options: call arguments > model defaults > defaults of the sampler."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from unmask.diffusion.schedules.grids import GRIDS
from unmask.errors import UserError
from unmask.sampling.policies.base import Policy
from unmask.sampling.samplers.base import FILTERS, Sampler, has_filters
from unmask.sampling.samplers.registry import OPTIONS, SAMPLERS, custom, make_sampler
from unmask.validation import read_options, word

RESTRICTIONS = ("ban", "unban", "repetition_penalty")
"""Options of a model's own sampler that hold for every other one too."""


def resolve_sampler(
    saved: Mapping[str, Any], options: Mapping[str, Any]
) -> tuple[Sampler, dict[str, Any]]:
    """Return the sampler of a run, and the settings that are in force.

    Args:
        saved: Name and options of the model's own sampler. Bans and the repetition penalty hold for
            every sampler, the other options for that name only; those that contradict the options
            of the call are left out.
        options: ``sampler``: a name, a ``Sampler``, or a ``Policy`` of one's own; and options of
            the sampler. None means not given.

    Raises:
        UserError: As ``make_sampler``, or if a ``Sampler`` is given together with options.
    """
    given = read_options(
        OPTIONS, {name: value for name, value in options.items() if name != "sampler"}, "sampler"
    )
    own_name = saved.get("name", "ancestral")
    requested = options.get("sampler")
    if isinstance(requested, Sampler | Policy):
        sampler = _own(requested, saved, given)
        return sampler, sampler.settings
    name = word("sampler", own_name if requested is None else requested)
    ours = set(saved) - {"name"} if name == own_name else RESTRICTIONS
    numbers = read_options(OPTIONS, {k: v for k, v in saved.items() if k in ours}, "sampler")
    numbers = {k: v for k, v in numbers.items() if k not in _contradicted(name, numbers, given)}
    sampler = make_sampler(name, **(numbers | given))
    return sampler, sampler.settings


def _own(
    requested: Sampler | Policy, saved: Mapping[str, Any], given: Mapping[str, Any]
) -> Sampler:
    """Return a sampler that is given as an object, with the bans of the model."""
    if isinstance(requested, Sampler) and given:
        raise UserError(
            f"the sampler is an object with options of its own; set {next(iter(given))} there"
        )
    sampler = requested if isinstance(requested, Sampler) else custom(requested, **given)
    ours = {k: v for k, v in saved.items() if k in RESTRICTIONS and k not in sampler.given}
    ours = read_options(OPTIONS, ours, "sampler")
    return replace(sampler, **_without_clash(ours, sampler.given))


def sampler_grid(
    saved: Mapping[str, Any],
    num_steps: int | None = None,
    grid: str | Sequence[float] | None = None,
) -> Tensor:
    """Return the times at which ``ancestral`` reveals tokens: the grid of its bound.

    Only ``ancestral`` without filters has this bound, so another sampler in the card is ignored.

    Args:
        saved: Name and options of a model's own sampler, as in its card.
        num_steps: Number of steps, T; None for the model's own, or as many as the grid has.
        grid: A name or times, as for ``make_sampler``; None for the model's own.

    Returns:
        The T + 1 times from 1 down to 0, float64.

    Raises:
        UserError: If a number is out of range, or steps and a list of times are both given.
    """
    options = {"sampler": "ancestral", "steps": num_steps, "grid": grid}
    sampler, _ = resolve_sampler(saved, options)
    return sampler.times(masks=1)


def _contradicted(name: str, saved: Mapping[str, Any], given: Mapping[str, Any]) -> set[str]:
    """Return the names of saved options that contradict the options of the call."""
    found = set()
    if "steps" in given or "grid" in given:
        found.add("tokens_per_step")
    # A list of times has steps of its own; a grid with a name goes with any number of them.
    if "tokens_per_step" in given or given.get("grid", GRIDS[0]) not in GRIDS:
        found.add("steps")
    if saved.get("burn_in", 0) > given.get("steps", math.inf):
        found.add("burn_in")
    if "tokens_per_step" in given or ("steps" in given and saved.get("grid") not in GRIDS):
        found.add("grid")
    if given.get("temperature") == 0:
        found.add("burn_in")
    if saved.get("temperature") == 0 and (has_filters(given) or given.get("burn_in")):
        found.add("temperature")
    idle = _burns_in_only(name, found, saved, given)
    if idle and has_filters(given) and "burn_in" not in given:
        # Filters of the call must have steps to act in.
        found.add("burn_in")
    elif idle or given.get("temperature") == 0:
        found |= set(FILTERS)
    if given.get("top_p") == 1:
        found.add("top_p_crossing")
    found |= saved.keys() - _without_clash(saved, given).keys()
    if "confidence_metric" in given and name in SAMPLERS and SAMPLERS[name].greedy:
        # Where the most likely token is taken, the temperature belonged to the saved metric.
        found.add("temperature")
    return found


def _without_clash(saved: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the saved options without bans that ``unban`` lifts, and the other way round."""
    other = {"ban": "unban", "unban": "ban"}
    return {
        name: value
        for name, value in saved.items()
        if name not in other or not {*value} & {*given.get(other[name], ())}
    }


def _burns_in_only(
    name: str, dropped: set[str], saved: Mapping[str, Any], given: Mapping[str, Any]
) -> bool:
    """Return whether every step draws from all tokens, so that saved filters have no effect."""
    if name not in SAMPLERS or "burn_in" not in SAMPLERS[name].options():
        return False
    in_force = {key: value for key, value in saved.items() if key not in dropped} | dict(given)
    return in_force.get("burn_in", 0) >= in_force.get("steps", make_sampler(name).num_steps)
