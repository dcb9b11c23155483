"""What all samplers have in common: options, and what becomes of them in the loop.

A sampler is a time grid x a policy (which positions) x a draw (which token). Torch is loaded when a
sampler is made, so that the command line can show the options without it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from unmask.errors import UserError
from unmask.validation import Options, exclude, option, real, require, whole, word, words

if TYPE_CHECKING:
    from torch import Tensor

    from unmask.sampling.logits_processors import Restriction
    from unmask.sampling.policies.base import Policy
    from unmask.sampling.token_sampling import BurnIn, Draw

MAX_STEPS = 100_000
MAX_LENGTH = 1_000_000
"""Tokens of the longest text."""
CROSSINGS = ("keep", "drop")
METRICS = ("drawn", "confidence", "margin", "entropy")
FILTERS: dict[str, Any] = {"top_k": None, "top_p": 1.0, "min_p": 0.0, "top_p_crossing": None}
"""Options that keep tokens out of a draw, with the values that let all in."""


def has_filters(options: Mapping[str, Any]) -> bool:
    """Return whether some options keep tokens out of a draw."""
    return any(options.get(name, off) != off for name, off in FILTERS.items())


def _texts(name: str, value: Any) -> tuple[str, ...]:
    """Return one text or several."""
    return tuple(words(name, value))


def _grid(name: str, value: Any) -> str | tuple[float, ...]:
    """Return the name of a grid, or its times as numbers."""
    from unmask.diffusion.schedules.grids import GRIDS, given_grid

    if isinstance(value, str) and value in GRIDS:
        return value
    try:
        times = tuple(float(x) for x in (value.split(",") if isinstance(value, str) else value))
    except (TypeError, ValueError) as error:
        raise UserError(
            f"cannot read the {name} {value!r}; choose uniform or cosine, or list its times from 1 "
            "down to 0, as in 1,0.5,0"
        ) from error
    given_grid(times)
    Sampler.options()["steps"]("steps", len(times) - 1)
    return times


@dataclass(frozen=True, kw_only=True)
class TokenOptions(Options):
    """How a token is drawn from the logits, by a sampler or by a causal model."""

    temperature: float = option(
        1.0, "Divides the logits; 0 takes the most likely token.", real, low=0, high=1_000_000
    )
    top_k: int | None = option(None, "Draw from the k most likely tokens.", whole, low=1)
    top_p: float = option(
        1.0,
        "Draw from the most likely tokens that together hold this probability.",
        real,
        low=0,
        high=1,
        above=True,
    )
    min_p: float = option(
        0.0,
        "Draw from the tokens at least this many times as likely as the most likely one.",
        real,
        low=0,
        high=1,
    )
    # Far from 1 a logit would leave the range of float32.
    repetition_penalty: float = option(
        1.0,
        "Above 1, tokens that the sequence already contains become less likely.",
        real,
        low=0.000001,
        high=1_000_000,
    )
    ban: tuple[str, ...] = option(
        (), "Text that is never generated.", _texts, metavar="TEXT", repeated=True
    )


@dataclass(frozen=True, kw_only=True)
class Sampler(TokenOptions):
    """Base of all samplers; a named one has a policy, and defaults of the paper that proposed it.

    Options that differ from their defaults count as given.

    Attributes:
        name: What the command line, recipes and model cards call it.
        greedy: Whether the most likely token is taken; its probability is that at ``temperature``.
        instead: Why it lacks options that others take, and what to do, for an error.

    Raises:
        UserError: If a value is out of range, two options contradict each other, or one has no
            effect.
    """

    name: ClassVar[str] = ""
    greedy: ClassVar[bool] = False
    instead: ClassVar[Mapping[str, str]] = {}

    steps: int | None = option(
        None,
        "Denoising steps (an upper limit for adaptive samplers), of each block if the model "
        "generates in blocks.",
        whole,
        low=1,
        high=MAX_STEPS,
    )
    top_p_crossing: str | None = option(
        None,
        "Whether the token that crosses top_p is kept, as in transformers and MD4 (the default), "
        "or dropped, as in MDLM and ReMDM.",
        word,
        choices=CROSSINGS,
    )
    unban: tuple[str, ...] = option(
        (),
        "Special symbol that may be generated, such as <unk> or [SEP].",
        _texts,
        metavar="SYMBOL",
        repeated=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(self.given)

    def check(self, given: Collection[str]) -> None:
        """Raise a UserError if options contradict each other.

        Args:
            given: Names of the options that were given.
        """
        _ = self._draw(given), self.policy, self.restriction

    @cached_property
    def policy(self) -> Policy:
        """Which positions are revealed or masked again in a step."""
        raise NotImplementedError

    @cached_property
    def draw(self) -> Draw:
        """Which token a position gets."""
        return self._draw(self.given)

    def _draw(self, given: Collection[str]) -> Draw:
        from unmask.sampling.token_sampling import Draw

        # Filters that are not given must not stand in the way of the most likely token.
        kept = {
            name: getattr(self, name)
            for name in FILTERS
            if name in given or (self.temperature > 0 and getattr(self, name) is not None)
        }
        return Draw(self.temperature, greedy=self.greedy, **kept)

    @property
    def drawing(self) -> Draw | BurnIn:
        """Which token, step by step."""
        return self.draw

    @cached_property
    def restriction(self) -> Restriction:
        """Which tokens are not generated, or less often."""
        from unmask.sampling.logits_processors import Restriction

        return Restriction(self.repetition_penalty, self.ban, self.unban)

    @property
    def num_steps(self) -> int | None:
        """Number of steps; None for as many as the policy needs."""
        return self.steps

    def times(self, masks: int) -> Tensor:
        """Return the times, (steps + 1,), for a canvas whose fullest row has so many masks."""
        return self._named_grid(masks, "uniform")

    def _named_grid(self, masks: int, grid: str) -> Tensor:
        from unmask.diffusion.schedules.grids import time_grid

        return time_grid(max(self.num_steps or self.policy.most_steps(masks), 1), grid)

    @property
    def label(self) -> str:
        """What a record of a run calls it."""
        return self.name

    @property
    def settings(self) -> dict[str, Any]:
        """The values in force, fit for JSON; what is rare only if it differs from the default."""
        draw, shared = self.draw, Sampler.options()
        own = {name: getattr(self, name) for name in self.options() if name not in shared}
        found = {
            "sampler": self.label,
            "steps": self.num_steps,
            "temperature": draw.temperature,
            "top_k": draw.top_k,
            "top_p": draw.top_p,
        }
        found |= {name: value for name, value in own.items() if value is not None}
        found |= {"min_p": draw.min_p} if draw.min_p else {}
        found |= {"top_p_crossing": "drop"} if draw.top_p_crossing == "drop" else {}
        return found | self.restriction.settings


@dataclass(frozen=True, kw_only=True)
class GridSampler(Sampler):
    """A sampler with a grid of times."""

    grid: str | tuple[float, ...] = option(
        "uniform",
        "Times of the steps: uniform, cosine, or a list from 1 down to 0 such as 1,0.5,0.",
        _grid,
        metavar="NAME|TIMES",
    )

    def check(self, given: Collection[str]) -> None:
        """Raise a UserError if options contradict each other; see ``Sampler.check``."""
        times = "grid" in given and not isinstance(self.grid, str)
        exclude(("steps", times and "steps" in given, "a grid of times, which has its own"))
        has_steps = self.num_steps is not None
        require((f"the grid of {self.label!r}", "grid" not in given or has_steps, "steps"))
        super().check(given)

    @property
    def num_steps(self) -> int | None:
        """Number of steps; None for as many as the policy needs."""
        return self.steps if isinstance(self.grid, str) else len(self.grid) - 1

    def times(self, masks: int) -> Tensor:
        """Return the times, (steps + 1,), for a canvas whose fullest row has so many masks."""
        from unmask.diffusion.schedules.grids import given_grid

        if isinstance(self.grid, str):
            return self._named_grid(masks, self.grid)
        return given_grid(self.grid)

    @property
    def settings(self) -> dict[str, Any]:
        """The values in force, fit for JSON."""
        found = super().settings
        grid = found.pop("grid")
        if "grid" in self.given:
            found["grid"] = grid if isinstance(grid, str) else list(grid)
        return found


@dataclass(frozen=True, kw_only=True)
class PacedSampler(GridSampler):
    """A sampler that reveals a number of tokens per step, its own or that of the grid."""

    tokens_per_step: int | None = option(
        None,
        "Tokens to reveal per step, in place of steps; at least so many for adaptive samplers.",
        whole,
        low=1,
        high=MAX_LENGTH,
    )

    def check(self, given: Collection[str]) -> None:
        """Raise a UserError if options contradict each other; see ``Sampler.check``."""
        paces = [name for name in ("steps", "grid") if {name, "tokens_per_step"} <= {*given}]
        exclude(*(("tokens_per_step", True, f"{name}, which sets the pace too") for name in paces))
        super().check(given)

    @property
    def num_steps(self) -> int | None:
        """Number of steps; None for as many as the policy needs."""
        return super().num_steps if self.tokens_per_step is None else None

    @property
    def pace(self) -> int | None:
        """Tokens to reveal per step, 1 if nobody sets a pace; None for what the grid asks for."""
        return self.tokens_per_step or (1 if self.num_steps is None else None)

    @property
    def settings(self) -> dict[str, Any]:
        """The values in force, fit for JSON."""
        found = super().settings
        return found if self.pace is None else found | {"tokens_per_step": self.pace}


@dataclass(frozen=True, kw_only=True)
class Custom(GridSampler):
    """A sampler with a policy of one's own.

    Attributes:
        policy: Which positions.
        greedy: Whether the most likely token is taken.
    """

    policy: Policy = dataclasses.field(kw_only=False)
    greedy: bool = False  # type: ignore[misc]

    @property
    def label(self) -> str:
        """What a record of a run calls it."""
        return type(self.policy).__name__
