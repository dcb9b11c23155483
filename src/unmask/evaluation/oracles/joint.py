r"""Exact denoisers: distributions small or simple enough that p(x_i | visible tokens) is known.

    JointOracle       any joint over V^L sequences, by a table of all marginals
    MarkovOracle      an order-1 Markov chain of any length, by forward-backward sums
    TokenwiseOracle   a joint again, when every vocabulary entry has its own schedule
    LeaveOneOutOracle   a joint under token-to-token noise: each token predicted from the others

All satisfy the ``Denoiser`` protocol in float64. With them the bound must equal the true entropy,
and the law of a sampler can be compared with the law that it should have. With one schedule for all
tokens the exact prediction does not depend on t, so t is ignored. Logits are normalised
log-probabilities with V columns; [MASK] is the id V, which has no column.

References: Shi et al. 2024, arXiv:2406.04329, Section 2; Zheng et al. 2024, arXiv:2409.02908,
Proposition 1 (the prediction is time-agnostic); Rabiner 1989, "A Tutorial on Hidden Markov Models",
Proc. IEEE 77(2) (forward-backward).
"""

from __future__ import annotations

import torch
from torch import Tensor

from unmask.diffusion.processes.absorbing_per_token import PerTokenProcess
from unmask.diffusion.processes.base import TransitionProcess
from unmask.errors import UserError


class JointOracle:
    """Exact conditionals of a joint distribution that fits in memory.

    Args:
        joint: Probabilities of all sequences, shape (V,) * L; the entry [x_1, ..., x_L] is p(x).

    Raises:
        UserError: If it is not a distribution over sequences of a fixed length.
    """

    def __init__(self, joint: Tensor) -> None:
        if joint.ndim < 1 or len(set(joint.shape)) != 1:
            raise UserError(f"a joint needs the shape (V,) * L, not {tuple(joint.shape)}")
        joint = distribution(joint.flatten()).view(joint.shape)
        self.vocab_size, self.length = joint.shape[0], joint.ndim
        self.mask_token_id = self.vocab_size
        self.data_ids = torch.arange(self.vocab_size, device=joint.device)
        self.probs = joint
        # Index V of an axis is the sum over it; entry [xt] is the probability of visible tokens.
        for axis in range(self.length):
            joint = torch.cat([joint, joint.sum(axis, keepdim=True)], axis)
        self._log_marginal = joint.flatten().log()
        self._stride = (self.vocab_size + 1) ** torch.arange(
            self.length - 1, -1, -1, device=joint.device
        )

    def __call__(
        self, xt: Tensor, t: Tensor, *, at: Tensor | None = None, valid: Tensor | None = None
    ) -> Tensor:
        """Return log p(x_i | visible tokens), (N, V) at ``at`` or (B, L, V), float64.

        A visible token is certain. Invalid positions count as masked. An impossible context has no
        conditional; the prediction is then uniform.
        """
        if xt.shape[1] != self.length:
            raise UserError(f"this joint has {self.length} positions, not {xt.shape[1]}")
        xt = xt if valid is None else xt.masked_fill(~valid, self.mask_token_id)
        place = (xt * self._stride).sum(1)[:, None, None]
        change = (self.data_ids - xt[..., None]) * self._stride[:, None]  # (B, L, V)
        return conditional(self._log_marginal[place + change], xt, at)

    def sequences(self) -> Tensor:
        """Return every sequence, shape (V^L, L), int64, in the order of ``probs.flatten()``."""
        return torch.cartesian_prod(*[self.data_ids] * self.length).view(-1, self.length)

    def log_prob(self, x0: Tensor) -> Tensor:
        """Return log p(x_0) in nats, shape (B,), for clean ids (B, L)."""
        return self._log_marginal[(x0 * self._stride).sum(1)]

    def entropy(self) -> float:
        """Return the entropy of a sequence, in nats."""
        return _entropy(self.probs)


