r"""Confidence scores of a prediction, from the network's own distribution p = softmax(logits).

    confidence   p(token)            of the given token
    margin       p_(1) - p_(2)       the most likely token against the second
    entropy      sum p log p         the negative entropy, in nats; 0 is certain

Larger is more confident. The distribution is at temperature 1 and before any filter, so decisions
by it do not depend on the token sampling. (A fourth score, the probability of a token under the
filtered distribution that it was drawn from, comes with the draw itself.)

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
    # Avoids 0 * -inf; exp(-1e4) is 0 as well.
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
    """Return the confidence score of each prediction, shape (N,), float32.

    Args:
        name: A key of ``METRICS``.
        logits: Shape (N, V), floating point, V at least 2; -inf for impossible tokens.
        tokens: Shape (N,), int64; the token that ``confidence`` is about.
    """
    of, rows = METRICS[name], rows_at_a_time(logits)
    # A few rows at a time: the probabilities of a whole batch would be large.
    pieces = zip(logits.split(rows), tokens.split(rows), strict=True)
    return torch.cat([of(piece.float(), ids) for piece, ids in pieces])
