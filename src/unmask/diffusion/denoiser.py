r"""Denoisers: the contracts of networks that predict p(x_0 | x_t, t), and their cross-entropy.

    denoiser(xt, t, at=where) -> logits (N, V)    only at the N positions where ``at`` is True
    denoiser(xt, t)           -> logits (B, L, V) everywhere

The head over the vocabulary is the most expensive layer of a small encoder, so this project only
queries the positions that it uses. Two rules hold for every denoiser, the "SUBS" parametrisation of
Sahoo et al. 2024, arXiv:2406.07524, Section 3.2.3:

    1. ids that are not data ([MASK], padding, the start symbol) have logit -inf;
    2. a visible token stays: it is not queried (unless a sampler revises it).

Guidance, constraints and caches are denoisers that wrap a denoiser.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


class Denoiser(Protocol):
    """A network as objectives and samplers see it."""

    @property
    def vocab_size(self) -> int:
        """Number of logits per position, V."""
        ...

    @property
    def data_ids(self) -> Tensor:
        """The ids that can occur in data, shape (V',), int64: those whose logit is finite."""
        ...

    def __call__(
        self, xt: Tensor, t: Tensor, *, at: Tensor | None = None, valid: Tensor | None = None
    ) -> Tensor:
        """Return logits of p(x_0 | x_t, t).

        Args:
            xt: Noised ids, shape (B, L), int64.
            t: Times, shape (B,).
            at: Shape (B, L), bool; the queried positions, None for all.
            valid: Shape (B, L), bool; False on padding, None if there is none.

        Returns:
            Shape (N, V) in row-major order of ``at``, or (B, L, V). Floating point. The caller may
            overwrite the tensor.
        """
        ...


@runtime_checkable
class OrderedDenoiser(Denoiser, Protocol):
    """A denoiser that is conditioned on the order in which tokens were generated."""

    def conditionals(
        self, x0: Tensor, rank: Tensor, at: Tensor, valid: Tensor | None = None
    ) -> Tensor:
        """Return logits of p(x_i | all x_j with rank_j < rank_i) at every queried position i.

        Args:
            x0: Clean ids, shape (B, L), int64.
            rank: Shape (B, L), int64; the rank of each position in the order of its row, all
                different.
            at: Shape (B, L), bool; the queried positions.
            valid: Shape (B, L), bool; False on padding, None if there is none.

        Returns:
            Shape (N, V), in row-major order of ``at``.
        """
        ...

    def session(self, cached: bool = True) -> Denoiser:
        """Return a denoiser for one sampling run, which records the order of generation.

        Args:
            cached: Cache keys and values of generated tokens; else recompute them in every call,
                with the same result.
        """
        ...


class BlockContext(Denoiser, Protocol):
    """A denoiser of the next block, conditioned on the clean blocks appended so far.

    It is called with that block alone, shape (B, L'), or shorter if the row ends in it.
    """

    def append(self, block: Tensor) -> None:
        """Append a finished block, ids of shape (B, L'), to the context of the next ones."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Drop the context of all rows but ``rows``, shape (B,), bool: the others are finished."""
        ...


class BlockDenoiser(Protocol):
    """A network that predicts all blocks in one call, p(x_0^b | x_t^b, x_0^1 ... x_0^(b-1))."""

    @property
    def vocab_size(self) -> int:
        """Number of logits per position, V."""
        ...

    @property
    def data_ids(self) -> Tensor:
        """The ids that can occur in data, shape (V',), int64."""
        ...

    def __call__(
        self, xt: Tensor, x0: Tensor, *, at: Tensor | None = None, valid: Tensor | None = None
    ) -> Tensor:
        """Return logits of every block given the clean blocks before it.

        Args:
            xt: Noised ids, shape (B, L), int64.
            x0: Clean ids, shape (B, L), int64; only later blocks are conditioned on block b.
            at: Shape (B, L), bool; the queried positions, None for all.
            valid: Shape (B, L), bool; False on padding at the right, None if there is none.

        Returns:
            Shape (N, V) in row-major order of ``at``, or (B, L, V).
        """
        ...

    def context(self, cached: bool = True) -> BlockContext:
        """Return an empty context, for one sampling run.

        Args:
            cached: Cache keys and values of finished blocks; else recompute them in every call,
                with the same result.
        """
        ...


def calls_of(denoiser: Denoiser) -> int:
    """Return the network calls per call of a denoiser: its ``network_calls``, else 1."""
    return int(getattr(denoiser, "network_calls", 1))


def uses_time(denoiser: Denoiser) -> bool:
    """Return whether predictions may change with t or between calls: ``uses_time``, else True."""
    return bool(getattr(denoiser, "uses_time", True))


@dataclass(frozen=True, eq=False)
class DenoiserWrapper:
    """Base class of denoisers that wrap a denoiser.

    Args:
        inner: The wrapped denoiser.
    """

    inner: Denoiser

    @property
    def vocab_size(self) -> int:
        return self.inner.vocab_size

    @property
    def data_ids(self) -> Tensor:
        return self.inner.data_ids

    @property
    def network_calls(self) -> int:
        return calls_of(self.inner)

    @property
    def uses_time(self) -> bool:
        return uses_time(self.inner)


def masked_cross_entropy(
    denoiser: Denoiser,
    xt: Tensor,
    t: Tensor,
    x0: Tensor,
    masked: Tensor,
    valid: Tensor | None = None,
) -> Tensor:
    """Return S(x_0, x_t) = sum over masked positions of -log p(x_0 | x_t, t), in nats per sequence.

    The log-softmax is in float32 whatever the dtype of the network, because the weight of the bound
    multiplies its rounding errors.

    Returns:
        Shape (B,), float32 (float64 if the logits are float64); 0 for a row without masks.
    """
    # The network also runs on a batch without masks: the loss is 0 but must have a gradient.
    return row_nats(denoiser(xt, t, at=masked, valid=valid), x0, masked)


def token_nats(logits: Tensor, x0: Tensor, at: Tensor) -> Tensor:
    """Return -log p(x_0) at the positions ``at``, in nats, shape (B, L); 0 elsewhere.

    The arguments are those of ``row_nats``.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    nats = cross_entropy(logits, x0[at], reduction="none")
    return nats.new_zeros(x0.shape).masked_scatter(at, nats)


def row_nats(logits: Tensor, x0: Tensor, at: Tensor) -> Tensor:
    """Return the sum of -log p(x_0) over the positions ``at``, in nats per sequence.

    Args:
        logits: Shape (N, V), in row-major order of ``at``; cast to float32 unless float64.
        x0: Clean ids, shape (B, L), int64.
        at: Shape (B, L), bool.

    Returns:
        Shape (B,); 0 for a row without such positions.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    nats = cross_entropy(logits, x0[at], reduction="none")
    return nats.new_zeros(len(x0)).index_add(0, at.nonzero()[:, 0], nats)
