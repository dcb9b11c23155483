r"""The discretised Gaussian process for ordered values: noise moves a value to near values first.

A ``TransitionProcess`` on the values 0..K-1, such as the levels of a pixel. There is no closed form
beyond a single step, so q(x_t | x_0) is read from a table of K x K matrices in float64. (Steps of
different sizes do not commute, because of their diagonals, so no common eigenvectors would do.) A
step over several points of the grid is a product of single steps, never an inverse.

For T = 1000 and K = 256 the table has 526 MB and takes some seconds; it is made on first use. Laws
of single positions, K numbers in float64 each, are only ever made for a part of a batch.

Reference: Austin et al. 2021, "Structured Denoising Diffusion Models in Discrete State-Spaces"
(D3PM), arXiv:2107.03006, Appendix A.2.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from unmask.diffusion.processes.base import Corrupted
from unmask.diffusion.rng import Generator, uniform
from unmask.errors import UserError

_LARGEST_TABLE = 2**31  # bytes
# Lower bound of all transition probabilities, which avoids 0 / 0. It is far below what 53 random
# bits can draw.
_RAREST = 1e-300
# Positions whose laws are in memory at once.
_PART = 2**15


@dataclass(frozen=True, eq=False)
class GaussianProcess:
    """Gaussian noise on K levels, which satisfies ``TransitionProcess``.

        Q_ij = exp(-4 (i - j)^2 / ((K - 1)^2 b)) / Z    for i != j, the rest of a row at j = i

    in a step of size b, with Z the sum over all differences from -(K - 1) to K - 1. Q is symmetric,
    so pure noise is uniform. Times are rounded to the grid j / T.

    Args:
        betas: The step sizes b, shape (T,), on the device of the batches; see
            ``schedules.tabulated.LinearBeta``.
        levels: K; the values are the ids 0..K-1.

    Raises:
        UserError: If a number is out of range, or the table of T matrices would exceed 2 GiB.
    """

    betas: Tensor
    levels: int

    def __post_init__(self) -> None:
        if self.betas.ndim != 1 or not self.betas.numel() or bool((self.betas <= 0).any()):
            raise UserError("Gaussian noise needs a list of step sizes above 0")
        if self.levels < 2:
            raise UserError(f"Gaussian noise needs at least 2 levels, not {self.levels}")
        if (len(self.betas) + 1) * self.levels**2 * 8 > _LARGEST_TABLE:
            raise UserError(
                f"{len(self.betas)} steps of {self.levels} levels need more than 2 GiB of tables; "
                "take fewer steps or levels, or uniform noise"
            )

    @property
    def num_steps(self) -> int:
        """The number of steps of the chain, T."""
        return len(self.betas)

    @cached_property
    def data_ids(self) -> Tensor:
        return torch.arange(self.levels, device=self.betas.device)

    def places(self, ids: Tensor) -> Tensor:
        return ids

    def _single(self, step: int) -> Tensor:
        """Return Q of one step (0-based), shape (K, K), float64."""
        gap = (self.data_ids[:, None] - self.data_ids).double() / (self.levels - 1)
        weight = torch.exp(-4 * gap.square() / self.betas[step].double())
        matrix = weight / (2 * weight[0].sum() - 1)
        matrix.fill_diagonal_(0)
        return matrix + torch.diag(1 - matrix.sum(1))

    @cached_property
    def _cumulative(self) -> Tensor:
        """All products Q_1 ... Q_j, shape (T + 1, K, K), float64, beginning with the identity.

        Entry [j, x_0, x_t] is q(x_t | x_0) at t = j / T.
        """
        shape = (len(self.betas) + 1, self.levels, self.levels)
        table = torch.empty(shape, dtype=torch.float64, device=self.betas.device)
        table[0] = torch.eye(self.levels, dtype=torch.float64)
        for step in range(len(self.betas)):
            table[step + 1] = table[step] @ self._single(step)
        table[1:].clamp_min_(_RAREST)
        return table

    def _between(self, start: int, end: int) -> Tensor:
        """Return the product of the steps after ``start`` up to ``end``, shape (K, K)."""
        if start == 0 or start >= end:
            return self._cumulative[end if start == 0 else 0]
        matrix = self._single(start)
        for step in range(start + 1, end):
            matrix = matrix @ self._single(step)
        return matrix.clamp_min(_RAREST)

    def _step(self, t: Tensor) -> Tensor:
        return (t.double() * len(self.betas)).round().long()

    def corrupt(self, x0: Tensor, t: Tensor, editable: Tensor, generator: Generator) -> Corrupted:
        u = uniform(x0.shape, generator, x0.device)
        step = self._step(t)[:, None].expand_as(x0)
        # A given token need not be a level.
        parts = _parts(step[editable], x0[editable], u[editable])
        drawn = [_invert(self._cumulative[now, clean], v) for now, clean, v in parts]
        return Corrupted(x0.masked_scatter(editable, torch.cat(drawn)), editable)

    def log_forward(self, x0: Tensor, t: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
        result = torch.empty(len(x0), self.levels, dtype=dtype, device=x0.device)
        for step, rows in _groups(self._step(t)):
            result[rows] = self._cumulative[step].log().to(dtype)[x0[rows]]
        return result

    def log_likelihood(
        self, xt: Tensor, t: Tensor, s: Tensor, dtype: torch.dtype = torch.float64
    ) -> Tensor:
        result = torch.empty(len(xt), self.levels, dtype=dtype, device=xt.device)
        size = len(self.betas) + 1
        for pair, rows in _groups(self._step(s) * size + self._step(t)):
            matrix = self._between(pair // size, pair % size)
            result[rows] = matrix.T.log().to(dtype)[xt[rows]]
        return result

    def log_spread(self, log_prediction: Tensor, s: Tensor) -> Tensor:
        result = log_prediction.clone()
        for step, rows in _groups(self._step(s)):
            if step > 0:
                # Probabilities of far values underflow in float32, but their sum matters.
                law = log_prediction[rows].double().exp() @ self._cumulative[step]
                result[rows] = law.log().to(log_prediction.dtype)
        return result

    def posterior_logits(self, logits: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        like = self.log_likelihood(xt, t, torch.zeros_like(t), logits.dtype)
        result = torch.full_like(logits, -torch.inf)
        result[:, : self.levels] = logits[:, : self.levels] + like
        return result

    def step_back(self, xt: Tensor, x0: Tensor, t: Tensor, s: Tensor, u: Tensor) -> Tensor:
        start, end = int(self._step(s)), int(self._step(t))
        like, forward = self._between(start, end).T.log(), self._cumulative[start].log()
        parts = _parts(xt.flatten(), x0.flatten(), u.flatten())
        drawn = [_invert(torch.softmax(like[a] + forward[b], -1), v) for a, b, v in parts]
        return torch.cat(drawn).view(xt.shape)

    def noise_ids(self, u: Tensor) -> Tensor:
        return (u * self.levels).long()

    def prior_nats(self, x0: Tensor) -> Tensor:
        last = self._cumulative[-1]
        return torch.xlogy(last, last * self.levels).sum(1)[x0]


def _parts(*values: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield the same part of every tensor (N,) in turn, at least one."""
    return zip(*(value.split(_PART) for value in values), strict=True)


def _groups(keys: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield every distinct key of ``keys`` (N,), int64, and its indices."""
    values, group = keys.unique(return_inverse=True)
    for number, value in enumerate(values.tolist()):
        yield value, (group == number).nonzero()[:, 0]


def _invert(law: Tensor, u: Tensor) -> Tensor:
    """Return the first index at which the cumulative law exceeds u, same shape as u.

    Args:
        law: Weights, shape (..., K), float64.
        u: Shape (...), float64 in [0, 1).
    """
    reached = law.cumsum(-1)
    total = reached[..., -1:]
    target = torch.minimum(u[..., None] * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(reached, target, right=True)[..., 0]
