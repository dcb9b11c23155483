"""Binary images of 2 x 3 pixels, all 64 of them: the bound of masks, and the two cosine choices."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from checks import SCHEDULES, assert_mean, draw_rows, generator
from enumeration import absorbing_bound, every_mask, mask_law
from unmask.diffusion.processes.absorbing import AbsorbingProcess
from unmask.diffusion.registry import make_formulation
from unmask.diffusion.schedules.continuous import Schedule, make_schedule, rate
from unmask.diffusion.schedules.grids import stratified_times, time_grid
from unmask.evaluation.oracles.joint import JointOracle

HEIGHT, WIDTH = 2, 3
PIXELS, MASK = HEIGHT * WIDTH, 2


def images() -> JointOracle:
    """Images whose neighbours are mostly equal: an Ising model, with a bias towards white."""
    x = torch.cartesian_prod(*[torch.arange(2)] * PIXELS).view(-1, HEIGHT, WIDTH).double() * 2 - 1
    rows, columns = x[:, 1:] * x[:, :-1], x[:, :, 1:] * x[:, :, :-1]
    energy = 0.45 * (rows.sum((1, 2)) + columns.sum((1, 2))) + 0.1 * x.sum((1, 2))
    return JointOracle(energy.softmax(0).view([2] * PIXELS))


def named(schedule: str, num_steps: int = 0):
    return make_formulation(
        "absorbing",
        {"name": schedule},
        mask_token_id=MASK,
        vocab_size=2,
        data_ids=torch.arange(2),
        num_steps=num_steps,
        ordered=True,
    )


def steps_bound(oracle: JointOracle, schedule: Schedule, grid: Tensor) -> Tensor:
    """Return the T-step bound of every image, summed over masks and steps, shape (64,)."""
    masks, nats = every_mask(oracle, oracle)
    process = AbsorbingProcess(schedule, MASK)
    weight = process.reveal_prob(grid[:-1], grid[1:])
    return nats @ (weight @ mask_law(masks, schedule.mask_prob(grid[:-1])))


def test_the_images_are_worth_a_test():
    joint = images()
    assert 0.5 * PIXELS * math.log(2) < joint.entropy() < 0.9 * PIXELS * math.log(2)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_the_bound_of_every_image_is_its_likelihood(name):
    """By quadrature over t and all 64 masks, with the library's weight of this schedule."""
    joint, schedule = images(), SCHEDULES[name]
    masks, nats = every_mask(joint, joint)
    node, width = (torch.tensor(x) for x in np.polynomial.legendre.leggauss(100))
    t = (node + 1) / 2
    weight = (rate(schedule, t) * width / 2)[:, None] * mask_law(masks, schedule.mask_prob(t))
    bound = nats @ weight.sum(0)
    assert torch.allclose(bound, -joint.log_prob(joint.sequences()), atol=1e-9)
    assert float(joint.probs.flatten() @ bound) == pytest.approx(joint.entropy(), abs=1e-9)
    assert absorbing_bound(joint, joint) == pytest.approx(joint.entropy(), abs=1e-9)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_the_estimators_of_a_formulation_agree_with_the_entropy(name):
    """False alarms 7e-6 each: the weighted times of training, and exact k of evaluation."""
    joint, formulation, count = images(), named(name), 40_000
    x0, t = draw_rows(joint, count, 0), stratified_times(count, generator(1))
    batch = {"x0": x0, "t": t, "editable": torch.ones_like(x0, dtype=torch.bool)}
    for seed, bound in enumerate((formulation.continuous, formulation.bound)):
        loss = bound(joint, **batch, generator=generator(2 + seed))
        assert_mean(loss.nats, joint.entropy())
        assert (loss.tokens == PIXELS).all()


@pytest.mark.parametrize("steps", [1, 2, 7, 64, 1000])
def test_linear_on_the_cosine_grid_is_cosine_on_the_uniform_grid(steps):
    """In mask rates, in what each step reveals, and in the bound of every image."""
    uniform, cosine = time_grid(steps), time_grid(steps, "cosine")
    one, other = make_schedule("linear"), make_schedule("cosine")
    assert torch.allclose(one.mask_prob(cosine), other.mask_prob(uniform), rtol=0, atol=1e-12)
    reveal = [
        AbsorbingProcess(schedule, MASK).reveal_prob(grid[:-1], grid[1:])
        for schedule, grid in ((one, cosine), (other, uniform))
    ]
    assert torch.allclose(*reveal, rtol=0, atol=1e-12)
    joint = images()
    bounds = steps_bound(joint, one, cosine), steps_bound(joint, other, uniform)
    assert torch.allclose(*bounds, rtol=0, atol=1e-11)
    # The library's own sampler bounds, on the same masks.
    x0 = draw_rows(joint, 500, 4)
    batch = {"x0": x0, "t": stratified_times(500, generator(5))}
    batch |= {"editable": torch.ones_like(x0, dtype=torch.bool)}
    losses = [
        named(name).in_steps(steps, grid)(joint, **batch, generator=generator(6)).nats
        for name, grid in (("linear", cosine), ("cosine", uniform))
    ]
    assert torch.allclose(*losses, rtol=0, atol=1e-10)


def test_steps_come_down_to_the_entropy():
    joint = images()
    values = [
        float(joint.probs.flatten() @ steps_bound(joint, make_schedule("cosine"), time_grid(n)))
        for n in (1, 4, 16, 256)
    ]
    assert values == sorted(values, reverse=True)
    alone = torch.stack([joint.probs.movedim(i, 0).flatten(1).sum(1) for i in range(PIXELS)])
    assert values[0] == pytest.approx(float(-torch.xlogy(alone, alone).sum()), abs=1e-9)
    assert 0 < values[-1] - joint.entropy() < 0.01
