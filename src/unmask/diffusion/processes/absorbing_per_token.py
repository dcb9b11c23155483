r"""The absorbing process with a schedule per vocabulary entry.

At time t a token v is independently visible with probability alpha_v(t), else it is [MASK]. In the
reverse process from t to s < t a mask over the token v is revealed with probability

    rho_v(s, t) = (alpha_v(s) - alpha_v(t)) / (1 - alpha_v(t)) = 1 - m_v(s) / m_v(t),

with m_v = 1 - alpha_v. A sampler does not know v, so it draws v from the prediction and reveals it
with probability rho_v: the same law as one draw from V + 1 outcomes.

The mask pattern depends on the tokens, which gives a learned schedule a part of its gradient:
``log_mask_pattern``.

References: Shi et al. 2024, arXiv:2406.04329, Section 6 and Appendix G; He et al. 2022,
arXiv:2211.15029, Section 4.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unmask.diffusion.processes.base import Corrupted, masked_posterior
from unmask.diffusion.rng import Generator, uniform
from unmask.diffusion.schedules.per_token import TokenSchedule
from unmask.errors import UserError

# Bisection steps in ``time_of``: a time to 1e-12.
_HALVINGS = 40


@dataclass(frozen=True, eq=False)
class PerTokenProcess:
    """Masked diffusion with a schedule for every vocabulary entry.

    Args:
        schedule: 1 - alpha_v(t) and its rate.
        mask_token_id: The id of [MASK].
        weights: Frequency of each entry, shape (V,), not negative, any scale; the weights of the
            average over the vocabulary in ``time_of``. None for uniform weights.
    """

    schedule: TokenSchedule
    mask_token_id: int
    weights: Tensor | None = None

    def __post_init__(self) -> None:
        if self.weights is None:
            return
        if self.weights.shape != (self.schedule.vocab_size,):
            raise UserError(f"{self.schedule.vocab_size} entries need as many weights")
        if not bool((self.weights >= 0).all()) or not bool(self.weights.sum() > 0):
            raise UserError("the weights of the entries must not be negative or all zero")

    def _mask_prob(self, x0: Tensor, t: Tensor) -> Tensor:
        """Return 1 - alpha of the token at each position, (B, L), float64, differentiable."""
        return self.schedule.mask_prob(t.double()).gather(1, x0)

    @torch.no_grad()
    def corrupt(self, x0: Tensor, t: Tensor, editable: Tensor, generator: Generator) -> Corrupted:
        """Draw x_t given x_0: mask each editable token v with probability 1 - alpha_v(t).

        Args:
            x0: Clean ids, shape (B, L), int64.
            t: Times, shape (B,), one per sequence.
            editable: Shape (B, L), bool; False where a token is given and never masked.
            generator: Source of randomness.
        """
        u = uniform(x0.shape, generator, x0.device)
        masked = (u < self._mask_prob(x0, t)) & editable
        return Corrupted(x0.masked_fill(masked, self.mask_token_id), masked)

    def log_mask_pattern(self, x0: Tensor, masked: Tensor, t: Tensor, editable: Tensor) -> Tensor:
        """Return log q(masked | x_0, t) in nats, shape (B,), float64, differentiable.

        sum over editable positions of  log m_x(t) where masked, log(1 - m_x(t)) where visible.
        -inf for an impossible pattern.
        """
        mask_prob = self._mask_prob(x0, t)
        # Each logarithm only gets its own positions: infinities elsewhere would spoil the gradient.
        log_masked = torch.where(masked, mask_prob, 1).log()
        log_visible = torch.log1p(-torch.where(editable & ~masked, mask_prob, 0))
        return (log_masked + log_visible).sum(1)

    def stay_prob(self, t: Tensor, s: Tensor) -> Tensor:
        """Return m_v(s) / m_v(t), the probability that a mask over v at t is still one at s < t.

        Shape (B, V), float64; times as in ``reveal_prob``. Exactly 0 at s = 0.
        """
        t, s = (torch.as_tensor(x).double().reshape(-1) for x in (t, s))
        return self.schedule.mask_prob(s) / self.schedule.mask_prob(t)

    def reveal_prob(self, t: Tensor, s: Tensor) -> Tensor:
        """Return rho_v(s, t) = (m_v(t) - m_v(s)) / m_v(t), exactly 1 at s = 0.

        Args:
            t: Current time, scalar or shape (B,).
            s: Next, earlier time, 0 <= s < t <= 1, scalar or shape (B,).

        Returns:
            Probabilities in [0, 1], shape (B, V), B = 1 for scalars, float64.
        """
        return 1 - self.stay_prob(t, s)

    def posterior(self, xt: Tensor, x0: Tensor, t: Tensor, s: Tensor, num_ids: int) -> Tensor:
        """Return q(x_s | x_t, x_0) over all ids, (B, L, num_ids); see ``masked_posterior``."""
        reveal = self.reveal_prob(t, s).expand(len(xt), -1).gather(1, x0)
        return masked_posterior(xt, x0, reveal, self.mask_token_id, num_ids)

    @torch.no_grad()
    def time_of(self, masked: Tensor, editable: Tensor) -> Tensor:
        """Return the time at which the expected masked share of editable tokens is the actual one.

        The tokens under the masks are unknown, so the expected share is the mean of m_v(t) over the
        vocabulary with ``weights``. It has no closed-form inverse; the time is found by bisection.

        Args:
            masked: Shape (B, L), bool.
            editable: Shape (B, L), bool.

        Returns:
            float64 times, shape (B,); 0 for a row without masks, 1 for one of masks only.
        """
        share = masked.sum(1).double() / editable.sum(1).clamp_min(1)
        low, high = torch.zeros_like(share), torch.ones_like(share)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            early = self._mean_mask_prob(middle) < share
            low, high = torch.where(early, middle, low), torch.where(early, high, middle)
        return torch.where(share > 0, high, low)

    def _mean_mask_prob(self, t: Tensor) -> Tensor:
        mask_prob = self.schedule.mask_prob(t)
        if self.weights is None:
            return mask_prob.mean(1)
        weights = self.weights.to(mask_prob)
        return mask_prob @ (weights / weights.sum())
