"""Samplers by name, and the options of all of them."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from unmask.errors import UserError
from unmask.sampling.samplers import confidence, fixed_order, gibbs, remasking
from unmask.sampling.samplers.base import Custom, Sampler
from unmask.validation import Option, one_of

if TYPE_CHECKING:
    from unmask.sampling.policies.base import Policy

SAMPLERS: dict[str, type[Sampler]] = {
    sampler.name: sampler
    for sampler in (
        *(fixed_order.Ancestral, fixed_order.Random),
        *(fixed_order.FirstHitting, fixed_order.LeftToRight),
        *(confidence.Threshold, confidence.MaskGIT),
        *(confidence.FastDLLMFactor, confidence.EntropyBound),
        *(remasking.Refine, remasking.ReMDMCap, remasking.ReMDMRescale, remasking.ReMDMConf),
        *(remasking.ReMDMLoop, remasking.ReMDMNextRate, remasking.ForwardBackward, remasking.P2),
        *(confidence.ThresholdEdit, gibbs.Gibbs, gibbs.GibbsSequential),
    )
}


def _all_options() -> dict[str, Option]:
    """Return the options of all samplers, without a range where samplers differ in it."""
    found: dict[str, Option] = {}
    for sampler in SAMPLERS.values():
        for name, known in sampler.options().items():
            known = replace(known, optional=True)
            if found.setdefault(name, known) != known:
                found[name] = replace(known, low=None, high=math.inf, unit="")
    return found


OPTIONS = _all_options()
"""The options of all samplers by name."""


def takers(name: str) -> list[str]:
    """Return the names of the samplers that take an option."""
    return [own for own, sampler in SAMPLERS.items() if name in sampler.options()]


def make_sampler(name: str, **options: Any) -> Sampler:
    """Return a sampler by name, with some options; None means not given.

    Raises:
        UserError: If the name is unknown, the sampler does not take an option, or as the class of
            the sampler does.
    """
    kind = SAMPLERS[one_of("sampler", name, SAMPLERS)]
    given = {option: value for option, value in options.items() if value is not None}
    check_taken(name, kind, given)
    sampler = kind(**given)
    # An option that is given counts as such even with the value of its default.
    sampler.check(given)
    return sampler


def custom(policy: Policy, **options: Any) -> Custom:
    """Return a sampler with a policy of one's own, with some options; None means not given."""
    given = {option: value for option, value in options.items() if value is not None}
    check_taken(type(policy).__name__, Custom, given)
    return Custom(policy, **given)


def check_taken(name: str, sampler: type[Sampler], given: Collection[str]) -> None:
    """Raise a UserError for an option that a sampler does not take, which names those that do."""
    for option in given:
        if one_of("sampler option", option, OPTIONS) not in sampler.options():
            spelt, others = option.replace("_", "-"), ", ".join(takers(option))
            instead = sampler.instead.get(option, f"these have: {others}")
            raise UserError(f"sampler {name!r} has no {spelt}; {instead}")
