r"""Which positions to reveal, and which to hide again.

A policy answers in two halves, because the network is only run where it is asked:

    candidates   which positions it needs a guess for, before the network runs
    choose       which of them are written now, after the guesses are known

Random order asks only for the positions that it is about to reveal; an order by confidence has to
ask for every masked one. Policies hold no state: what they need is on the canvas and the clock.

References: Shi et al. 2024, arXiv:2406.04329 (ancestral); Chang et al. 2022, "MaskGIT",
arXiv:2202.04200, and Nie et al. 2025, arXiv:2502.09992 (most confident first); Wu et al. 2025,
"Fast-dLLM", arXiv:2505.22618 (threshold); N. Barry 2025 (renoise, threshold); Wang and Cho 2019,
arXiv:1902.04094 (Gibbs).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from unmask.canvas import Canvas
from unmask.errors import UserError
from unmask.noise import Noise


@dataclass(frozen=True)
class Clock:
    """Where a sampler stands.

    Attributes:
        step: Index of the step, from 0.
        t: Time before the step, a float64 scalar tensor.
        s: Time after it, s < t; 0 in the last step.
        process: The forward process that is being undone; a policy asks what it needs of its own.
        last: Whether this is the last step, after which no mask may be left.
    """

    step: int
    t: Tensor
    s: Tensor
    process: Any
    last: bool


class Guess(NamedTuple):
    """What the network guessed: ``tokens``, int64, and the ``probability`` of each, float32.

    Both (B, L); where nothing was asked the token is the canvas's own and its probability -inf.
    """

    tokens: Tensor
    probability: Tensor


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


class Policy(Protocol):
    """How a sampler chooses positions."""

    @property
    def revises(self) -> bool:
        """True if visible tokens may change, so that a full canvas is not yet the end."""
        ...

    @property
    def follows_grid(self) -> bool:
        """True if the network is to be given the time of the grid, else the canvas's own time."""
        ...

    def candidates(self, canvas: Canvas, clock: Clock, noise: Noise) -> Tensor:
        """Return where a guess is needed, shape (B, L), bool."""
        ...

    def choose(
        self, canvas: Canvas, candidates: Tensor, guess: Guess, clock: Clock, noise: Noise
    ) -> Move:
        """Return what to write and what to hide.

        Args:
            canvas: The rows before the step.
            candidates: What the first half returned, shape (B, L), bool.
            guess: What the network guessed there.
            clock: Where the sampler stands.
            noise: Random numbers.
        """
        ...


@dataclass(frozen=True)
class RandomOrder:
    """Reveal each masked token with probability u(s, t): exact ancestral sampling.

    Reference: Shi et al. 2024, arXiv:2406.04329, Section 2 (the reverse process).
    """

    revises: bool = False
    follows_grid: bool = True

    def candidates(self, canvas: Canvas, clock: Clock, noise: Noise) -> Tensor:
        chance = noise.uniform("reveal", clock.step, canvas.ids.shape[1])
        return canvas.masked & (chance < clock.process.reveal_prob(clock.t, clock.s))

    def choose(
        self, canvas: Canvas, candidates: Tensor, guess: Guess, clock: Clock, noise: Noise
    ) -> Move:
        return Move(candidates)


@dataclass(frozen=True)
class Renoise:
    """Guess everything anew, then hide each editable token with the next mask rate.

    Which tokens get hidden does not depend on the guesses, so it is decided first and guesses are
    made only for those that stay: the same distribution for less work.

    Reference: N. Barry 2025, "BERT is just a single text diffusion step".
    """

    revises: bool = True
    follows_grid: bool = True

    def candidates(self, canvas: Canvas, clock: Clock, noise: Noise) -> Tensor:
        chance = noise.uniform("renoise", clock.step, canvas.ids.shape[1])
        # A schedule may end slightly above a mask rate of 0; the canvas may not.
        stay = clock.last or chance >= clock.process.schedule.mask_prob(clock.s)
        return canvas.editable & stay

    def choose(
        self, canvas: Canvas, candidates: Tensor, guess: Guess, clock: Clock, noise: Noise
    ) -> Move:
        return Move(candidates, canvas.editable & ~candidates)


