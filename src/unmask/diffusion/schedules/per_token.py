r"""Per-token noise schedules: every vocabulary entry v has its own alpha_v(t).

    spindle             1 - alpha_v(t) = t - strength * sin(pi t) g_v     from corpus frequencies
    learned exponents   1 - alpha_v(t) = (1 - eps) t^(w_v)                w_v > 0 is trained

With the spindle frequent words (g_v > 0) stay visible longer in the forward process, so the reverse
process generates them first and the rare, informative ones last. Learned exponents set this order
themselves.

Unlike one schedule for all tokens, these change the bound and the best prediction: how long a
position has been masked is evidence about its token, so a denoiser has to be conditioned on time.

References: He et al. 2022, "DiffusionBERT", arXiv:2211.15029, Section 4.2, in the valid form of the
project's specification; Shi et al. 2024, arXiv:2406.04329, Section 6 (GenMD4).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from unmask.errors import UserError
from unmask.validation import Option, real

# With a greater strength the schedule would turn back.
_STRENGTH = Option("Of a spindle.", real, low=0, high=1 / math.pi)
_POWER = Option("Initial exponent.", real, low=0, above=True)
_EPS = Option("Share of the tokens still visible at t = 1.", real, low=0, high=1, below=True)


@runtime_checkable
class TokenSchedule(Protocol):
    """The contract of a schedule of V entries, at times of shape (B,)."""

    @property
    def vocab_size(self) -> int:
        """Number of entries, V: the number of logits per position."""
        ...

    def mask_prob(self, t: Tensor) -> Tensor:
        """Return 1 - alpha_v(t) from its own closed form, shape (B, V); exactly 0 at t = 0."""
        ...

    def rate(self, t: Tensor) -> Tensor:
        """Return -alpha_v'(t) / (1 - alpha_v(t)) for t > 0, shape (B, V)."""
        ...


@dataclass(frozen=True, eq=False)
class Spindle:
    """Mask rare words earlier than frequent ones: 1 - alpha_v(t) = t - strength sin(pi t) g_v.

    alpha_v(0) = 1 and alpha_v(1) = 0 exactly. With |g_v| <= 1 alpha_v decreases for every strength
    up to 1 / pi. Strength 0 is the linear schedule. Results are float64.

    Args:
        information: g_v, shape (V,), float64, in [-1, 1]; see ``spindle``.
        strength: From 0 to 1 / pi.

    Reference: He et al. 2022, arXiv:2211.15029, Section 4.2.
    """

    information: Tensor
    strength: float = 0.3

    def __post_init__(self) -> None:
        _STRENGTH("strength", self.strength)
        if not bool((self.information.abs() <= 1).all()):
            raise UserError("the information of a word must be between -1 and 1")

    @property
    def vocab_size(self) -> int:
        return len(self.information)

    def _slope(self, t: Tensor) -> Tensor:
        return self.strength * math.pi * self.information.to(t)

    def mask_prob(self, t: Tensor) -> Tensor:
        t = t.double()[:, None]
        # sin(pi t) = pi t sinc(t): with t factored out the result is accurate near t = 0.
        return t * (1 - self._slope(t) * torch.sinc(t))

    def rate(self, t: Tensor) -> Tensor:
        t = t.double()[:, None]
        slope = self._slope(t)
        return (1 - slope * torch.cos(math.pi * t)) / (t * (1 - slope * torch.sinc(t)))


def log_frequency(counts: Tensor, data_ids: Tensor) -> Tensor:
    """Return f(v) = log(count_v + 1) / max_u log(count_u + 1), float64, shape (V,), in [0, 1].

    Ids that are not data ([MASK], padding) have count 0.
    """
    seen = torch.zeros(len(counts), dtype=torch.float64, device=counts.device)
    seen[data_ids] = counts[data_ids].double().log1p()
    return seen / seen.max()


def spindle(counts: Tensor, vocab_size: int, data_ids: Tensor, strength: float = 0.3) -> Spindle:
    """Build the spindle of a corpus.

        g_v = f(v) - sum_u p(u) f(u),    f = log_frequency,  p(u) = count_u / sum of counts

    The mean is that of the corpus, a constant. The code of DiffusionBERT takes the mean of the
    sentence, which depends on all of its clean words, so its bound is not valid; see
    ``benchmarks/released.py``.

    Args:
        counts: Occurrences of each id in the corpus, shape (V,).
        vocab_size: Number of logits of the denoiser, V.
        data_ids: The ids that can occur in data, shape (V',), int64.
        strength: From 0 to 1 / pi.

    Raises:
        UserError: If the counts do not fit the tokenizer or are invalid, or the strength is out of
            range.
    """
    if counts.shape != (vocab_size,):
        raise UserError(
            f"the counts do not fit the tokenizer: {vocab_size} ids, "
            f"but counts of the shape {tuple(counts.shape)}"
        )
    if not bool(((counts >= 0) & torch.isfinite(counts)).all()):
        raise UserError("word counts must be finite and not negative")
    if not bool((counts[data_ids] > 0).any()):
        raise UserError("the word counts are all zero")
    f, count = log_frequency(counts, data_ids), counts[data_ids].double()
    return Spindle(f - (count @ f[data_ids]) / count.sum(), strength)


@dataclass(frozen=True, eq=False)
class TokensFromMasks:
    """The schedule of a sampler that starts from masks: m_v(t) / m_v(1), with m_v = 1 - alpha_v.

    See ``schedules.continuous.FromMasks``; the rates are those of the inner schedule.

    Args:
        inner: The schedule.
    """

    inner: TokenSchedule

    @property
    def vocab_size(self) -> int:
        return self.inner.vocab_size

    def mask_prob(self, t: Tensor) -> Tensor:
        return self.inner.mask_prob(t) / self.inner.mask_prob(torch.ones_like(t))

    def rate(self, t: Tensor) -> Tensor:
        return self.inner.rate(t)


class LearnedExponents(nn.Module):
    """1 - alpha_v(t) = (1 - eps) t^(w_v) with one trained exponent per entry, w = softplus(param).

    The weight -alpha_v' / (1 - alpha_v) is w_v / t for every eps. alpha_v(0) = 1 exactly;
    alpha_v(1) = eps gives a prior term of eps log V per token. Results have the wider dtype of t
    and the parameters.

    Args:
        vocab_size: Number of entries, V.
        power_init: Initial exponent of every entry; 1 is the linear schedule.
        eps: Share of the tokens still visible at t = 1.

    Reference: Shi et al. 2024, arXiv:2406.04329, Section 6.
    """

    def __init__(self, vocab_size: int, power_init: float = 1.0, eps: float = 1e-4) -> None:
        super().__init__()
        power_init, self.eps = _POWER("power_init", power_init), _EPS("eps", eps)
        # The inverse of softplus, x + log(1 - exp(-x)), does not overflow for a large start.
        start = power_init + math.log(-math.expm1(-power_init))
        self.param = nn.Parameter(torch.full((vocab_size,), start))

    @property
    def vocab_size(self) -> int:
        return len(self.param)

    @property
    def exponents(self) -> Tensor:
        """The exponents w_v, shape (V,), differentiable."""
        return softplus(self.param)

    def mask_prob(self, t: Tensor) -> Tensor:
        t = t[:, None]
        # log(0) would make the gradient 0 * inf.
        power = torch.exp(self.exponents * t.clamp_min(torch.finfo(t.dtype).tiny).log())
        return (1 - self.eps) * power * (t > 0)

    def rate(self, t: Tensor) -> Tensor:
        return self.exponents / t[:, None]
