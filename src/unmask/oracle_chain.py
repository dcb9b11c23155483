r"""An exact denoiser of text: a Markov chain of order 2, estimated from any text.

Far from independent, of any length, and every conditional is known: between a joint that can be
enumerated and a network about which nothing is known for sure.

Reference: Rabiner 1989, "A Tutorial on Hidden Markov Models", Proc. IEEE 77(2) (forward-backward,
here on pairs of tokens).
"""

from __future__ import annotations

import torch
from torch import Tensor

from unmask.errors import UserError
from unmask.oracle import JointOracle, conditional, distribution


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
            smoothing: Added to the count of every triple, so that all texts are possible.
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
        hidden = (xt == self.mask_token_id)[..., None]
        seen = ((xt[..., None] == self.data_ids) | hidden).double()  # (B, L, V)
        pairs = self._forward(seen) * self._backward(seen)  # (B, L - 1, V, V)
        own = torch.cat([pairs.sum(3), pairs[:, -1:].sum(2)], 1)
        return conditional(own.log(), xt, at)

    def _forward(self, seen: Tensor) -> Tensor:
        """Return p(x_i, x_{i+1}, what is visible up to i + 1) up to a factor, (B, L - 1, V, V)."""
        message = self.initial * seen[:, 0, :, None] * seen[:, 1, None]
        result = [message]
        for i in range(2, seen.shape[1]):
            message = torch.einsum("nab,abc->nbc", message, self.transition) * seen[:, i, None]
            message = _scaled(message)
            result.append(message)
        return torch.stack(result, 1)

    def _backward(self, seen: Tensor) -> Tensor:
        """Return p(what is visible after i + 1 | x_i, x_{i+1}) up to a factor, (B, L - 1, V, V)."""
        message = torch.ones_like(self.initial).expand(len(seen), -1, -1)
        result = [message]
        for i in range(seen.shape[1] - 1, 1, -1):
            message = torch.einsum("nbc,abc->nab", message * seen[:, i, None], self.transition)
            message = _scaled(message)
            result.append(message)
        return torch.stack(result[::-1], 1)

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
        """Return how often each triple of neighbours occurs in rows (B, L), shape (V, V, V)."""
        code = (ids[:, :-2] * vocab_size + ids[:, 1:-1]) * vocab_size + ids[:, 2:]
        count = torch.bincount(code.flatten(), minlength=vocab_size**3).double()
        return count.view(vocab_size, vocab_size, vocab_size)

    def triple_law(self, length: int) -> Tensor:
        """Return the mean probability of each triple over the places of a row, (V, V, V)."""
        pair, total = self.initial, torch.zeros_like(self.transition)
        for _ in range(length - 2):
            triple = pair[..., None] * self.transition
            total, pair = total + triple, triple.sum(0)
        return total / (length - 2)

    def joint(self, length: int) -> JointOracle:
        """Return the same chain as an enumerated joint over V^length sequences."""
        probs = self.initial
        for _ in range(length - 2):
            probs = probs[..., None] * self.transition
        return JointOracle(probs)


def _scaled(message: Tensor) -> Tensor:
    total = message.sum((1, 2), keepdim=True)
    return message / total.clamp_min(torch.finfo(message.dtype).tiny)
