r"""How sure the network is of a guess, by its own distribution p = softmax(logits).

    confidence   p(token)            of the token in question
    margin       p_(1) - p_(2)       the likeliest token against the next
    entropy      sum p log p         minus the entropy, in nats; 0 is certain

Larger is surer. The distribution is the one at temperature 1 and before any filter, so what a
policy decides by it does not change with the draw. (A fourth measure, the probability of a token
under the filtered distribution that it was drawn from, comes with the draw itself.)

References: Nie et al. 2025, arXiv:2502.09992 (confidence); Ye et al. 2025, "Dream 7B",
arXiv:2508.15487 (margin and entropy).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from unmask.sampling.categorical import rows_at_a_time


def _confidence(logits: Tensor, tokens: Tensor) -> Tensor:
    return logits.softmax(1).gather(1, tokens[:, None])[:, 0]


def _margin(logits: Tensor, tokens: Tensor) -> Tensor:
    two = logits.softmax(1).topk(2, dim=1).values
    return two[:, 0] - two[:, 1]


def _negative_entropy(logits: Tensor, tokens: Tensor) -> Tensor:
    # Of 0 * -inf nothing may be left, and exp(-1e4) is 0 as well.
    relative = (logits - logits.amax(1, keepdim=True)).clamp_min_(-1e4)
    weight = relative.exp()
    total = weight.sum(1)
    return (weight * relative).sum(1) / total - total.log()


METRICS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "confidence": _confidence,
    "margin": _margin,
    "entropy": _negative_entropy,
}


def confidence_score(name: str, logits: Tensor, tokens: Tensor) -> Tensor:
    """Return how sure the network is, shape (N,), float32.

    Args:
        name: A key of ``METRICS``.
        logits: Shape (N, V), floating point, V at least 2; -inf for what cannot be.
        tokens: Shape (N,), int64; which token is meant, for ``policies.confidence``.
    """
    of, rows = METRICS[name], rows_at_a_time(logits)
    # A few rows at a time: the probabilities never exist for the whole batch at once.
    pieces = zip(logits.split(rows), tokens.split(rows), strict=True)
    return torch.cat([of(piece.float(), ids) for piece, ids in pieces])
