"""Samplers that draw one position anew per step; see ``policies.gibbs``."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from unmask.sampling.samplers.base import Sampler, has_filters
from unmask.validation import option, require, whole, with_default, within

if TYPE_CHECKING:
    from unmask.sampling.policies.base import Policy
    from unmask.sampling.token_sampling import BurnIn, Draw


@dataclass(frozen=True, kw_only=True)
class Gibbs(Sampler):
    """Mask a random position and draw it anew."""

    name: ClassVar[str] = "gibbs"
    sequential: ClassVar[bool] = False
    instead: ClassVar[Mapping[str, str]] = {"grid": "it draws one position per step, so use steps"}
    steps: int = with_default(Sampler, "steps", 500, optional=False)
    top_k: int | None = with_default(Sampler, "top_k", 100)
    burn_in: int | None = option(
        None,
        "First steps, which draw from all tokens; half of the steps if left out.",
        whole,
        low=0,
    )

    def check(self, given: Collection[str]) -> None:
        """Raise a UserError if options contradict each other; see ``Sampler.check``."""
        within("burn_in, which is within the steps,", self.burn_in or 0, high=self.steps)
        super().check(given)
        idle = "burn_in" in given and self.burn_in and not self.burnt_in
        filters = "top_k, top_p or min_p"
        filtered = has_filters({name: getattr(self, name) for name in given})
        full = filtered and self.burnt_in == self.steps
        require(
            ("burn_in", not idle, f"{filters} in the steps after it (temperature 0 drops them)"),
            (filters, not full, "a burn_in below steps, as all tokens are possible in those steps"),
        )

    @cached_property
    def policy(self) -> Policy:
        from unmask.sampling.policies import gibbs

        return gibbs.Gibbs(self.sequential)

    @property
    def burnt_in(self) -> int:
        """First steps that draw from all tokens; 0 if the others do so as well."""
        if not self._draw(self.given).filters:
            return 0
        return self.steps // 2 if self.burn_in is None else self.burn_in

    @cached_property
    def draw(self) -> Draw:
        """Which token a position gets after the burn-in."""
        from unmask.sampling.token_sampling import Draw

        free = self.burnt_in == self.steps
        return Draw(self.temperature) if free else self._draw(self.given)

    @property
    def drawing(self) -> Draw | BurnIn:
        """Which token, step by step."""
        from unmask.sampling.token_sampling import BurnIn, Draw

        burn_in = self.burnt_in
        return BurnIn(burn_in, Draw(self.temperature), self.draw) if burn_in else self.draw

    @property
    def settings(self) -> dict[str, Any]:
        """The values in force, fit for JSON."""
        found = {name: value for name, value in super().settings.items() if name != "burn_in"}
        return found | ({"burn_in": self.burnt_in} if self.burnt_in else {})


@dataclass(frozen=True, kw_only=True)
class GibbsSequential(Gibbs):
    """The same from left to right, in sweeps."""

    name: ClassVar[str] = "gibbs-sequential"
    sequential: ClassVar[bool] = True
