r"""The absorbing process: masked diffusion with one schedule for all tokens.

At time t every token is independently visible with probability alpha(t), else it is [MASK]; in the
forward process a mask stays a mask. In the reverse process from t to s < t a visible token stays
and a masked one is revealed with probability

    u(s, t) = (alpha(s) - alpha(t)) / (1 - alpha(t)).

References: Austin et al. 2021, "Structured Denoising Diffusion Models in Discrete State-Spaces"
(D3PM), arXiv:2107.03006; Shi et al. 2024, arXiv:2406.04329, Section 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unmask.diffusion.processes.base import Corrupted, masked_posterior
from unmask.diffusion.rng import Generator, uniform
from unmask.diffusion.schedules.continuous import FromMasks, Schedule


@dataclass(frozen=True)
class AbsorbingProcess:
    """Masked diffusion with one schedule for every token.

    Args:
        schedule: alpha(t) and its companions.
        mask_token_id: The id of [MASK].
    """

    schedule: Schedule
    mask_token_id: int

    def corrupt(self, x0: Tensor, t: Tensor, editable: Tensor, generator: Generator) -> Corrupted:
        """Draw x_t given x_0: mask each editable token with probability 1 - alpha(t).

        Args:
            x0: Clean ids, shape (B, L), int64.
            t: Times, shape (B,), one per sequence.
            editable: Shape (B, L), bool; False where a token is given and never masked.
            generator: Source of randomness.
        """
        mask_prob = self.schedule.mask_prob(t.double())[:, None]
        u = uniform(x0.shape, generator, x0.device)
        return self._mask(x0, (u < mask_prob) & editable)

    def corrupt_exactly(
        self, x0: Tensor, count: Tensor, editable: Tensor, generator: Generator
    ) -> tuple[Corrupted, Tensor]:
        """Mask exactly ``count`` editable tokens of each row; also draw a time that fits them.

        Every token is masked at a uniform mask rate of its own. The tokens with the ``count``
        smallest rates are masked, and the largest of these rates is that of the last one masked: it
        has the law Beta(count, L - count + 1), whichever tokens they are.

        Args:
            x0: Clean ids, shape (B, L), int64.
            count: Number of masks, shape (B,), int64.
            editable: Shape (B, L), bool.
            generator: Source of randomness.

        Returns:
            The noised batch, and float64 times, shape (B,); 0 for a row without masks. A sampler
            starts from masks alone, so the mask rate at t is m(t) / m(1), with m = 1 - alpha.
        """
        rates = uniform(x0.shape, generator, x0.device)
        noised = self.mask_first(x0, rates, count, editable)
        largest = rates.masked_fill(~noised.masked, 0).amax(1)
        return noised, FromMasks(self.schedule).inverse(1 - largest).clamp(0, 1)

    def mask_first(self, x0: Tensor, order: Tensor, count: Tensor, editable: Tensor) -> Corrupted:
        """Mask the ``count`` (B,) editable tokens of each row that come first in ``order`` (B, L).

        Args:
            x0: Clean ids, shape (B, L), int64.
            order: Numbers in [0, 1], shape (B, L); the smallest come first.
            count: Number of masks, shape (B,), int64.
            editable: Shape (B, L), bool.
        """
        rank = order.masked_fill(~editable, 2).argsort(1).argsort(1)
        return self._mask(x0, (rank < count[:, None]) & editable)

    def _mask(self, x0: Tensor, masked: Tensor) -> Corrupted:
        return Corrupted(x0.masked_fill(masked, self.mask_token_id), masked)

    def reveal_prob(self, t: Tensor, s: Tensor) -> Tensor:
        """Return u(s, t), the probability that a token masked at t is visible at s < t.

        Exactly 1 at s = 0, also for a schedule whose alpha(0) is only nearly 1. Same shape as t.
        """
        later, earlier = self.schedule.mask_prob(t), self.schedule.mask_prob(s)
        return torch.where(s == 0, torch.ones_like(later), (later - earlier) / later)

    def posterior(self, xt: Tensor, x0: Tensor, t: Tensor, s: Tensor, vocab_size: int) -> Tensor:
        """Return q(x_s | x_t, x_0) over all ids, (B, L, vocab_size); see ``masked_posterior``."""
        reveal = self.reveal_prob(t.double(), s.double())[:, None].expand(xt.shape)
        return masked_posterior(xt, x0, reveal, self.mask_token_id, vocab_size)

    def time_of(self, masked: Tensor, editable: Tensor) -> Tensor:
        """Return the time at which the expected masked share of editable tokens is the actual one.

        Args:
            masked: Shape (B, L), bool.
            editable: Shape (B, L), bool.

        Returns:
            float64 times, shape (B,); 0 for a row without masks.
        """
        total = editable.sum(1).clamp_min(1)
        visible_share = 1 - masked.sum(1).double() / total
        return self.schedule.inverse(visible_share).clamp(0, 1)


def bert_replacement(
    x0: Tensor, selected: Tensor, mask_token_id: int, random_ids: Tensor, generator: torch.Generator
) -> Tensor:
    """Apply BERT's 80/10/10 rule: selected tokens become 80 % [MASK], 10 % random, 10 % unchanged.

    Args:
        x0: Clean ids, shape (B, L), int64.
        selected: Shape (B, L), bool; the tokens that the loss is on.
        mask_token_id: The id of [MASK].
        random_ids: Shape (R,), int64; the ids from which random replacements are drawn.
        generator: Source of randomness.

    Returns:
        Corrupted ids, shape (B, L).

    Reference: Devlin et al. 2019, "BERT", arXiv:1810.04805, Section 3.1.
    """
    fate = torch.rand(x0.shape, dtype=torch.float64, generator=generator, device=x0.device)
    pick = torch.randint(len(random_ids), x0.shape, generator=generator, device=x0.device)
    xt = torch.where(selected & (fate < 0.8), mask_token_id, x0)
    return torch.where(selected & (fate >= 0.8) & (fate < 0.9), random_ids[pick], xt)
