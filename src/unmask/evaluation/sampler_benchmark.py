r"""Samplers measured against the true law, with exact denoisers instead of a network.

Every error is then the sampler's own. Two benchmarks, in both of which p(x_i | visible tokens) is
known:

    joint   an enumerated joint law: KL(law of the sampler || p), from many sequences
    text    a Markov chain of order 2, estimated from a text: -log p of a sequence above the true
            entropy; the distance of the generated trigrams from those of the chain; and, for
            orders that do not depend on the drawn tokens, a bound on KL

A sampler that reveals one token per step, in an order that does not depend on its predictions, has
the law of the data. All others pay for revealing several tokens at once as if they were
independent, or for preferring confident predictions. The numbers show how much, by network call.

The bound: let such a sampler q draw the tokens x_S of a step, each from its own conditional, where
p would draw them jointly. Both choose the next positions alike, so p's way there ends in the law of
the data, and by the data processing inequality

    KL(q || p) <= E_q [sum of log q(x_i | what was visible when x_i was drawn) - log p(x)].

The right side is the mean of a number known for every sequence, 0 for an exact sampler. It is the
dependence that Ben-Hamu et al. 2025, arXiv:2505.24857, bound by gamma per step.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unmask.diffusion.denoiser import Denoiser, DenoiserWrapper
from unmask.diffusion.processes.absorbing import AbsorbingProcess
from unmask.diffusion.rng import RowRng
from unmask.diffusion.schedules.continuous import make_schedule
from unmask.evaluation.oracles.joint import JointOracle
from unmask.evaluation.oracles.markov import SecondOrderOracle
from unmask.sampling.canvas import Canvas
from unmask.sampling.sampler import sample
from unmask.sampling.samplers.base import Sampler
from unmask.sampling.samplers.registry import custom, make_sampler

ALPHABET = " abcdefghijklmnopqrstuvwxyz"
REPEATS = 20
"""Sets of sequences from the true law itself, for the floor."""


@dataclass(frozen=True)
class Measured:
    """The measurements of one sampler with one setting.

    Attributes:
        sampler: Its name.
        setting: The options that differ from its defaults.
        calls: Denoiser calls that a sequence takes part in, the mean over sequences.
        seconds: Time for all sequences, denoiser included.
        error: Nats. In the joint benchmark KL(law || p) per sequence, corrected for the number of
            sequences; in the text benchmark the mean of -log p above the entropy, per token, which
            is negative for a sampler that prefers likely sequences.
        error_se: Standard error of ``error``.
        trigrams: Total variation between the generated trigrams and those of the chain, from 0 to
            1; None in the joint benchmark.
        bound: Upper bound on KL(law || p) in the text benchmark, nats per token; None where the
            order depends on the drawn tokens, or tokens are remasked.
        bound_se: Standard error of ``bound``.
    """

    sampler: str
    setting: str
    calls: float
    seconds: float
    error: float
    error_se: float
    trigrams: float | None = None
    bound: float | None = None
    bound_se: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return all fields by name."""
        return dict(vars(self))


@dataclass(frozen=True, eq=False)
class Witness(DenoiserWrapper):
    """A denoiser that counts its calls and, like BERT, predicts a visible token from the others.

    An exact denoiser is certain of the tokens that it sees, so a sampler that revises tokens would
    never change one. Here the prediction for a visible token is p(x_i | the other visible tokens).

    Args:
        mask_token_id: Id of the mask token.
        judges: Whether to predict visible tokens so; otherwise they are certain.
        calls: Shape (B,), int64; counts the calls that each sequence took part in.
    """

    mask_token_id: int
    judges: bool
    calls: Tensor

    def __call__(
        self, xt: Tensor, t: Tensor, *, at: Tensor | None = None, valid: Tensor | None = None
    ) -> Tensor:
        """Return log-probabilities; see ``Denoiser``."""
        assert at is not None
        assert valid is not None
        self.calls.add_(at.any(1))
        judged = at & (xt != self.mask_token_id)
        logits = self.inner(xt, t, at=at, valid=valid)
        if self.judges and judged.any():
            row, place = judged.nonzero().T
            alone = torch.nn.functional.one_hot(place, xt.shape[1]).bool()
            others = xt[row].masked_fill(alone, self.mask_token_id)
            logits[judged[at]] = self.inner(others, t[row], at=alone, valid=valid[row])
        return logits


def letters(text: str) -> tuple[Tensor, int]:
    """Return a text as ids (N,) of lower-case letters and single spaces; and their number, 27."""
    kept = "".join(c if c in ALPHABET else " " for c in text.lower())
    return torch.tensor([ALPHABET.index(c) for c in " ".join(kept.split())]), len(ALPHABET)


def characters(text: str) -> tuple[Tensor, int]:
    """Return a text as ids of its characters, (N,), and the number of distinct ids, at most 256.

    The rarest characters share the last id.
    """
    kinds = Counter(text).most_common()
    ids = {character: min(i, 255) for i, (character, _) in enumerate(kinds)}
    return torch.tensor([ids[character] for character in text]), min(len(kinds), 256)


SYMBOLS = {"letters": letters, "characters": characters}
"""Ways to turn a text into ids."""


