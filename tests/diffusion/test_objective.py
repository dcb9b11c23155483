"""The bound is the likelihood when the denoiser is exact, in every form and for every schedule."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from checks import SCHEDULES, TimeTold, assert_mean, draw_rows, generator, golden, random_joint
from enumeration import every_mask, mask_law
from unmask.diffusion.formulation import BlockFormulation, MaskedFormulation
from unmask.diffusion.objectives.masked import (
    continuous_nelbo,
    discrete_nelbo,
    exact_k_nelbo,
    masked_mean,
)
from unmask.diffusion.processes.absorbing import AbsorbingProcess
from unmask.diffusion.processes.base import Corrupted
from unmask.diffusion.schedules.continuous import FromMasks, LogLinear, Polynomial, rate
from unmask.diffusion.schedules.grids import given_grid, grid_step, stratified_times, time_grid
from unmask.errors import UserError
from unmask.evaluation.oracles.block import BlockOracle
from unmask.evaluation.oracles.joint import JointOracle
from unmask.pipelines.sampler_options import sampler_grid

H = 1.220607
MARGINALS = 1.283876


def linear(mask_token_id: int) -> AbsorbingProcess:
    return AbsorbingProcess(Polynomial(), mask_token_id)


def iid_times(count: int, seed: int) -> Tensor:
    return 1 - torch.rand(count, dtype=torch.float64, generator=generator(seed))


def discrete_value(
    oracle: JointOracle, denoiser: JointOracle, steps: int, grid: Tensor | None = None
) -> float:
    """Return the T-step bound by summing over sequences, masks and steps."""
    masks, nats = every_mask(oracle, denoiser)
    process, grid = linear(oracle.mask_token_id), time_grid(steps) if grid is None else grid
    weight = process.reveal_prob(grid[:-1], grid[1:])
    per_mask = weight @ mask_law(masks, process.schedule.mask_prob(grid[:-1]))
    return float(oracle.probs.flatten() @ nats @ per_mask)


@pytest.mark.parametrize("name", ["linear", "quadratic", "cosine", "root", "geometric"])
def test_the_bound_of_every_sequence_is_its_likelihood(name):
    """By quadrature over t and enumeration of all masks, with the library's own weight."""
    oracle, schedule = random_joint(), SCHEDULES[name]
    masks, nats = every_mask(oracle, oracle)
    node, width = (torch.tensor(x) for x in np.polynomial.legendre.leggauss(400))
    # Nodes in sqrt(t) for the root, whose weight is singular at 0.
    r = (node + 1) / 2
    t, dt = (r**2, width * r) if name == "root" else (r, width / 2)
    weight = (rate(schedule, t) * dt)[:, None] * mask_law(masks, schedule.mask_prob(t))
    bound = nats @ weight.sum(0)
    missing = bound + oracle.log_prob(oracle.sequences())
    if name == "geometric":
        # What lies below the mask rate 1e-5, where at most one token is masked.
        last_tokens = nats[:, masks.sum(1) == 1].sum(1)
        assert torch.allclose(missing, -1e-5 * last_tokens, rtol=1e-3)
    else:
        assert missing.abs().max() < 1e-9


@pytest.mark.parametrize(("steps", "value"), [(1, 1.283876), (2, 1.252242), (4, 1.236424)])
def test_golden_bound_of_few_steps(steps, value):
    assert discrete_value(golden(), golden(), steps) == pytest.approx(value, abs=1e-6)


def test_golden_bound_of_many_steps():
    assert discrete_value(golden(), golden(), 8) == pytest.approx(1.228516, abs=1e-6)
    assert discrete_value(golden(), golden(), 1000) == pytest.approx(1.220671, abs=1e-6)
    # For two tokens the gap is exactly KL(P || product of marginals) / T.
    for steps in (1, 3, 50):
        gap = discrete_value(golden(), golden(), steps) - golden().entropy()
        assert gap == pytest.approx(0.063269 / steps, rel=1e-4)


def test_more_steps_never_loosen_the_bound():
    oracle = random_joint()
    values = [discrete_value(oracle, oracle, 2**k) for k in range(8)]
    assert values == sorted(values, reverse=True)
    assert values[-1] > oracle.entropy()
    gaps = [value - oracle.entropy() for value in values]
    assert gaps[-2] / gaps[-1] == pytest.approx(2, rel=0.01)
    single = sum(_entropy(oracle.probs.sum([a for a in range(4) if a != i])) for i in range(4))
    assert values[0] == pytest.approx(single, abs=1e-9)


