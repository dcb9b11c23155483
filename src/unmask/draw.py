r"""Which token: greedy, or at random after temperature, top-k and top-p.

A random token is found by inverting the cumulative distribution at one uniform number u:

    v = min { v : p_0 + ... + p_v > u }

in two levels: sums over blocks of 128 tokens in float64, then the tokens of one block. So a token
of probability 1e-12 is drawn as often as it should be, and no float64 copy of the vocabulary is
made. (A race of float32 exponentials, the usual way, never draws a token below 6e-8 and favours
frequent ones: a hidden temperature.) Filters act on p(x_0 | x_t) only, never on "stay masked".

Reference: Zheng et al. 2024, "Masked Diffusion Models are Secretly Time-Agnostic Masked Models and
Exploit Inaccurate Categorical Sampling", arXiv:2409.02908, Section 5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from unmask.errors import UserError

_BLOCK = 128
_ROWS = 64


class Drawn(NamedTuple):
    """Tokens (N,), int64, and the probability (N,), float32, of each under the filtered guess."""

    tokens: Tensor
    probability: Tensor


@dataclass(frozen=True)
class Draw:
    """How a token is picked from logits.

    Args:
        temperature: Logits are divided by it; 0 always takes the most likely token, and reports its
            probability at temperature 1.
        top_k: Keep only the k most likely tokens; None keeps all.
        top_p: Keep the smallest set of most likely tokens whose mass reaches p (the token that
            crosses p is kept); applied after top-k and renormalisation; 1 keeps all.
        greedy: Take the most likely token, but report its probability at ``temperature``.

    Raises:
        UserError: If a number is out of range, or a filter is set that greedy drawing would ignore.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    greedy: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise UserError(f"temperature must be a number from 0 up, not {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise UserError(f"top-k must be at least 1, not {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top-p must be above 0 and at most 1, not {self.top_p}")
        if (self.greedy or self.temperature == 0) and (self.top_k is not None or self.top_p < 1):
            raise UserError(
                "the most likely token is always taken here, so top-k and top-p would have no "
                "effect; leave them out, or choose a sampler that draws and a temperature above 0"
            )

    def __call__(self, logits: Tensor, u: Tensor) -> Drawn:
        """Pick one token per row.

        Args:
            logits: Shape (N, V), floating point; -inf for what must not be drawn.
            u: Shape (N,), float64 in (0, 1).
        """
        if len(logits) == 0:
            return Drawn(u.long(), u.float())
        # A few rows at a time, so that the probabilities never exist for the whole batch at once.
        pieces = zip(logits.split(_ROWS), u.split(_ROWS), strict=True)
        parts = [self._pick(rows.float(), noise) for rows, noise in pieces]
        return Drawn(torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts]))

    def _pick(self, logits: Tensor, u: Tensor) -> Drawn:
        if self.greedy or self.temperature == 0:
            return _most_likely(logits, self.temperature)
        logits = logits / self.temperature if self.temperature != 1 else logits
        if self.top_k is None and self.top_p >= 1:
            return _from_all(logits, u)
        return _from_best(logits, u, self.top_k, self.top_p)


def _most_likely(logits: Tensor, temperature: float) -> Drawn:
    # At temperature 0 every winner would report certainty, which tells a policy nothing.
    logits = logits / temperature if temperature not in (0, 1) else logits
    best, tokens = logits.max(1)
    return Drawn(tokens, torch.exp(best - torch.logsumexp(logits, 1)))


def _invert(weights: Tensor, target: Tensor) -> Tensor:
    """Return the first index whose cumulative weight exceeds target; weights (N, K), float64."""
    return torch.searchsorted(weights.cumsum(1), target[:, None], right=True)[:, 0]


def _from_all(logits: Tensor, u: Tensor) -> Drawn:
    weights = torch.exp(logits - logits.amax(1, keepdim=True))
    blocks = pad(weights, (0, -weights.shape[1] % _BLOCK)).view(len(weights), -1, _BLOCK)
    mass = blocks.sum(2, dtype=torch.float64)
    total = mass.sum(1)
    block = _invert(mass, u * total).clamp_max(mass.shape[1] - 1)[:, None]
    before = mass.cumsum(1).gather(1, block) - mass.gather(1, block)
    inside = blocks.gather(1, block[..., None].expand(-1, -1, _BLOCK))[:, 0].double()
    # Rounding may leave the target a hair beyond the block's mass: stay on a token that has some.
    limit = inside.sum(1) * (1 - 2.0**-52)
    rest = torch.minimum((u * total) - before[:, 0], limit)
    tokens = block[:, 0] * _BLOCK + _invert(inside, rest)
    chosen = weights.gather(1, tokens[:, None])[:, 0]
    return Drawn(tokens, (chosen / total).float())


def _from_best(logits: Tensor, u: Tensor, top_k: int | None, top_p: float) -> Drawn:
    size = logits.shape[1]
    count = min(top_k or 256, size)
    while True:
        values, indices = logits.topk(count, dim=1)
        weights = torch.exp((values - values[:, :1]).double())
        if top_k is not None or count == size:
            mass = weights.sum(1, keepdim=True)
            break
        mass = torch.exp((logits - values[:, :1]).double()).sum(1, keepdim=True)
        if (weights.sum(1, keepdim=True) >= top_p * mass).all():
            break
        count = min(4 * count, size)
    before = weights.cumsum(1) - weights
    weights = torch.where(before < top_p * mass, weights, 0.0)
    kept = weights.sum(1)
    place = _invert(weights, u * kept * (1 - 2.0**-52))[:, None]
    tokens = indices.gather(1, place)[:, 0]
    return Drawn(tokens, (weights.gather(1, place)[:, 0] / kept).float())