def unfiltered(name: str, **options: Any) -> Sampler:
    """Return a sampler that draws from the predictions as they are: temperature 1, no filters."""
    sampler = make_sampler(name, **options)
    return custom(sampler.policy, steps=sampler.num_steps, grid=getattr(sampler, "grid", None))


def small_joint() -> JointOracle:
    """Return the joint law of the command line: random, of four tokens of three kinds."""
    generator = torch.Generator().manual_seed(7)
    u = torch.rand((3,) * 4, dtype=torch.float64, generator=generator)
    weights = 0.1 - u.log()
    return JointOracle(weights / weights.sum())


@dataclass(frozen=True)
class Samples:
    """Sequences that a sampler generated.

    Attributes:
        ids: Shape (B, L), int64.
        log_prob: Sum of the log-probabilities that the tokens were drawn with, shape (B,), float64.
        calls: Calls that a sequence took part in, the mean over sequences.
        seconds: Time for all of them.
    """

    ids: Tensor
    log_prob: Tensor
    calls: float
    seconds: float


def draw_samples(
    denoiser: Denoiser, mask_token_id: int, sampler: Sampler, rows: int, length: int, seed: int
) -> Samples:
    """Generate sequences without a prompt."""
    canvas = Canvas.from_rows([[None] * length] * rows, mask_token_id, mask_token_id)
    process = AbsorbingProcess(make_schedule("linear"), mask_token_id)
    rng = RowRng(torch.arange(rows) + seed * rows)
    judges = sampler.policy.reads is not None
    witness = Witness(denoiser, mask_token_id, judges, torch.zeros(rows, dtype=torch.int64))
    begun = time.perf_counter()
    *_, last = sample(
        witness, process, canvas, sampler.policy, sampler.drawing, sampler.times(length), rng
    )
    seconds = time.perf_counter() - begun
    calls = float(witness.calls.double().mean())
    return Samples(last.canvas.ids, last.confidence.double().log().sum(1), calls, seconds)


def against_joint(
    oracle: JointOracle,
    name: str,
    setting: str,
    sampler: Sampler,
    rows: int = 20_000,
    seed: int = 0,
) -> Measured:
    """Measure a sampler against an enumerated joint law; see ``Measured``."""
    found = draw_samples(oracle, oracle.mask_token_id, sampler, rows, oracle.length, seed)
    size = oracle.vocab_size
    digit = torch.tensor([size**i for i in reversed(range(oracle.length))])
    share = torch.bincount((found.ids * digit).sum(1), minlength=size**oracle.length) / rows
    share = share.double()
    ratio = torch.where(share > 0, (share / oracle.probs.flatten()).log(), 0)
    divergence = float((share * ratio).sum())
    # The plug-in estimate is too large by (cells - 1) / 2N (Miller 1955). Its variance is that of
    # the mean log-ratio, plus that of a chi-square where the law is p itself.
    cells = int((oracle.probs > 0).sum()) - 1
    variance = float((share * ratio**2).sum()) - divergence**2
    se = (max(variance, 0) / rows + cells / (2 * rows**2)) ** 0.5
    return Measured(name, setting, found.calls, found.seconds, divergence - cells / (2 * rows), se)


def against_text(
    oracle: SecondOrderOracle,
    name: str,
    setting: str,
    sampler: Sampler,
    rows: int = 64,
    length: int = 128,
    seed: int = 0,
) -> Measured:
    """Measure a sampler against the chain of a text; see ``Measured``."""
    found = draw_samples(oracle, oracle.mask_token_id, sampler, rows, length, seed)
    bound: tuple[float | None, float | None] = (None, None)
    if sampler.policy.blind:
        bound = _mean((found.log_prob - oracle.log_prob(found.ids)) / length)
    cost = _above_entropy(oracle, found.ids)
    distance = _distance(oracle, found.ids)
    return Measured(name, setting, found.calls, found.seconds, *cost, distance, *bound)


def true_text(oracle: SecondOrderOracle, rows: int, length: int, seed: int) -> Measured:
    """Measure sequences drawn from the chain itself: the floor for this number of sequences.

    Both numbers are means over ``REPEATS`` sets.
    """
    generator = torch.Generator().manual_seed(seed)
    sets = [oracle.sequences(rows, length, generator) for _ in range(REPEATS)]
    cost = _above_entropy(oracle, torch.cat(sets))
    distance = sum(_distance(oracle, ids) for ids in sets) / REPEATS
    return Measured("the truth", "", 0, 0.0, *cost, distance)


def _above_entropy(oracle: SecondOrderOracle, ids: Tensor) -> tuple[float, float]:
    length = ids.shape[1]
    return _mean((-oracle.log_prob(ids) - oracle.entropy(length)) / length)


def _distance(oracle: SecondOrderOracle, ids: Tensor) -> float:
    found = SecondOrderOracle.triples(ids, oracle.vocab_size)
    return float((found / found.sum() - oracle.triple_law(ids.shape[1])).abs().sum() / 2)


def _mean(values: Tensor) -> tuple[float, float]:
    """Return the mean of numbers (B,) and its standard error, NaN for a single number."""
    se = float(values.std()) / len(values) ** 0.5 if len(values) > 1 else math.nan
    return float(values.mean()), se
