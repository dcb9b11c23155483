r"""The uniform process: a token turns into any other token, not into a mask.

A process without masks is a Markov chain on the K data ids, the same at every position. It follows
from q(x_t | x_s); by Bayes' rule the posterior is

    q(x_s | x_t, x_0) = q(x_t | x_s) q(x_s | x_0) / q(x_t | x_0),    0 <= s < t <= 1

In ``UniformProcess`` a token is unchanged with probability alpha(t), else any data id. For ordered
values, which move to near values first, see ``processes.gaussian.GaussianProcess``.

No token is certain, so every editable position is predicted at every time. A denoiser predicts
g(x_0) of a token *from the other positions*. There are two equivalent steps from t to s:

    sum over x_0 of g(x_0) q(x_s | x_0), times q(x_t | x_s), normalised              (the bound)
    x_0 ~ g(x_0) q(x_t | x_0), normalised, then x_s ~ q(x_s | x_t, x_0)              (a sampler)

The bound uses the first ("joint"), a sampler the second: ``posterior_logits``, any draw, then
``step_back``. Tensors with K columns are in the order of ``data_ids``.

Reference: Austin et al. 2021, "Structured Denoising Diffusion Models in Discrete State-Spaces"
(D3PM), arXiv:2107.03006, Sections 3.1 and 3.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from unmask.diffusion.processes.base import Corrupted
from unmask.diffusion.rng import Generator, uniform
from unmask.diffusion.schedules.continuous import Schedule
from unmask.errors import UserError


@dataclass(frozen=True, eq=False)
class UniformProcess:
    """A token is unchanged with probability alpha(t), else uniform over the data ids.

        q(x_t | x_0) = alpha(t) [x_t = x_0] + (1 - alpha(t)) / K

    From s to t the same holds with alpha(t) / alpha(s). At s = 0 a token is clean, also for a
    schedule whose alpha(0) is only nearly 1.

    Args:
        schedule: alpha(t) and its companions.
        data_ids: The ids of pure noise, shape (K,), int64; no special ids.

    Raises:
        UserError: If there are fewer than two ids, or one occurs twice.
    """

    schedule: Schedule
    data_ids: Tensor

    def __post_init__(self) -> None:
        if self.data_ids.ndim != 1 or len(self.data_ids.unique()) < max(2, len(self.data_ids)):
            raise UserError("uniform noise needs a list of at least two different data ids")

    @cached_property
    def _place(self) -> Tensor:
        count = len(self.data_ids)
        # An id that is not data gets the index K, which no tensor with K columns has.
        table = torch.full((int(self.data_ids.max()) + 1,), count, device=self.data_ids.device)
        table[self.data_ids] = torch.arange(count, device=self.data_ids.device)
        return table

    def places(self, ids: Tensor) -> Tensor:
        return self._place.to(ids.device)[ids]

    def _rates(self, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Return alpha(t) / alpha(s) and its complement, float64: kept and redrawn from s to t."""
        t, s = t.double(), s.double()
        alpha = torch.where(s == 0, 1.0, self.schedule.alpha(s))
        noised = torch.where(s == 0, 0.0, self.schedule.mask_prob(s))
        later = self.schedule.alpha(t)
        # The difference of the smaller numbers is more accurate. At alpha = 0 nothing is kept.
        fallen = torch.where(alpha > 0.5, self.schedule.mask_prob(t) - noised, alpha - later)
        kept = torch.where(alpha > 0, later / alpha, 0.0)
        redrawn = torch.where(alpha > 0, fallen / alpha, 1.0)
        return torch.where(t == 0, 1.0, kept), torch.where(t == 0, 0.0, redrawn)

    def corrupt(self, x0: Tensor, t: Tensor, editable: Tensor, generator: Generator) -> Corrupted:
        _, redrawn = self._rates(t, torch.zeros_like(t))
        chance, which = (uniform(x0.shape, generator, x0.device) for _ in range(2))
        noisy = (chance < redrawn[:, None]) & editable
        return Corrupted(torch.where(noisy, self.noise_ids(which), x0), editable)

    def log_forward(self, x0: Tensor, t: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
        # q(x_t | x_0) is symmetric.
        return self.log_likelihood(x0, t, torch.zeros_like(t), dtype)

    def log_likelihood(
        self, xt: Tensor, t: Tensor, s: Tensor, dtype: torch.dtype = torch.float64
    ) -> Tensor:
        count = len(self.data_ids)
        kept, redrawn = self._rates(t, s)
        same, other = (kept + redrawn / count).log(), (redrawn / count).log()
        result = other.to(dtype)[:, None].repeat(1, count)
        return result.scatter_(1, self.places(xt)[:, None], same.to(dtype)[:, None])

    def log_spread(self, log_prediction: Tensor, s: Tensor) -> Tensor:
        dtype = log_prediction.dtype
        kept, redrawn = self._rates(s, torch.zeros_like(s))
        floor = (redrawn / len(self.data_ids)).log().to(dtype)
        return torch.logaddexp(log_prediction + kept.log().to(dtype)[:, None], floor[:, None])

    def posterior_logits(self, logits: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        kept, redrawn = self._rates(t, torch.zeros_like(t))
        advantage = torch.log1p(len(self.data_ids) * kept / redrawn).to(logits.dtype)
        return logits.scatter_add(1, xt[:, None], advantage[:, None])

    def step_back(self, xt: Tensor, x0: Tensor, t: Tensor, s: Tensor, u: Tensor) -> Tensor:
        count = len(self.data_ids)
        kept, redrawn = self._rates(t, s)
        clean, noisy = self._rates(s, torch.zeros_like(s))
        # The product of (kept at x_t, or redrawn) and (clean at x_0, or noise) has four terms with
        # three outcomes: x_t, x_0 or any token.
        now = kept * (noisy / count + clean * (xt == x0))
        goal = redrawn * clean / count
        total = now + goal + redrawn * noisy / count
        rest = u * total - now
        anything = self.noise_ids((rest - goal) / (redrawn * noisy / count))
        return torch.where(rest < 0, xt, torch.where(rest < goal, x0, anything))

    def noise_ids(self, u: Tensor) -> Tensor:
        # Rounding, and branches of ``step_back`` that are not taken, may be outside 0..K-1.
        place = (u.nan_to_num() * len(self.data_ids)).clamp(0, len(self.data_ids) - 1).long()
        return self.data_ids.to(u.device)[place]

    def prior_nats(self, x0: Tensor) -> Tensor:
        others = len(self.data_ids) - 1
        alpha = self.schedule.alpha(torch.ones((), dtype=torch.float64, device=x0.device))
        same = (1 + others * alpha) * torch.log1p(others * alpha)
        return ((same + others * (1 - alpha) * torch.log1p(-alpha)) / (others + 1)).expand(x0.shape)