def _entropy(probs: Tensor) -> float:
    return float(-(probs * probs.log()).sum())


@pytest.mark.parametrize("steps", [1, 2, 5, 100])
def test_predictors_that_see_nothing_have_the_same_bound_at_any_number_of_steps(steps):
    joint = golden().probs
    marginals = JointOracle(joint.sum(1)[:, None] * joint.sum(0))
    uniform = JointOracle(torch.full((2, 2), 0.25))
    assert discrete_value(golden(), marginals, steps) == pytest.approx(MARGINALS, abs=1e-6)
    assert discrete_value(golden(), uniform, steps) == pytest.approx(2 * math.log(2), abs=1e-9)


@pytest.mark.parametrize("name", SCHEDULES)
def test_each_continuous_estimate_is_weight_times_cross_entropy(name):
    """Row by row: the masks are those that the same generator deals again."""
    oracle = random_joint()
    process = AbsorbingProcess(SCHEDULES[name], oracle.mask_token_id)
    x0, t = draw_rows(oracle, 500, 0), iid_times(500, 1)
    editable = torch.ones_like(x0, dtype=torch.bool)
    loss = continuous_nelbo(oracle, process, x0, t, editable, generator(2))
    xt, masked = process.corrupt(x0, t, editable, generator(2))
    prediction = oracle(xt, t).gather(2, x0[..., None])[..., 0]
    surprise = -(prediction * masked).sum(1)
    weight = -process.schedule.dalpha(t) / process.schedule.mask_prob(t)
    assert torch.allclose(loss.diffusion, weight * surprise, rtol=1e-12)
    never_clean = process.schedule.mask_prob(torch.zeros(1).double()).item()
    assert loss.reconstruction[0].item() == pytest.approx(4 * never_clean * math.log(3), abs=1e-15)
    still_clean = process.schedule.alpha(torch.ones(1).double()).item()
    assert loss.prior[0].item() == pytest.approx(4 * still_clean * math.log(3), abs=1e-15)
    assert (loss.tokens == 4).all()


# Not "root": E[(w S)^2] is the integral of t^(w - 2), infinite for an exponent w below 1.
@pytest.mark.parametrize("name", ["linear", "quadratic", "cosine", "geometric"])
def test_monte_carlo_bound_of_every_schedule(name):
    oracle, count = random_joint(), 40_000
    process = AbsorbingProcess(SCHEDULES[name], oracle.mask_token_id)
    x0 = draw_rows(oracle, count, 3)
    everywhere = torch.ones_like(x0, dtype=torch.bool)
    loss = continuous_nelbo(oracle, process, x0, iid_times(count, 4), everywhere, generator(5))
    assert_mean(loss.nats, oracle.entropy())


def test_monte_carlo_bound_of_a_few_steps():
    for steps in (1, 2, 8):
        x0 = draw_rows(golden(), 40_000, 6)
        everywhere = torch.ones_like(x0, dtype=torch.bool)
        loss = discrete_nelbo(
            golden(), linear(2), x0, iid_times(40_000, 7), steps, everywhere, generator(8)
        )
        assert_mean(loss.nats, discrete_value(golden(), golden(), steps))


GRIDS = {
    "cosine": time_grid(4, "cosine"),
    "list": given_grid([1, 0.97, 0.4, 0.39, 0.1, 0]),
}


class Dealt(AbsorbingProcess):
    """A process that deals the masks it was given, each row in turn."""

    def deal(self, masked: Tensor) -> "Dealt":
        object.__setattr__(self, "masked", masked)
        return self

    def corrupt(self, x0, t, editable, generator):
        return Corrupted(x0.masked_fill(self.masked, self.mask_token_id), self.masked)


