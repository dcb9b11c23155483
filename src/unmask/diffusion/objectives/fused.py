"""Fused cross-entropy and weighted softmax mean, for the NELBO with per-token schedules.

With mu the softmax of logits, x a token and w a table these are -log mu_x and sum_v w_v mu_v. With
the functions of torch they keep three tensors of the size of the logits, for 50 000 tokens a large
part of a training step. Here one is kept for the backward pass, which allocates another.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def cost_and_mean(
    logits: Tensor, truth: Tensor, table: Tensor, counts: Tensor
) -> tuple[Tensor, Tensor]:
    """Return -log mu_x in nats and sum_v w_v mu_v of every prediction, shape (N,) each.

    Args:
        logits: Shape (N, V), float32 or float64: the predictions of the first row of a batch, then
            those of the second, and so on.
        truth: The tokens x, shape (N,), int64.
        table: The weights w of each row of the batch, shape (B, V), in the dtype of the logits.
        counts: Number of predictions of each row, shape (B,), int64; they add up to N.

    The gradient by ``logits`` and ``table`` is exact; second derivatives are not supported.
    """
    with torch.autocast(logits.device.type, enabled=False):
        cost, mean = _CostAndMean.apply(logits, truth, table, counts.tolist())  # type: ignore[no-untyped-call]
    return cost, mean


class _CostAndMean(torch.autograd.Function):
    """Gradients: d cost = mu - 1[v = x] and d mean = mu (w - mean) by logits, d mean = mu by w."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, truth: Tensor, table: Tensor, counts: list[int]
    ) -> tuple[Tensor, Tensor]:
        mu = logits.softmax(-1)
        # The largest probability is at least 1 / V, so its logarithm is accurate.
        log_total = logits.amax(-1) - mu.amax(-1).log()
        rows = zip(mu.split(counts), table, strict=True)
        mean = torch.cat([predictions @ weights for predictions, weights in rows])
        ctx.save_for_backward(mu, truth, table, mean)
        ctx.counts = counts
        return log_total - logits.gather(1, truth[:, None])[:, 0], mean

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_cost: Tensor, by_mean: Tensor) -> tuple[Tensor | None, ...]:
        mu, truth, table, mean = ctx.saved_tensors
        shared = (by_cost - by_mean * mean)[:, None]
        grad = torch.empty_like(mu)
        rows = zip(
            *(x.split(ctx.counts) for x in (grad, shared, by_mean[:, None])), table, strict=True
        )
        for out, offset, factor, weights in rows:
            torch.addcmul(offset, factor, weights, out=out)
        grad.mul_(mu).scatter_add_(1, truth[:, None], -by_cost[:, None])
        split = zip(by_mean.split(ctx.counts), mu.split(ctx.counts), strict=True)
        return (
            grad,
            None,
            torch.stack([factor @ predictions for factor, predictions in split]),
            None,
        )
