"""What the tests share: statistical verdicts, seeded randomness and small exact worlds.

A statistical test draws from a fixed generator, so it passes or fails for good. Where a comment
names a false-alarm rate, it is the chance that a correct library would have failed when the seed
was chosen: 7e-6 for a mean (4.5 standard errors, two-sided) and 1e-6 for a law (chi-square). The
standard error must also be below 2 % of the value, or a heavy-tailed wrong estimate would pass.
"""

import torch
from scipy.stats import chi2
from torch import Tensor

from unmask.diffusion.schedules.continuous import Cosine, Geometric, LogLinear, Polynomial
from unmask.evaluation.oracles.joint import JointOracle, MarkovOracle

SCHEDULES = {
    "linear": Polynomial(),
    "quadratic": Polynomial(2.0),
    "root": Polynomial(0.5),
    "cosine": Cosine(),
    "geometric": Geometric(),
    "log-linear": LogLinear(),
}


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def assert_mean(samples: Tensor, expected: float) -> None:
    """Fail unless independent samples have the expected mean; false alarms 7e-6."""
    samples = samples.double()
    error = float(samples.std() / len(samples) ** 0.5)
    assert error < 0.02 * abs(expected), f"no power: standard error {error} of {expected}"
    gap = abs(float(samples.mean()) - expected)
    assert gap < 4.5 * error + 1e-12, f"mean {samples.mean()}, not {expected} +- {error}"


def assert_law(counts: Tensor, probs: Tensor) -> None:
    """Fail unless counts look like draws from probs, by chi-square; false alarms 1e-6."""
    counts, probs = counts.double().flatten(), probs.double().flatten()
    assert counts[probs == 0].sum() == 0, "something impossible was drawn"
    expected = (counts.sum() * probs)[probs > 0]
    assert expected.min() >= 5, "no power: a cell expects fewer than 5"
    if len(expected) == 1:
        return
    statistic = float(((counts[probs > 0] - expected).square() / expected).sum())
    p_value = chi2.sf(statistic, len(expected) - 1)
    assert p_value > 1e-6, f"chi-square {statistic:.1f} over {len(expected)} cells"


def golden() -> JointOracle:
    """Two tokens of two kinds: the joint of which the project's specification lists every value."""
    return JointOracle(torch.tensor([[0.5, 0.2], [0.1, 0.2]], dtype=torch.float64))


def random_joint(vocab_size: int = 3, length: int = 4, seed: int = 7) -> JointOracle:
    """A joint without structure: exponential weights, so likely and unlikely sequences."""
    rng = torch.rand((vocab_size,) * length, dtype=torch.float64, generator=generator(seed))
    weights = 0.1 - rng.log()
    return JointOracle(weights / weights.sum())


def chain() -> MarkovOracle:
    """A Markov chain of three states, far from independent."""
    rows = [[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.25, 0.25, 0.5]]
    initial = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    return MarkovOracle(initial, torch.tensor(rows, dtype=torch.float64))


def draw_rows(oracle: JointOracle, count: int, seed: int) -> Tensor:
    """Draw sequences from a joint, shape (count, L)."""
    probs = oracle.probs.flatten()
    index = torch.multinomial(probs, count, replacement=True, generator=generator(seed))
    return oracle.sequences()[index]


class TimeTold:
    """A denoiser whose guesses depend on the time: an exact one's, raised to a power of t."""

    uses_time = True

    def __init__(self, inner: JointOracle) -> None:
        self.inner, self.mask_token_id = inner, inner.mask_token_id
        self.vocab_size, self.data_ids = inner.vocab_size, inner.data_ids

    def __call__(self, xt, t, *, at=None, valid=None):
        where = torch.ones_like(xt, dtype=torch.bool) if at is None else at
        logits = self.inner(xt, t, at=where, valid=valid)
        power = (8 * t.double() - 4).tanh() * 2 + 2.2
        logits = (logits * power[where.nonzero()[:, 0]][:, None]).log_softmax(1)
        return logits.view(*xt.shape, -1) if at is None else logits


class Recorder:
    """A denoiser that asks a real one and keeps what it was asked."""

    def __init__(self, inner: JointOracle | MarkovOracle) -> None:
        self.inner, self.calls = inner, []
        self.vocab_size, self.data_ids = inner.vocab_size, inner.data_ids

    def __call__(self, xt, t, *, at=None, valid=None):
        self.calls.append((xt, t, at))
        return self.inner(xt, t, at=at, valid=valid)