@pytest.mark.parametrize("name", GRIDS)
def test_the_bound_of_a_grid_is_that_of_its_steps(name):
    """Summed over all sequences, masks and steps, not sampled."""
    oracle, grid = random_joint(), GRIDS[name]
    steps = len(grid) - 1
    masks = torch.tensor(list(product([False, True], repeat=4)))
    x0 = oracle.sequences()
    rows, masked = x0.repeat_interleave(16, 0), masks.repeat(len(x0), 1)
    process = Dealt(Polynomial(), oracle.mask_token_id).deal(masked)
    total = 0.0
    for j in range(steps):
        # Step j from the noisy end has the share (T - j - 1, T - j] of uniform times.
        t = torch.full((len(rows),), (steps - j - 0.5) / steps, dtype=torch.float64)
        everywhere = torch.ones_like(rows).bool()
        loss = discrete_nelbo(oracle, process, rows, t, steps, everywhere, generator(0), grid=grid)
        law = mask_law(masks, grid[j : j + 1])[0]
        total += float(oracle.probs.flatten() @ (loss.nats.view(len(x0), 16) @ law)) / steps
    assert total == pytest.approx(discrete_value(oracle, oracle, steps, grid), abs=1e-9)
    assert abs(total - discrete_value(oracle, oracle, steps)) > 1e-3


def test_golden_bound_of_the_cosine_grid():
    """The sampler's own four steps are not the uniform ones, which come to 1.236424."""
    value = discrete_value(golden(), golden(), 4, GRIDS["cosine"])
    assert value == pytest.approx(1.23987, abs=1e-5)
    for formulation in (MaskedFormulation(linear(2)), BlockFormulation(linear(2), block_length=2)):
        bound = formulation.in_steps(4, sampler_grid({}, 4))
        denoiser = (
            BlockOracle(golden(), 2) if isinstance(formulation, BlockFormulation) else golden()
        )
        x0 = draw_rows(golden(), 40_000, 6)
        everywhere = torch.ones_like(x0, dtype=torch.bool)
        loss = bound(
            denoiser, x0=x0, t=iid_times(40_000, 7), editable=everywhere, generator=generator(8)
        )
        assert_mean(loss.nats, value)


def test_a_sampler_starts_from_masks_alone_whatever_is_visible_at_the_end():
    """So that a schedule with alpha(1) > 0 pays no prior, in steps and in continuous time."""
    schedule = LogLinear(eps=0.3)
    formulation = MaskedFormulation(AbsorbingProcess(schedule, 2))
    x0 = draw_rows(golden(), 40_000, 33)
    batch = {"x0": x0, "t": iid_times(40_000, 34), "editable": torch.ones_like(x0).bool()}
    for bound, value in (
        (formulation.in_steps(1), MARGINALS),
        (formulation.in_steps(4, time_grid(4, "cosine")), 1.23987),
        (formulation.bound, H),
    ):
        loss = bound(golden(), generator=generator(35), **batch)
        assert_mean(loss.nats, value)
        assert not loss.prior.any()
    as_taken, t = FromMasks(schedule), torch.linspace(0.1, 1, 10).double()
    assert torch.allclose(rate(as_taken, t), rate(schedule, t))
    assert torch.allclose(as_taken.inverse(as_taken.alpha(t)), t)


def test_a_grid_has_as_many_times_as_steps_and_one():
    with pytest.raises(UserError, match="4 steps need a grid of 5 times, not 4"):
        grid_step(torch.ones(1), 4, time_grid(3))
    now, before = grid_step(torch.tensor([0.25, 0.26, 1.0]), 4, GRIDS["cosine"])
    assert torch.equal(now, GRIDS["cosine"][[3, 2, 0]])
    assert torch.equal(before, GRIDS["cosine"][[4, 3, 1]])


@pytest.mark.parametrize("name", ["linear", "quadratic", "cosine", "far from 1", "geometric"])
def test_exact_k_is_the_bound_of_a_network_that_is_conditioned_on_time(name):
    """By quadrature over the mask rate, at the time of which the network is told."""
    oracle = random_joint(3, 3)
    denoiser = TimeTold(oracle)
    schedule = LogLinear(eps=0.3) if name == "far from 1" else SCHEDULES[name]
    process = AbsorbingProcess(schedule, oracle.mask_token_id)
    last = schedule.mask_prob(torch.ones((), dtype=torch.float64))
    node, width = (torch.tensor(x) for x in np.polynomial.legendre.leggauss(60))
    mask_rate, total = (node + 1) / 2, 0.0
    for m, dm in zip(mask_rate, width / 2, strict=True):
        time = schedule.inverse(1 - last * m).clamp(0, 1).item()
        masks, nats = every_mask(oracle, denoiser, time)
        total += float(dm / m * (oracle.probs.flatten() @ nats @ mask_law(masks, m[None])[0]))
    x0, gen = draw_rows(oracle, 60_000, 31), generator(32)
    everywhere = torch.ones_like(x0, dtype=torch.bool)
    t = stratified_times(len(x0), gen)
    assert_mean(exact_k_nelbo(denoiser, process, x0, t, everywhere, gen).nats, total)
    if name in ("linear", "quadratic", "cosine"):
        assert_mean(continuous_nelbo(denoiser, process, x0, t, everywhere, gen).nats, total)


