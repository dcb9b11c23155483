r"""The denoiser: a guess p(x_0 | x_t, t) of what is under each mask.

    denoiser(xt, t, at=where) -> logits (N, V)    only at the N positions where ``at`` is True
    denoiser(xt, t)           -> logits (B, L, V) everywhere

The head over the vocabulary is the most expensive layer of a small encoder, so everything in this
project asks only for the positions it will use. Two rules hold for every denoiser, the "SUBS"
parametrisation of Sahoo et al. 2024, arXiv:2406.07524, Section 3.2.3:

    1. ids that are not data ([MASK], padding, the start symbol) have logit -inf;
    2. a visible token is kept: nobody asks a denoiser about it (unless a sampler revises it).

Guidance, constraints and caches are denoisers that own a denoiser.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


class Denoiser(Protocol):
    """What objectives and samplers know of a network."""

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
            at: Shape (B, L), bool; where logits are wanted, None for everywhere.
            valid: Shape (B, L), bool; False on padding, None if there is none.

        Returns:
            Shape (N, V) in row-major order of ``at``, or (B, L, V). Floating point. The tensor is
            the caller's, who may write over it.
        """
        ...


@runtime_checkable
class OrderedDenoiser(Denoiser, Protocol):
    """A denoiser whose guesses depend on the order in which tokens were written."""

    def conditionals(
        self, x0: Tensor, rank: Tensor, at: Tensor, valid: Tensor | None = None
    ) -> Tensor:
        """Return logits of p(x_i | all x_j with rank_j < rank_i) for every i asked about.

        Args:
            x0: Clean ids, shape (B, L), int64.
            rank: Shape (B, L), int64, the place of each position in the order of its row, all
                different.
            at: Shape (B, L), bool; where logits are wanted.
            valid: Shape (B, L), bool; False on padding, None if there is none.

        Returns:
            Shape (N, V), in row-major order of ``at``.
        """
        ...

    def session(self, cached: bool = True) -> Denoiser:
        """Return a denoiser for one run of a sampler, which remembers the order of writing.

        Args:
            cached: Keep what the network computed for written tokens; else compute it anew in every
                call, with the same result.
        """
        ...


class BlockContext(Denoiser, Protocol):
    """A denoiser of the block that comes next, given the clean blocks that it was handed so far.

    It is called with that block alone, shape (B, L'), or less if the row ends in it.
    """

    def append(self, block: Tensor) -> None:
        """Take the finished block, ids of shape (B, L'), into the context of those to come."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Hear which rows will be asked about again, shape (B,), bool; the others may be let go."""
        ...


class BlockDenoiser(Protocol):
    """A guess p(x_0^b | x_t^b, x_0^1 ... x_0^(b-1)) for all blocks b of a row in one call."""

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
            x0: Clean ids, shape (B, L), int64; of it block b is told to later blocks only.
            at: Shape (B, L), bool; where logits are wanted, None for everywhere.
            valid: Shape (B, L), bool; False on padding at the right, None if there is none.

        Returns:
            Shape (N, V) in row-major order of ``at``, or (B, L, V).
        """
        ...

    def context(self, cached: bool = True) -> BlockContext:
        """Return an empty context, to write or read block after block.

        Args:
            cached: Keep what the network computed for finished blocks; else compute it anew in
                every call, with the same result.
        """
        ...


def calls_of(denoiser: Denoiser) -> int:
    """Return how many network calls one call of a denoiser costs: its ``network_calls``, else 1."""
    return int(getattr(denoiser, "network_calls", 1))


def uses_time(denoiser: Denoiser) -> bool:
    """Return whether guesses may change with t or from call to call: ``uses_time``, else True."""
    return bool(getattr(denoiser, "uses_time", True))


@dataclass(frozen=True, eq=False)
class Around:
    """What denoisers that own a denoiser have in common.

    Args:
        inner: The denoiser whose guesses are changed.
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

    The log-softmax is taken in float32 whatever the network computes in: the weight of the bound
    multiplies its rounding.

    Returns:
        Shape (B,), float32 (float64 if the denoiser answers in float64); 0 for a row without masks.
    """
    # A batch without masks is asked all the same: its loss is 0 but must have a gradient.
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
        logits: Shape (N, V), in row-major order of ``at``; taken to float32 unless in float64.
        x0: Clean ids, shape (B, L), int64.
        at: Shape (B, L), bool.

    Returns:
        Shape (B,); 0 for a row without any.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    nats = cross_entropy(logits, x0[at], reduction="none")
    return nats.new_zeros(len(x0)).index_add(0, at.nonzero()[:, 0], nats)
