r"""The contract of a policy: which positions to reveal, and which to hide again.

A policy answers in two halves, because the network is only run where it is asked:

    candidates   which positions it needs a guess for, before the network runs
    choose       which of them are written now, after the guesses are known

Random order asks only for the positions that it is about to reveal; an order by confidence has to
ask for every masked one. Policies hold no state: what they need is on the canvas and the clock.

    orders       which mask comes next does not depend on what the network says
    confidence   the surest guesses come first
    remasking    visible tokens are hidden again by chance
    revising     visible tokens are hidden again because the network doubts them
    chains       every step changes a full canvas, or one position of it
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from unmask.diffusion.rng import RowRng
from unmask.sampling.canvas import Canvas


@dataclass(frozen=True)
class Past:
    """What a sampler has done so far.

    Attributes:
        confidence: Shape (B, L), float32; the probability that a token had when it was written, NaN
            where none has been.
        hidden: Shape (B, L), int64; how often a visible token was hidden again here.
        idle: Shape (B,), bool; rows in which the last step neither wrote nor hid anything.
    """

    confidence: Tensor
    hidden: Tensor
    idle: Tensor

    @classmethod
    def of(cls, canvas: Canvas) -> Past:
        """Return the past of a canvas on which nothing has been done."""
        return cls(
            torch.full(canvas.ids.shape, float("nan"), device=canvas.ids.device),
            torch.zeros_like(canvas.ids),
            torch.zeros_like(canvas.masked[:, 0]),
        )


@dataclass(frozen=True)
class Clock:
    """Where a sampler stands.

    Attributes:
        step: Index of the step, from 0.
        t: Time before the step, a float64 scalar tensor.
        s: Time after it, s < t; 0 in the last step.
        process: The forward process that is being undone; a policy asks what it needs of its own.
        last: Whether this is the last step, after which no mask may be left.
        past: What has been done in the steps before.
    """

    step: int
    t: Tensor
    s: Tensor
    process: Any
    last: bool
    past: Past


class Prediction(NamedTuple):
    """What the network guessed, all of shape (B, L).

    Attributes:
        tokens: Drawn tokens, int64; where nothing was asked, the canvas's own.
        probability: Of each of them under the distribution that it was drawn from, after
            temperature and filters, float32; -inf where nothing was asked.
        measured: What the policy ``reads``, float32; the probability if it reads nothing. At a mask
            it judges the token just drawn, at a visible token that token itself.
    """

    tokens: Tensor
    probability: Tensor
    measured: Tensor


class Move(NamedTuple):
    """What a step does to a canvas.

    Attributes:
        reveal: Shape (B, L), bool; where to write.
        remask: Shape (B, L), bool; where to hide again. None for nowhere.
        tokens: Shape (B, L), int64; what to write, None for the guesses themselves.
    """

    reveal: Tensor
    remask: Tensor | None = None
    tokens: Tensor | None = None


class Policy(ABC):
    """How a sampler chooses positions; one of your own has ``candidates`` and ``choose``."""

    revises: ClassVar[bool] = False
    """Whether what was written may be changed or hidden again."""

    asks_again: ClassVar[bool] = False
    """Whether many steps may ask about a row in which nothing has changed; see ``memoize``."""

    @property
    def reads(self) -> str | None:
        """The score of the network's distribution that is needed; see ``confidence_scores``."""
        return None

    def most_steps(self, masks: int) -> int:
        """Return in how many steps so many masks are written, if nobody says how many."""
        return masks

    def time(self, canvas: Canvas, clock: Clock, rng: RowRng) -> Tensor:
        """Return the time that the network is told, shape (B,), float64.

        The time at which as many tokens are expected to be hidden as really are, unless a policy
        says otherwise; see also ``grid_time``.
        """
        return clock.process.time_of(canvas.masked, canvas.editable)

    def settled(self, canvas: Canvas, clock: Clock) -> Tensor:
        """Return the rows that would never change again, this step included, shape (B,), bool.

        Rows without a mask, unless a policy says otherwise. The network is not asked about them.
        """
        return ~canvas.masked.any(1)

    @abstractmethod
    def candidates(self, canvas: Canvas, clock: Clock, rng: RowRng) -> Tensor:
        """Return where a guess is needed, shape (B, L), bool."""

    @abstractmethod
    def choose(
        self, canvas: Canvas, candidates: Tensor, prediction: Prediction, clock: Clock, rng: RowRng
    ) -> Move:
        """Return what to write and what to hide.

        Args:
            canvas: The rows before the step.
            candidates: Where a guess was made, shape (B, L), bool: what the first half returned, in
                the rows that are not settled.
            prediction: What the network guessed there.
            clock: Where the sampler stands.
            rng: Random numbers.
        """


def grid_time(canvas: Canvas, clock: Clock) -> Tensor:
    """Return the time of the grid for every row, shape (B,), float64."""
    return clock.t.expand(len(canvas.ids)).to(canvas.ids.device)


def quota(canvas: Canvas, clock: Clock, tokens_per_step: int | None = None) -> Tensor:
    """Return how many masks of each row are due in a step, shape (B,), int64.

        n = masks left - floor(masks left * (1 - u(s, t)))

    On a uniform grid of T steps with the linear schedule, N masks make floor(N / T) + 1 in the
    first N mod T steps and floor(N / T) in the others.

    Args:
        canvas: The rows before the step.
        clock: Where the sampler stands; all masks are due in the last step.
        tokens_per_step: So many, whatever the grid says; None for the share above.

    Reference: Nie et al. 2025, arXiv:2502.09992 (the count of each step).
    """
    left = canvas.masked.sum(1)
    if clock.last:
        return left
    if tokens_per_step is not None:
        return left.clamp_max(tokens_per_step)
    later = left * (1 - clock.process.reveal_prob(clock.t, clock.s))
    # The small term keeps a product such as 3 * (2 / 3) from falling below its integer.
    return left - torch.floor(later + 1e-9).long()


def best(score: Tensor, count: Tensor) -> Tensor:
    """Return where the ``count`` (B,) largest of the scores (B, L) are; equals from the left."""
    order = score.argsort(dim=1, descending=True, stable=True)
    rank = torch.arange(score.shape[1], device=score.device)
    return torch.zeros_like(order, dtype=torch.bool).scatter_(1, order, rank < count[:, None])
