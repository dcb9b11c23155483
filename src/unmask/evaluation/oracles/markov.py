r"""An exact denoiser of text: a Markov chain of order 2, estimated from any text.

It has dependence between tokens, any length, and known conditionals: a step between an enumerated
joint and a trained network.

Reference: Rabiner 1989, "A Tutorial on Hidden Markov Models", Proc. IEEE 77(2) (forward-backward,
here on pairs of tokens).
"""

from __future__ import annotations

import torch
from torch import Tensor

from unmask.errors import UserError
from unmask.evaluation.oracles.joint import JointOracle, conditional, distribution


class SecondOrderOracle:
    """Exact conditionals of a Markov chain of order 2, for sequences of at least two tokens.

    Args:
        initial: p(x_1, x_2), shape (V, V).
        transition: p(x_{i+2} | x_i, x_{i+1}), shape (V, V, V), one row per pair.

    Raises:
        UserError: If a row is not a distribution or the shapes do not fit.
    """

    def __init__(self, initial: Tensor, transition: Tensor) -> None:
        size = self.vocab_size = len(initial)
        if initial.shape != (size, size) or transition.shape != (size, size, size):
            raise UserError(f"{size} tokens need the shapes {(size,) * 2} and {(size,) * 3}")
        self.initial = distribution(initial.flatten()).view(size, size)
        self.transition = distribution(transition)
        self.mask_token_id = size
        self.data_ids = torch.arange(size, device=initial.device)

    @classmethod
    def from_ids(cls, ids: Tensor, vocab_size: int, smoothing: float = 0.01) -> SecondOrderOracle:
        """Estimate a chain from a long text.

        Args:
            ids: Shape (N,), int64.
            vocab_size: V.
            smoothing: Added to the count of every triple, so that every text is possible.
        """
        pairs = torch.bincount(ids[:-1] * vocab_size + ids[1:], minlength=vocab_size**2)
        triples = cls.triples(ids[None], vocab_size) + smoothing
        start = (pairs.double() + smoothing).view(vocab_size, vocab_size)
        return cls(start / start.sum(), triples / triples.sum(2, keepdim=True))

    def __call__(
        self, xt: Tensor, t: Tensor, *, at: Tensor | None = None, valid: Tensor | None = None
    ) -> Tensor:
        """Return log p(x_i | visible tokens), (N, V) or (B, L, V); see ``MarkovOracle``."""
        if xt.shape[1] < 2:
            raise UserError("a chain of order 2 needs sequences of at least two tokens")
        xt = xt if valid is None else xt.masked_fill(~valid, self.mask_token_id)
        masked = xt == self.mask_token_id
        own = torch.zeros(*xt.shape, self.vocab_size, dtype=torch.float64, device=xt.device)
        queried = masked if at is None else masked & at
        if queried.any():
            own[queried] = self._at_masks(xt, masked, queried)
        return conditional(own.log(), xt, at)

    def _at_masks(self, xt: Tensor, masked: Tensor, queried: Tensor) -> Tensor:
        """Return p(x_i | visible tokens) up to a factor at N masks (B, L), shape (N, V).

        Two visible neighbours separate the tokens on their left from those on their right, so the
        sum is over the chunk between two such pairs only; equal chunks are computed once.
        """
        row, place = queried.nonzero().T
        begin, end = _chunks(masked)
        begin, end = begin[queried], end[queried]
        columns = torch.arange(int((end - begin).max()) + 1, device=xt.device)
        at = begin[:, None] + columns
        beyond = at > end[:, None]
        ids = xt[row[:, None], at.clamp_max(xt.shape[1] - 1)].masked_fill(beyond, -1)
        # The longest first, so that the sums continue with fewer and fewer chunks.
        keys = torch.cat([(begin - end)[:, None], (begin == 0)[:, None], ids], 1)
        keys, inverse = keys.unique(dim=0, return_inverse=True)
        return self._sums(keys[:, 2:], 1 - keys[:, 0], keys[:, 1] == 1)[inverse, place - begin]

    def _sums(self, ids: Tensor, width: Tensor, first: Tensor) -> Tensor:
        """Return p(x_i, visible tokens) up to a factor for chunks, (S, W, V).

        Args:
            ids: Shape (S, W), int64.
            width: Tokens in each chunk, shape (S,), decreasing.
            first: Whether a chunk begins its sequence, shape (S,), bool.
        """
        seen = ((ids[..., None] == self.data_ids) | (ids == self.mask_token_id)[..., None]).double()
        count = [int((width > k).sum()) for k in range(ids.shape[1])]
        start = torch.where(first[:, None, None], self.initial, torch.ones_like(self.initial))
        message = start * seen[:, 0, :, None] * seen[:, 1, None]
        forward = [message]  # p(x_{k-1}, x_k, visible tokens up to k), from k = 1 on
        for k in range(2, len(count)):
            n = count[k]
            message = torch.einsum("nab,abc->nbc", message[:n], self.transition)
            message = _scaled(message * seen[:n, k, None])
            forward.append(message)
        own = torch.zeros_like(seen)
        message = torch.ones_like(start[: count[-1]])  # p(visible tokens after k | x_{k-1}, x_k)
        for k in range(len(count) - 1, 0, -1):
            n = count[k]
            message = torch.cat([message, torch.ones_like(start[len(message) : n])])
            pair = forward[k - 1] * message
            own[:n, k] = pair.sum(1)
            if k > 1:
                message = _scaled(
                    torch.einsum("nbc,abc->nab", message * seen[:n, k, None], self.transition)
                )
        own[:, 0] = pair.sum(2)
        return own

    def log_prob(self, x0: Tensor) -> Tensor:
        """Return log p(x_0) in nats, shape (B,), for clean ids (B, L)."""
        steps = self.transition[x0[:, :-2], x0[:, 1:-1], x0[:, 2:]].log().sum(1)
        return self.initial[x0[:, 0], x0[:, 1]].log() + steps

    def entropy(self, length: int) -> float:
        """Return the entropy of a sequence of this length, in nats."""
        pair, rows = self.initial, -torch.xlogy(self.transition, self.transition).sum(2)
        total = -torch.xlogy(pair, pair).sum()
        for _ in range(length - 2):
            total = total + (pair * rows).sum()
            pair = torch.einsum("ab,abc->bc", pair, self.transition)
        return float(total)

    def sequences(self, count: int, length: int, generator: torch.Generator) -> Tensor:
        """Draw sequences, shape (count, length), int64."""
        first = torch.multinomial(
            self.initial.flatten(), count, replacement=True, generator=generator
        )
        rows = [first // self.vocab_size, first % self.vocab_size]
        for _ in range(length - 2):
            probs = self.transition[rows[-2], rows[-1]]
            rows.append(torch.multinomial(probs, 1, generator=generator)[:, 0])
        return torch.stack(rows[:length], 1)

    @staticmethod
    def triples(ids: Tensor, vocab_size: int) -> Tensor:
        """Return the counts of triples of neighbours in sequences (B, L), shape (V, V, V)."""
        code = (ids[:, :-2] * vocab_size + ids[:, 1:-1]) * vocab_size + ids[:, 2:]
        count = torch.bincount(code.flatten(), minlength=vocab_size**3).double()
        return count.view(vocab_size, vocab_size, vocab_size)

    def triple_law(self, length: int) -> Tensor:
        """Return the mean probability of each triple over the positions, shape (V, V, V)."""
        pair, total = self.initial, torch.zeros_like(self.transition)
        for _ in range(length - 2):
            triple = pair[..., None] * self.transition
            total, pair = total + triple, triple.sum(0)
        return total / (length - 2)

    def joint(self, length: int) -> JointOracle:
        """Return the chain as an enumerated joint over V^length sequences."""
        probs = self.initial
        for _ in range(length - 2):
            probs = probs[..., None] * self.transition
        return JointOracle(probs)


def _scaled(message: Tensor) -> Tensor:
    total = message.sum((1, 2), keepdim=True)
    return message / total.clamp_min(torch.finfo(message.dtype).tiny)


def _chunks(masked: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first and the last position of the chunk that each mask is in, both (B, L).

    A chunk begins with the last two visible neighbours before a mask, or at the start of the
    sequence, and ends with the first two after it, or at the end.
    """
    places = torch.arange(masked.shape[1], device=masked.device)
    visible = ~masked
    both = visible[:, :-1] & visible[:, 1:]
    none = torch.zeros_like(both[:, :1])
    begins, ends = torch.cat([both, none], 1), torch.cat([none, both], 1)
    begin = torch.where(begins, places, 0).cummax(1).values
    end = torch.where(ends, places, len(places) - 1).flip(1).cummin(1).values.flip(1)
    return begin, end