def test_estimators_agree():
    oracle = random_joint()
    x0 = draw_rows(oracle, 30_000, 9)
    everywhere = torch.ones_like(x0, dtype=torch.bool)
    gen = generator(10)
    spread = {}
    for estimate in (continuous_nelbo, exact_k_nelbo):
        t = stratified_times(30_000, gen)
        nats = estimate(oracle, linear(3), x0, t, everywhere, gen).nats
        assert_mean(nats, oracle.entropy())
        spread[estimate] = nats.std()
    assert spread[exact_k_nelbo] < 0.8 * spread[continuous_nelbo]


def test_exact_k_bound_of_single_sequences():
    """For the estimator that evaluation uses, on the most likely and the least likely sequence."""
    oracle = random_joint()
    best, worst = oracle.probs.flatten().argmax(), oracle.probs.flatten().argmin()
    for x in oracle.sequences()[torch.stack([best, worst])]:
        x0 = x.expand(20_000, -1)
        everywhere = torch.ones_like(x0, dtype=torch.bool)
        loss = exact_k_nelbo(
            oracle, linear(3), x0, iid_times(20_000, 11), everywhere, generator(12)
        )
        assert_mean(loss.nats, -oracle.log_prob(x[None]).item())


def test_exact_k_has_no_variance_when_every_token_costs_the_same():
    uniform = JointOracle(torch.full((3,) * 4, 3.0**-4))
    x0 = draw_rows(uniform, 1000, 13)
    editable = torch.ones_like(x0, dtype=torch.bool)
    editable[:, 0] = False
    nats = exact_k_nelbo(uniform, linear(3), x0, iid_times(1000, 14), editable, generator(15)).nats
    assert torch.allclose(nats, torch.full_like(nats, 3 * math.log(3)), rtol=1e-12)


def test_t_form_variance_follows_its_formula():
    """Constant cost c, times above eps: Var = c^2 (ln(1/eps) / (1 - eps) - 1) / L per token."""
    uniform = JointOracle(torch.full((2,) * 8, 2.0**-8))
    x0, eps = draw_rows(uniform, 100_000, 16), 1e-2
    t = eps + (1 - eps) * iid_times(100_000, 17)
    everywhere = torch.ones_like(x0, dtype=torch.bool)
    per_token = continuous_nelbo(uniform, linear(2), x0, t, everywhere, generator(18)).nats / 8
    expected = math.log(2) ** 2 * (math.log(1 / eps) / (1 - eps) - 1) / 8
    assert per_token.var().item() == pytest.approx(expected, rel=0.05)


def test_masked_mean_over_ten_rates_is_the_ten_step_bound():
    """With mean cost a + b m at mask rate m, ten rates give a + .55 b (blog), not a + .5 b."""
    b = 2 * (MARGINALS / 2 - H / 2)
    a = MARGINALS / 2 - b
    x0 = draw_rows(golden(), 60_000, 19)
    everywhere = torch.ones_like(x0, dtype=torch.bool)
    means = []
    for i in range(1, 11):
        m = i / 10
        loss = masked_mean(golden(), linear(2), x0, m, everywhere, generator(20 + i))
        assert_mean(loss.tokens, 2 * m)
        assert_mean(loss.nats / (2 * m), a + b * m)
        means.append(loss.per_token.item())
    assert sum(means) / 10 == pytest.approx(a + 0.55 * b, rel=0.01)
    assert discrete_value(golden(), golden(), 10) / 2 == pytest.approx(a + 0.55 * b, abs=1e-6)
