r"""The truncated logistic head of D3PM: a network's two numbers per value as logits of K levels.

The levels k = 0..K-1 are the points b_k = 2 k / (K - 1) - 1 of [-1, 1], each the middle of a bin
[b_k-, b_k+] of width 2 / (K - 1). With sigma the logistic function,

    logits_k = log(sigma((b_k+ - loc) r) - sigma((b_k- - loc) r)),    r = exp(2 - log_scale)
    loc      = tanh(raw loc + b of the noised level at the position)

A softmax renormalises what lies outside of the bins. So near levels get near probabilities, and a
network that has learned nothing predicts the noised level and those around it.

Reference: Austin et al. 2021, "Structured Denoising Diffusion Models in Discrete State-Spaces"
(D3PM), arXiv:2107.03006, Appendix B.2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from unmask.validation import Option, whole

_LEVELS = Option("K.", whole, low=2)
# Least log_scale. A bin of 2 / 255 is then 3e7 times the width of the logistic function, and all
# numbers are far from the largest float32.
_SHARPEST = -20.0
# Where log(1 - exp(-x)) is log(x) to the last digit of float64.
_LOG_TINY = -40.0


class LogisticHead(nn.Module):
    """Logits of K ordered levels from a location and a scale; it has no weights.

    Args:
        levels: K, at least 2.
    """

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = _LEVELS("levels", levels)

    def forward(self, loc: Tensor, log_scale: Tensor, xt: Tensor) -> Tensor:
        """Return logits, shape (..., K), in float32 or, of float64 arguments, float64.

        Args:
            loc: The raw location, any shape (...).
            log_scale: Logarithm of the scale, same shape; the width of the logistic function is
                exp(log_scale - 2), of a range of 2.
            xt: The noised ids, same shape, int64. An id that is no level, such as [MASK], tells
                nothing: its place is 0, the middle of the range.
        """
        dtype = torch.promote_types(torch.promote_types(loc.dtype, log_scale.dtype), torch.float32)
        gaps, width = self.levels - 1, 2 / (self.levels - 1)
        noised = (width * xt.to(dtype) - 1).masked_fill(xt > gaps, 0)
        loc = torch.tanh(loc.to(dtype) + noised)[..., None]
        log_rate = 2 - log_scale.to(dtype).clamp_min(_SHARPEST)[..., None]
        # No buffer, which a model in bfloat16 would have rounded to fewer than 256 levels.
        edges = (2 * torch.arange(gaps + 2, device=xt.device).to(dtype) - self.levels) / gaps
        z = (edges - loc) * log_rate.exp()
        # sigma(a) - sigma(b) = sigma(a) sigma(-b) (1 - exp(b - a)) does not cancel. The last factor
        # is that of the width, the same for all levels.
        inside = logsigmoid(z[..., 1:]) + logsigmoid(-z[..., :-1])
        return inside + log1mexp_of_log(log_rate + math.log(width))


def log1mexp_of_log(log_x: Tensor) -> Tensor:
    """Return log(1 - exp(-x)) of log x, for x > 0, finite and with finite gradients.

    A small x may underflow: its logarithm is then the result.
    """
    small = log_x < _LOG_TINY
    x = log_x.masked_fill(small, 0).exp()
    return torch.where(small, log_x, (-torch.expm1(-x)).log())
