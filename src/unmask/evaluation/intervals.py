r"""Two questions about an estimate, and an interval for each of them.

    masks   How far is the estimate from the bound on *this* text? Rounds of random masks are
            independent; the spread of the totals of each group of rows between rounds tells.
    texts   How far is it from the bound on *texts like this one*? Documents are independent samples
            of text, the rows of one document are not; the spread between documents tells.

Both are Student's t intervals: the error times a quantile of the t distribution. A share, such as
that of samples of the right class, has Wilson's interval.

References: Satterthwaite 1946, "An Approximate Distribution of Estimates of Variance Components"
(degrees of freedom of a sum of variances); Cochran 1977, "Sampling Techniques", Section 9A.5 (ratio
estimate over clusters); Wilson 1927, "Probable Inference, the Law of Succession, and Statistical
Inference".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

GROUP = 32
"""Rows whose times cover the unit interval together, so that their errors are dependent."""
FEWEST_DOCUMENTS = 10
FEWEST_CLUSTERS = 5
"""With fewer, the t interval is too wide to be of use."""
BLOCKS = 20
"""Number of parts that a text of few documents is cut into."""


@dataclass(frozen=True)
class Spread:
    """A standard error with its degrees of freedom.

    Attributes:
        error: Standard error of a total, in nats.
        freedom: Degrees of freedom of the error; infinite if it is known exactly.
    """

    error: float
    freedom: float

    @property
    def margin(self) -> float:
        """Half of the 95 % confidence interval, in nats."""
        return self.error * _t_quantile(0.975, self.freedom)

    def p_value(self, estimate: float) -> float:
        """Return the two-sided p-value of the hypothesis that the true total is 0."""
        if self.error == 0:
            return 1.0 if estimate == 0 else 0.0
        from scipy.special import stdtr

        return float(2 * stdtr(min(self.freedom, 1e9), -abs(estimate) / self.error))


def over_masks(rounds: Tensor) -> Spread | None:
    """Return the error of the mean over rounds of the total nats, None for a single round.

    Args:
        rounds: Shape (R, N), float64; nats of every row in every round. Within a round the rows of
            a group of ``GROUP`` consecutive rows are dependent; rounds are independent.
    """
    count, rows = rounds.shape
    if count < 2:
        return None
    group = torch.arange(rows) // GROUP
    totals = rounds.new_zeros(count, int(group[-1]) + 1).index_add(1, group, rounds)
    variance = totals.var(0) / count
    total = float(variance.sum())
    if total == 0:
        return Spread(0.0, math.inf)
    freedom = (count - 1) * total**2 / float(variance.square().sum())
    return Spread(math.sqrt(total), freedom)


def over_texts(nats: Tensor, size: Tensor, clusters: Tensor) -> Spread | None:
    """Return the error of the total nats as an estimate for other texts.

    None for fewer than ``FEWEST_CLUSTERS`` clusters.

        d_c = nats_c - size_c * rate,    error^2 = C / (C - 1) sum_c d_c^2

    Args:
        nats: Shape (N,), float64; nats of every row.
        size: Shape (N,); the size of every row in tokens, characters or words.
        clusters: Shape (N,), int64; the cluster of each row, see ``clusters_of``.
    """
    rate = nats.sum() / size.sum().clamp_min(1)
    _, index = clusters.unique(return_inverse=True)
    count = int(index.max()) + 1
    if count < FEWEST_CLUSTERS:
        return None
    excess = nats - size * rate
    total = excess.new_zeros(count).index_add(0, index, excess)
    return Spread(math.sqrt(count / (count - 1) * float(total.square().sum())), count - 1)


def clusters_of(documents: Tensor, count: int | None = None) -> tuple[Tensor, str]:
    """Return the cluster of each row, (N,), and a name for such clusters.

    A cluster is the rows that begin in one document. With fewer than ``FEWEST_DOCUMENTS`` documents
    consecutive rows form up to ``BLOCKS`` blocks, nearly independent if they are long (batch
    means).

    Args:
        documents: Shape (N,), int64; the document that each row begins in.
        count: Number of documents; None if a row begins in each. With more documents than those, a
            row holds several.
    """
    begun = len(documents.unique())
    if begun >= FEWEST_DOCUMENTS:
        return documents, "documents" if begun >= (count or 0) else "rows of several documents"
    rows = len(documents)
    blocks = min(rows, BLOCKS)
    return torch.arange(rows) * blocks // rows, "blocks of rows" if blocks < rows else "rows"


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of a probability."""
    from scipy.stats import binomtest

    low, high = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    return float(low), float(high)


def _t_quantile(probability: float, freedom: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(min(freedom, 1e9), probability))
