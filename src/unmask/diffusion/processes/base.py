"""Contracts of forward processes: ``Corrupted``, ``MaskingProcess``, ``TransitionProcess``."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from unmask.diffusion.rng import Generator


class Corrupted(NamedTuple):
    """A noised batch: ids (B, L), int64, and masked (B, L), bool, the positions to predict."""

    ids: Tensor
    masked: Tensor


class MaskingProcess(Protocol):
    """What an exact likelihood needs of a process: ``AbsorbingProcess`` or ``PerTokenProcess``."""

    @property
    def mask_token_id(self) -> int:
        """The id of [MASK]."""
        ...

    def time_of(self, masked: Tensor, editable: Tensor) -> Tensor:
        """Return the time at which a sampler has these masks, (B,), float64."""
        ...


class TransitionProcess(Protocol):
    """A process in which a token turns into another token; see ``processes.uniform``.

    N positions each have their own times, (N,), float64. Ids are vocabulary ids, int64.
    """

    @property
    def data_ids(self) -> Tensor:
        """The K ids of the chain, shape (K,), int64."""
        ...

    def places(self, ids: Tensor) -> Tensor:
        """Return the index of each id in ``data_ids``, in 0..K-1, same shape."""
        ...

    def corrupt(self, x0: Tensor, t: Tensor, editable: Tensor, generator: Generator) -> Corrupted:
        """Draw x_t given x_0 at the editable positions.

        Args:
            x0: Clean ids, shape (B, L), int64.
            t: Times, shape (B,), one per sequence.
            editable: Shape (B, L), bool; False where a token is given and never changes.
            generator: Source of randomness.

        Returns:
            Noised ids, and ``editable`` as the positions to predict.
        """
        ...

    def log_forward(self, x0: Tensor, t: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
        """Return log q(x_t = . | x_0), shape (N, K), for ids x0 (N,)."""
        ...

    def log_likelihood(
        self, xt: Tensor, t: Tensor, s: Tensor, dtype: torch.dtype = torch.float64
    ) -> Tensor:
        """Return log q(x_t | x_s = .), shape (N, K), for ids xt (N,) and s < t."""
        ...

    def log_spread(self, log_prediction: Tensor, s: Tensor) -> Tensor:
        """Return the log-law of x_s if ``log_prediction`` is that of x_0, both (N, K)."""
        ...

    def posterior_logits(self, logits: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        """Return logits of p(x_0 | x_t) from a prediction not conditioned on the own token.

        Args:
            logits: Shape (N, V), -inf outside ``data_ids``.
            xt: The noised tokens at these positions, shape (N,).
            t: Shape (N,), above 0.

        Returns:
            logits + log q(x_t | x_0 = .), shape (N, V); not normalised.
        """
        ...

    def step_back(self, xt: Tensor, x0: Tensor, t: Tensor, s: Tensor, u: Tensor) -> Tensor:
        """Draw x_s from q(x_s | x_t, x_0) by inversion.

        Args:
            xt: Current ids, any shape.
            x0: Predicted clean ids, same shape.
            t: Current time, a scalar.
            s: Next, earlier time, a scalar; at s = 0 the result is x0.
            u: float64 in (0, 1), same shape as xt.
        """
        ...

    def noise_ids(self, u: Tensor) -> Tensor:
        """Return pure noise from uniform numbers u in (0, 1), any shape."""
        ...

    def prior_nats(self, x0: Tensor) -> Tensor:
        """Return KL(q(x_1 | x_0) || pure noise) in nats, float64, for ids x0 of any shape."""
        ...


def posterior(process: TransitionProcess, xt: Tensor, x0: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """Return q(x_s | x_t, x_0) over all K data ids, shape (N, K), float64.

    For tests and small vocabularies; arguments of shape (N,). Exactly x_0 at s = 0.
    """
    return torch.softmax(process.log_likelihood(xt, t, s) + process.log_forward(x0, s), 1)


def masked_posterior(
    xt: Tensor, x0: Tensor, reveal: Tensor, mask_token_id: int, num_ids: int
) -> Tensor:
    """Return q(x_s | x_t, x_0) of a masking process over all ids, (B, L, num_ids), float64.

    A visible token stays with certainty. A masked one is x_0 with probability ``reveal``, else
    still [MASK]. For tests and small vocabularies: no sampler builds this tensor.

    Args:
        xt: Noised ids, shape (B, L), int64.
        x0: Clean ids, same shape.
        reveal: Probability that a token masked at t is visible at s, shape (B, L), float64.
        mask_token_id: The id of [MASK].
        num_ids: Size of the last dimension, [MASK] included.
    """
    masked = xt == mask_token_id
    result = torch.zeros(*xt.shape, num_ids, dtype=torch.float64, device=xt.device)
    result.scatter_(2, xt[..., None], torch.where(masked, 1 - reveal, 1.0)[..., None])
    return result.scatter_add_(2, x0[..., None], torch.where(masked, reveal, 0.0)[..., None])