@dataclass(frozen=True)
class MostConfident:
    """Reveal the guesses that the network is most sure of.

    Args:
        threshold: Every guess of at least this probability is revealed; None for none beyond the
            quota.
        paced: True reveals the quota of the time grid in every step (with a fixed number of steps
            the same count, give or take one); False only makes sure that something is revealed and
            that the last step leaves no mask.

    Reference: Nie et al. 2025, arXiv:2502.09992 (quota); Wu et al. 2025, arXiv:2505.22618, and N.
    Barry's repository (threshold, else the single most confident).
    """

    threshold: float | None = None
    paced: bool = True
    revises: bool = False
    follows_grid: bool = False

    def __post_init__(self) -> None:
        if self.threshold is not None and not self.threshold >= 0:
            raise UserError(f"the confidence threshold must be from 0 up, not {self.threshold}")

    def candidates(self, canvas: Canvas, clock: Clock, noise: Noise) -> Tensor:
        return canvas.masked

    def choose(
        self, canvas: Canvas, candidates: Tensor, guess: Guess, clock: Clock, noise: Noise
    ) -> Move:
        quota = self._quota(canvas.masked.sum(1), clock)
        rank = guess.probability.argsort(dim=1, descending=True, stable=True).argsort(1)
        reveal = rank < quota[:, None]
        if self.threshold is not None:
            reveal |= guess.probability >= self.threshold
        return Move(reveal & candidates)

    def _quota(self, remaining: Tensor, clock: Clock) -> Tensor:
        if clock.last:
            return remaining
        if not self.paced:
            return remaining.clamp_max(1)
        left = remaining * (1 - clock.process.reveal_prob(clock.t, clock.s))
        # The small term keeps a product such as 3 * (2 / 3) from falling below its integer.
        return remaining - torch.floor(left + 1e-9).long()


@dataclass(frozen=True)
class ByToken:
    """Reveal a guess with the chance of its own token: ancestral sampling for token-wise schedules.

    Drawing the token first and revealing it with probability rho_v(s, t) has the law of the reverse
    process, p(z_s = v | [MASK]) = mu_v rho_v, without a draw among V + 1 outcomes.

    Reference: Shi et al. 2024, arXiv:2406.04329, Section 6 (state-dependent schedules).
    """

    revises: bool = False
    follows_grid: bool = True

    def candidates(self, canvas: Canvas, clock: Clock, noise: Noise) -> Tensor:
        return canvas.masked

    def choose(
        self, canvas: Canvas, candidates: Tensor, guess: Guess, clock: Clock, noise: Noise
    ) -> Move:
        chance = clock.process.reveal_prob(clock.t, clock.s).expand(len(canvas.ids), -1)
        own = chance.to(canvas.ids.device).gather(1, guess.tokens.clamp_max(chance.shape[1] - 1))
        reveal = candidates & (noise.uniform("reveal", clock.step, own.shape[1]) < own)
        return Move(reveal)


@dataclass(frozen=True)
class Transition:
    """Go one step back from x_t, given a guess of x_0: for processes without masks.

    Reference: Austin et al. 2021, arXiv:2107.03006, Section 3 (the x_0 parametrisation).
    """

    revises: bool = True
    follows_grid: bool = True

    def candidates(self, canvas: Canvas, clock: Clock, noise: Noise) -> Tensor:
        return canvas.editable

    def choose(
        self, canvas: Canvas, candidates: Tensor, guess: Guess, clock: Clock, noise: Noise
    ) -> Move:
        u = noise.uniform("transition", clock.step, canvas.ids.shape[1])
        tokens = clock.process.step_back(canvas.ids, guess.tokens, clock.t, clock.s, u)
        tokens = torch.where(canvas.editable, tokens, canvas.ids)
        return Move(tokens != canvas.ids, tokens=tokens)


@dataclass(frozen=True)
class Gibbs:
    """Hide one token a step and draw it anew given all others.

    The position of the next step is hidden at the end of a step, so that the network always sees it
    masked. Positions that were never visited are written in the last step.

    Args:
        sequential: Left to right in sweeps; else a random position of each row.

    Reference: Wang and Cho 2019, "BERT has a Mouth, and It Must Speak", arXiv:1902.04094. The
    authors withdrew the reading as a Markov random field: the conditionals of a trained network
    belong to no joint, so the law of the chain depends on the order of the positions.
    """

    sequential: bool = False
    revises: bool = True
    follows_grid: bool = False

    def candidates(self, canvas: Canvas, clock: Clock, noise: Noise) -> Tensor:
        if clock.last:
            return canvas.masked
        return self._place(canvas, clock.step, noise) & canvas.masked

    def choose(
        self, canvas: Canvas, candidates: Tensor, guess: Guess, clock: Clock, noise: Noise
    ) -> Move:
        if clock.last:
            return Move(candidates)
        return Move(candidates, self._place(canvas, clock.step + 1, noise))

    def _place(self, canvas: Canvas, step: int, noise: Noise) -> Tensor:
        """Return the position of a step, one in each row that has any, shape (B, L), bool."""
        count = canvas.editable.sum(1)
        if self.sequential:
            index = step % count.clamp_min(1)
        else:
            index = (noise.uniform("gibbs", step, 1)[:, 0] * count).long()
        return canvas.editable & (canvas.editable.cumsum(1) == index[:, None] + 1)