class MarkovOracle:
    """Exact conditionals of a Markov chain of order 1, for sequences of any length.

    Args:
        initial: p(x_1), shape (V,).
        transition: p(x_{i+1} | x_i), shape (V, V), one row per x_i.

    Raises:
        UserError: If a row is not a distribution or the shapes do not fit.
    """

    def __init__(self, initial: Tensor, transition: Tensor) -> None:
        self.vocab_size = len(initial)
        if transition.shape != (self.vocab_size, self.vocab_size):
            raise UserError(
                f"{self.vocab_size} states need a square transition matrix of that size"
            )
        self.initial, self.transition = distribution(initial), distribution(transition)
        self.mask_token_id = self.vocab_size
        self.data_ids = torch.arange(self.vocab_size, device=initial.device)

    def __call__(
        self, xt: Tensor, t: Tensor, *, at: Tensor | None = None, valid: Tensor | None = None
    ) -> Tensor:
        """Return log p(x_i | visible tokens), (N, V) at ``at`` or (B, L, V), float64.

        A visible token is certain. Invalid positions count as masked, so padding carries no
        information. An impossible context has no conditional; the prediction is then uniform.
        """
        xt = xt if valid is None else xt.masked_fill(~valid, self.mask_token_id)
        masked = (xt == self.mask_token_id)[..., None]
        seen = (xt[..., None] == self.data_ids) | masked  # (B, L, V)
        return conditional((self._forward(seen) * self._backward(seen)).log(), xt, at)

    def _forward(self, seen: Tensor) -> Tensor:
        """Return p(x_i | visible tokens to the left of i), shape (B, L, V)."""
        message = self.initial.expand(len(seen), -1)
        result = [message]
        for i in range(seen.shape[1] - 1):
            message = _scaled((message * seen[:, i]) @ self.transition)
            result.append(message)
        return torch.stack(result, 1)

    def _backward(self, seen: Tensor) -> Tensor:
        """Return p(visible tokens to the right of i | x_i) up to a factor, shape (B, L, V)."""
        message = torch.ones_like(self.initial).expand(len(seen), -1)
        result = [message]
        for i in range(seen.shape[1] - 1, 0, -1):
            message = _scaled((message * seen[:, i]) @ self.transition.T)
            result.append(message)
        return torch.stack(result[::-1], 1)

    def log_prob(self, x0: Tensor) -> Tensor:
        """Return log p(x_0) in nats, shape (B,), for clean ids (B, L)."""
        steps = self.transition[x0[:, :-1], x0[:, 1:]].log().sum(1)
        return self.initial[x0[:, 0]].log() + steps

    def entropy(self, length: int) -> float:
        """Return the entropy of a sequence of this length, in nats."""
        marginal, total = self.initial, _entropy(self.initial)
        for _ in range(length - 1):
            total += sum(
                p * _entropy(row) for p, row in zip(marginal.tolist(), self.transition, strict=True)
            )
            marginal = marginal @ self.transition
        return total

    def joint(self, length: int) -> JointOracle:
        """Return the chain as an enumerated joint over V^length sequences."""
        probs = self.initial
        for _ in range(length - 1):
            probs = probs[..., None] * self.transition
        return JointOracle(probs)


class TokenwiseOracle:
    """Exact conditionals of a joint when every token has its own schedule, by summing over it.

        p(x | x_t) ~ p(x) * product over masked positions j of (1 - alpha_{x_j}(t)),

    for x that agree with the visible tokens: tokens with an early schedule are more likely masked.

    Args:
        joint: The distribution of clean sequences.
        process: The forward process, whose [MASK] is the joint's.
    """

    def __init__(self, joint: JointOracle, process: PerTokenProcess) -> None:
        self.joint, self.process = joint, process
        self.vocab_size, self.data_ids = joint.vocab_size, joint.data_ids
        self.mask_token_id = joint.mask_token_id

    def __call__(
        self, xt: Tensor, t: Tensor, *, at: Tensor | None = None, valid: Tensor | None = None
    ) -> Tensor:
        """Return log p(x_i | x_t, t), (N, V) at ``at`` or (B, L, V), float64, at t > 0.

        Visible, invalid and impossible contexts are treated as by ``JointOracle``.
        """
        masked = self.process.schedule.mask_prob(t.double())[:, None]  # (B, 1, V)
        seen = (xt[..., None] == self.data_ids).double()
        factor = torch.where((xt == self.mask_token_id)[..., None], masked, seen)  # (B, L, V)
        if valid is not None:
            xt = xt.masked_fill(~valid, self.mask_token_id)
            factor = factor.masked_fill(~valid[..., None], 1)
        weight = self.joint.probs.flatten()
        for i, token in enumerate(self.joint.sequences().T):
            weight = weight * factor[:, i, token]  # (B, V^L)
        is_token = (self.joint.sequences()[..., None] == self.data_ids).double()
        return conditional(torch.einsum("bs,slv->blv", weight, is_token).log(), xt, at)


