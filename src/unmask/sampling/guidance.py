r"""Classifier-free and classifier guidance, as denoisers that wrap a denoiser.

    ClassifierFree    log p_g(x) ~ g log p(x | y) + (1 - g) log p(x)
    ClassifierGuided  log p_g(x) ~ log p(x) + g log p(y | x_t with x in its place)

Both change the prediction at a mask, never the probability that a mask is revealed. Mixing the two
posteriors over "some token" and "still a mask" instead would turn that probability u into

    u Z / (u Z + 1 - u),    Z = sum over v of p(v | y)^g p(v)^(1 - g),

which is above u for g > 1: tokens would be revealed earlier than in the reverse process.

With a schedule for every token, 1 - alpha_v(t) = m_v(t), and a time-conditioned network, a mask is
evidence about its token: token v has the factor m_v(t). A condition that is masked on purpose gives
no such evidence, and the network cannot be conditioned on different times for different masks. So
the condition is then left out of the row like padding: the prediction without it is

    p(x_i | x_t, t)  ~  sum over y of p(x, y) * product over the masks j of the rest of m_{x_j}(t).

References: Ho, Salimans 2022, arXiv:2207.12598 (mixing two predictions of one network); Nie et al.
2025, arXiv:2502.09992 (the prompt masked for the second one); Schiff et al. 2024, "Simple Guidance
Mechanisms for Discrete Diffusion Models", arXiv:2412.10193 (both, and the first-order form); Yang,
Klein 2021, "FUDGE", arXiv:2104.05218 (a classifier for the most likely tokens only).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from unmask.diffusion.denoiser import DenoiserWrapper, calls_of


@dataclass(frozen=True, eq=False)
class ClassifierFree(DenoiserWrapper):
    """Classifier-free guidance: the same network with the condition visible and masked.

    Args:
        scale: g; 0 is the prediction without the condition, 1 the one with it. In the other
            convention, u + (w + 1) (c - u), it is w + 1.
        given: Shape (B, L), bool; the tokens of the condition.
        mask_token_id: The id of [MASK].
        tokenwise: Whether a mask is evidence about its token, see above.
    """

    scale: float
    given: Tensor
    mask_token_id: int
    tokenwise: bool = False

    @property
    def network_calls(self) -> int:
        """Network calls per call: two, made as one batch, unless one prediction has no weight."""
        return calls_of(self.inner) * (1 if self.scale in (0, 1) else 2)

    def __call__(
        self, xt: Tensor, t: Tensor, *, at: Tensor | None = None, valid: Tensor | None = None
    ) -> Tensor:
        """Return unnormalised logits of p_g, (N, V) at ``at`` or (B, L, V); see ``Denoiser``."""
        if self.scale == 1:
            return self.inner(xt, t, at=at, valid=valid)
        masked = xt.masked_fill(self.given, self.mask_token_id)
        seen = valid
        if self.tokenwise:
            seen = ~self.given if valid is None else valid & ~self.given
        if self.scale == 0:
            return self.inner(masked, t, at=at, valid=seen)
        if seen is not None and valid is None:
            valid = torch.ones_like(seen)
        with_it, without = self.inner(
            torch.cat([xt, masked]),
            torch.cat([t, t]),
            at=None if at is None else torch.cat([at, at]),
            valid=None if valid is None or seen is None else torch.cat([valid, seen]),
        ).chunk(2)
        mixed = without.lerp(with_it, self.scale)
        # Impossible with the condition stays impossible; the difference of two -inf is NaN.
        return mixed.masked_fill_(with_it.isneginf(), -torch.inf)


class Classifier(Protocol):
    """A classifier of noised rows: log p(y | x_t) of one label y."""

    def log_prob(self, ids: Tensor, valid: Tensor | None) -> Tensor:
        """Return log p(y | x_t), shape (B,), for ids (B, L), int64, and valid (B, L), bool."""
        ...

    def slopes(self, ids: Tensor, at: Tensor, valid: Tensor | None) -> Tensor:
        """Return the first-order change of log p(y | x_t) for every replacement, shape (N, V').

        Args:
            ids: Shape (B, L), int64.
            at: Shape (B, L), bool; N positions, each replaced alone.
            valid: Shape (B, L), bool.
        """
        ...


@dataclass(frozen=True, eq=False)
class ClassifierGuided(DenoiserWrapper):
    """Classifier guidance: the prediction weighted with p(y | token) of a classifier.

    Args:
        classifier: The classifier; it must be trained on rows with masks.
        scale: g; 0 is no guidance.
        candidates: None weights every token to first order: one call of the classifier and its
            gradient. A number weights that many of the most likely tokens of each position exactly
            and excludes the others: each of them is a row for the classifier.
        batch_size: Rows in one call of the classifier.

    The classifier counts as one more network call.
    """

    classifier: Classifier
    scale: float
    candidates: int | None = None
    batch_size: int = 64

    @property
    def network_calls(self) -> int:
        """Network calls per call."""
        return calls_of(self.inner) + 1

    def __call__(
        self, xt: Tensor, t: Tensor, *, at: Tensor | None = None, valid: Tensor | None = None
    ) -> Tensor:
        """Return unnormalised logits of p_g, (N, V) at ``at`` or (B, L, V); see ``Denoiser``."""
        where = torch.ones_like(xt, dtype=torch.bool) if at is None else at
        logits = self.inner(xt, t, at=where, valid=valid)
        if self.candidates is None:
            slopes = self.classifier.slopes(xt, where, valid)
            # Either network may have more rows than the tokenizer has tokens; those are not data.
            slopes = pad(slopes, (0, logits.shape[1] - slopes.shape[1]))
            logits = logits + (self.scale * slopes).to(logits.dtype)
        else:
            logits = self._exactly(self.candidates, logits, xt, where, valid)
        return logits.view(*xt.shape, -1) if at is None else logits

    def _exactly(
        self, count: int, logits: Tensor, xt: Tensor, where: Tensor, valid: Tensor | None
    ) -> Tensor:
        values, tokens = logits.topk(min(count, logits.shape[1]), dim=1)
        # An impossible token need not be in the vocabulary of the classifier.
        tokens = torch.where(values.isneginf(), tokens[:, :1], tokens)
        row, column = where.nonzero(as_tuple=True)
        # Every candidate is a copy of its row with this one token replaced.
        row, column = (x.repeat_interleave(tokens.shape[1]) for x in (row, column))
        scores = []
        for part in torch.arange(len(row), device=row.device).split(self.batch_size):
            copies = xt[row[part]].scatter(1, column[part, None], tokens.flatten()[part, None])
            known = None if valid is None else valid[row[part]]
            scores.append(self.classifier.log_prob(copies, known))
        weighed = values + (self.scale * torch.cat(scores).view_as(values)).to(values.dtype)
        none = torch.full_like(logits, -torch.inf)
        return none.scatter_reduce(1, tokens, weighed, "amax")
