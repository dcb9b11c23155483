r"""The contract of a policy: which positions a step reveals, and which it masks again.

A policy decides in two halves, because the network only runs at queried positions:

    candidates   positions that need a prediction, before the network runs
    choose       positions that are revealed or masked now, given the predictions

Random order queries only the positions that it is about to reveal; an order by confidence has to
query every mask. Policies hold no state: all they need is on the canvas and the clock.

    fixed_order       the order does not depend on the network
    confidence        the most confident predictions come first
    remasking         visible tokens are masked again at random
    self_correction   visible tokens are masked again if the network finds them unlikely
    gibbs             every step redraws one position of a full canvas
    transition        every step redraws all positions of a full canvas
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
        confidence: Shape (B, L), float32; the probability that a token had when it was drawn, NaN
            where none has been.
        remask_count: Shape (B, L), int64; how often a visible token was masked again here.
        idle: Shape (B,), bool; rows in which the last step changed nothing.
    """

    confidence: Tensor
    remask_count: Tensor
    idle: Tensor

    @classmethod
    def of(cls, canvas: Canvas) -> Past:
        """Return the past of a canvas before the first step."""
        return cls(
            torch.full(canvas.ids.shape, float("nan"), device=canvas.ids.device),
            torch.zeros_like(canvas.ids),
            torch.zeros_like(canvas.masked[:, 0]),
        )


@dataclass(frozen=True)
class Clock:
    """The current step of a sampler.

    Attributes:
        step: Index of the step, from 0.
        t: Time before the step, a float64 scalar tensor.
        s: Time after it, s < t; 0 in the last step.
        process: The forward process that is being reversed; each policy knows its own kind.
        last: Whether this is the last step, after which no mask may be left.
        past: What the steps before have done.
    """

    step: int
    t: Tensor
    s: Tensor
    process: Any
    last: bool
    past: Past


class Prediction(NamedTuple):
    """The predictions of a step, all of shape (B, L).

    Attributes:
        tokens: Drawn tokens, int64; those of the canvas where nothing was queried.
        probability: Probability of each drawn token under the distribution that it was drawn from,
            after temperature and filters, float32; -inf where nothing was queried.
        measured: The score that the policy ``reads``, float32; the probability if it reads none. At
            a mask it is that of the drawn token, elsewhere that of the visible token.
    """

    tokens: Tensor
    probability: Tensor
    measured: Tensor


class Move(NamedTuple):
    """What a step does to a canvas.

    Attributes:
        reveal: Shape (B, L), bool; positions that get a token.
        remask: Shape (B, L), bool; positions to mask again; None for nowhere.
        tokens: Shape (B, L), int64; the tokens to set, None for the drawn ones.
    """

    reveal: Tensor
    remask: Tensor | None = None
    tokens: Tensor | None = None


class Policy(ABC):
    """How a sampler chooses positions; a custom policy implements ``candidates`` and ``choose``."""

    revises: ClassVar[bool] = False
    """Whether a generated token may be changed or masked again."""

    asks_again: ClassVar[bool] = False
    """Whether many steps may query a row in which nothing has changed; see ``memoize``."""

    @property
    def blind(self) -> bool:
        """Whether no drawn token decides which positions a step reveals, and none is revised.

        Then the probabilities of the drawn tokens multiply to that of the sequence.
        """
        return False

    @property
    def reads(self) -> str | None:
        """The score of the network's distribution that it needs; see ``confidence_scores``."""
        return None

    def most_steps(self, masks: int) -> int:
        """Return the default number of steps for so many masks."""
        return masks

    def time(self, canvas: Canvas, clock: Clock, rng: RowRng) -> Tensor:
        """Return the time that the network is conditioned on, shape (B,), float64.

        By default the time at which the expected number of masks is the actual one; see also
        ``grid_time``.
        """
        return clock.process.time_of(canvas.masked, canvas.editable)

    def settled(self, canvas: Canvas, clock: Clock) -> Tensor:
        """Return the rows that never change again, this step included, shape (B,), bool.

        By default the rows without a mask. Settled rows are not queried.
        """
        return ~canvas.masked.any(1)

    @abstractmethod
    def candidates(self, canvas: Canvas, clock: Clock, rng: RowRng) -> Tensor:
        """Return the positions that need a prediction, shape (B, L), bool."""

    @abstractmethod
    def choose(
        self, canvas: Canvas, candidates: Tensor, prediction: Prediction, clock: Clock, rng: RowRng
    ) -> Move:
        """Return the positions to reveal and to mask.

        Args:
            canvas: The rows before the step.
            candidates: The positions with a prediction, shape (B, L), bool: what ``candidates``
                returned, without settled rows.
            prediction: The predictions there.
            clock: The current step.
            rng: Random numbers.
        """


def grid_time(canvas: Canvas, clock: Clock) -> Tensor:
    """Return the time of the grid for every row, shape (B,), float64."""
    return clock.t.expand(len(canvas.ids)).to(canvas.ids.device)


def quota(canvas: Canvas, clock: Clock, tokens_per_step: int | None = None) -> Tensor:
    """Return how many masks of each row a step reveals, shape (B,), int64.

        n = masks left - floor(masks left * (1 - u(s, t)))

    On a uniform grid of T steps with the linear schedule and N masks that is floor(N / T) + 1 in
    the first N mod T steps and floor(N / T) in the others.

    Args:
        canvas: The rows before the step.
        clock: The current step; the last one reveals all masks.
        tokens_per_step: A fixed number, whatever the grid is; None for the formula above.

    Reference: Nie et al. 2025, arXiv:2502.09992 (the count of each step).
    """
    left = canvas.masked.sum(1)
    if clock.last:
        return left
    if tokens_per_step is not None:
        return left.clamp_max(tokens_per_step)
    later = left * (1 - clock.process.reveal_prob(clock.t, clock.s))
    # The small term keeps a product such as 3 * (2 / 3) from rounding below its integer.
    return left - torch.floor(later + 1e-9).long()


def best(score: Tensor, count: Tensor) -> Tensor:
    """Return where the ``count`` (B,) largest of the scores (B, L) are; ties from the left."""
    order = score.argsort(dim=1, descending=True, stable=True)
    rank = torch.arange(score.shape[1], device=score.device)
    return torch.zeros_like(order, dtype=torch.bool).scatter_(1, order, rank < count[:, None])
