"""The objective of DiffusionBERT's released code on a toy law, where it is below the entropy.

Nothing is sampled: sums run over all sequences, masks and time steps, with exact predictions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from benchmarks.diffusionbert_released import ReleasedSpindle
from unmask.diffusion.objectives.per_token import step_kl
from unmask.diffusion.processes.absorbing_per_token import PerTokenProcess
from unmask.diffusion.processes.base import Corrupted
from unmask.diffusion.schedules.per_token import log_frequency, spindle
from unmask.evaluation.oracles.joint import JointOracle, TokenwiseOracle

STEPS, STRENGTH = 256, 0.3
SINGLE = torch.tensor([0.6, 0.25, 0.1, 0.05], dtype=torch.float64)
JOINT = JointOracle(0.6168 * SINGLE[:, None] * SINGLE + 0.3832 * SINGLE.diag())


@dataclass(frozen=True)
class Cases:
    """Every sequence under every mask, (R, 2) each."""

    x0: Tensor
    masked: Tensor

    @classmethod
    def all(cls) -> Cases:
        """Return the 64 of them."""
        masks = torch.tensor(list(product([False, True], repeat=2)))
        x0 = JOINT.sequences()
        return cls(x0.repeat_interleave(len(masks), 0), masks.repeat(len(x0), 1))

    @property
    def probs(self) -> Tensor:
        """p(x_0) of each."""
        return JOINT.log_prob(self.x0).exp()

    @property
    def noised(self) -> Corrupted:
        """The canvases."""
        return Corrupted(self.x0.masked_fill(self.masked, JOINT.mask_token_id), self.masked)


def counts() -> Tensor:
    """Return the expected occurrences of each token in ten thousand sequences."""
    seen = (JOINT.sequences()[..., None] == JOINT.data_ids).sum(1).double()
    return 10_000 * JOINT.probs.flatten() @ seen


def released(cases: Cases) -> float:
    """Return the released value with exact predictions under its own corruption, in nats."""
    process = ReleasedSpindle(
        log_frequency(counts(), JOINT.data_ids), JOINT.mask_token_id, STEPS, STRENGTH
    )
    anywhere = torch.ones_like(cases.masked)
    total = 0.0
    for step in range(1, STEPS + 1):
        index = torch.full((len(cases.x0),), step)
        visible = process.visible(cases.x0, index, anywhere)
        chance = torch.where(cases.masked, 1 - visible, visible).prod(1) * cases.probs
        reveal = process.reveal_prob(cases.x0, index, anywhere)
        nats = _exact_nats(cases, chance)
        # An impossible case has no prediction.
        cost = torch.where(chance > 0, (reveal * nats).sum(1), 0.0)
        total += float(chance @ cost)
    return total


def _exact_nats(cases: Cases, chance: Tensor) -> Tensor:
    """Return -log p(x_0[i] | canvas) at masked i, else 0, given the probability of every case."""
    canvas = cases.noised.ids
    same = (canvas[:, None] == canvas[None]).all(2).double()  # (R, R)
    whole = same @ chance
    agree = cases.x0[:, None] == cases.x0[None]  # (R, R, 2)
    nats = torch.stack([-((same * agree[..., i]) @ chance / whole).log() for i in range(2)], 1)
    return torch.where(cases.masked, nats, 0.0)


def valid(cases: Cases) -> float:
    """Return the T-step bound of the valid form with exact predictions, in nats."""
    schedule = spindle(counts(), JOINT.vocab_size, JOINT.data_ids, STRENGTH)
    process = PerTokenProcess(schedule, JOINT.mask_token_id)
    oracle = TokenwiseOracle(JOINT, process)
    total = 0.0
    for step in range(1, STEPS + 1):
        t, s = (torch.full((len(cases.x0),), j / STEPS).double() for j in (step, step - 1))
        prob = schedule.mask_prob(t).gather(1, cases.x0)
        chance = torch.where(cases.masked, prob, 1 - prob).prod(1) * cases.probs
        kl = step_kl(oracle, process, cases.x0, cases.noised, t, s).kl
        total += float(chance @ torch.where(chance > 0, kl, 0.0))
    return total


def main() -> None:
    """Print the three numbers."""
    cases = Cases.all()
    assert math.isclose(float(cases.probs.sum()), 4)
    print(f"entropy        {JOINT.entropy():.4f}")
    print(f"as released    {released(cases):.4f}")
    print(f"valid form     {valid(cases):.4f}")


if __name__ == "__main__":
    main()