class LeaveOneOutOracle:
    """Exact prediction of a token from all noisy tokens except the one at its own position.

        g(x_0^i | x_t) = sum over x_0 elsewhere of p(x_0) prod over j != i of q(x_t^j | x_0^j)

    The optimal prediction for the joint parametrisation. It depends on t, and every position counts
    as noised. Symbol k of the joint is the k-th data id of the process.

    Args:
        joint: The distribution of clean sequences.
        process: The noise, with as many data ids as the joint has symbols.

    Raises:
        UserError: If those numbers differ.
    """

    def __init__(self, joint: JointOracle, process: TransitionProcess) -> None:
        if len(process.data_ids) != joint.vocab_size:
            raise UserError("the joint and the noise need the same number of tokens")
        self.joint, self.process, self.data_ids = joint, process, process.data_ids
        self.vocab_size = int(process.data_ids.max()) + 1

    def __call__(
        self, xt: Tensor, t: Tensor, *, at: Tensor | None = None, valid: Tensor | None = None
    ) -> Tensor:
        """Return log g, (N, V) at ``at`` or (B, L, V), float64; -inf outside the data ids.

        Invalid positions count as masked.
        """
        (rows, length), size = xt.shape, self.joint.vocab_size
        time = t.double().repeat_interleave(length)
        like = self.process.log_likelihood(xt.flatten(), time, torch.zeros_like(time)).exp()
        like = like.view(rows, length, size)
        like = like if valid is None else like.masked_fill(~valid[..., None], 1)
        place = torch.arange(length, device=xt.device)
        factors = like[:, place, self.joint.sequences()]  # (B, V^L, L)
        result = like.new_full((rows, length, self.vocab_size), -torch.inf)
        for i in range(length):
            weights = factors[..., place != i].prod(-1) * self.joint.probs.flatten()
            by_token = weights.view(rows, size**i, size, -1).sum((1, 3))
            result[:, i, self.data_ids] = (by_token / by_token.sum(1, keepdim=True)).log()
        return result if at is None else result[at]


def conditional(logits: Tensor, xt: Tensor, at: Tensor | None) -> Tensor:
    """Return log p(x_i | visible tokens) from unnormalised logits.

    Args:
        logits: Shape (B, L, V), up to a constant for each position.
        xt: Ids, shape (B, L); V for masks. A visible token is made certain.
        at: Shape (B, L), bool; the positions to return, None for all.
    """
    vocab_size = logits.shape[-1]
    impossible = torch.isneginf(logits).all(-1, keepdim=True)
    result = torch.log_softmax(logits.masked_fill(impossible, 0), -1)
    ids = torch.arange(vocab_size, device=xt.device)
    contradicts = (xt[..., None] != ids) & (xt[..., None] != vocab_size)
    result = torch.where(xt[..., None] == ids, 0.0, result.masked_fill(contradicts, -torch.inf))
    return result if at is None else result[at]


def _scaled(message: Tensor) -> Tensor:
    # Avoids underflow of long chains; the scale cancels. Messages of impossible contexts stay 0.
    return message / message.sum(1, keepdim=True).clamp_min(torch.finfo(message.dtype).tiny)


def _entropy(probs: Tensor) -> float:
    return float(-torch.xlogy(probs, probs).sum())


def distribution(probs: Tensor) -> Tensor:
    """Return probs in float64, renormalised over the last axis.

    Raises:
        UserError: If they are no distribution.
    """
    total = probs.double().sum(-1, keepdim=True)
    if bool((probs < 0).any()) or bool(((total - 1).abs() > 1e-5).any()):
        raise UserError("probabilities must not be negative and must add up to 1")
    return probs.double() / total
