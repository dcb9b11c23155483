"""Discretised Gaussian noise as a formulation: its chain, its size, its bound and its refusals."""

import math
from itertools import combinations, pairwise, product

import pytest
import torch
from torch import Tensor

from checks import generator, random_joint
from enumeration import expected, transition_bound
from laws import gaussian_chain, gaussian_step
from unmask.diffusion.formulation import GaussianFormulation, TransitionFormulation
from unmask.diffusion.objectives.transition import transition_nelbo
from unmask.diffusion.processes import gaussian
from unmask.diffusion.processes.base import posterior
from unmask.diffusion.processes.gaussian import GaussianProcess
from unmask.diffusion.registry import check_names, make_formulation
from unmask.diffusion.schedules.grids import given_grid, time_grid
from unmask.diffusion.schedules.tabulated import LinearBeta, gaussian_betas
from unmask.errors import UserError
from unmask.evaluation.oracles.joint import JointOracle, LeaveOneOutOracle

BETAS = gaussian_betas(6, 0.08, 0.9)
LINEAR_BETA = {"name": "linear-beta"}


def times(step: int, of: int, count: int) -> Tensor:
    return torch.full((count,), step / of, dtype=torch.float64)


def made(levels: int = 4, num_steps: int = 12, **options) -> GaussianFormulation:
    options = {"schedule": LINEAR_BETA, "data_ids": torch.arange(levels)} | options
    formulation = make_formulation(
        "gaussian",
        mask_token_id=levels,
        vocab_size=levels + 3,
        num_steps=num_steps,
        ordered=True,
        **options,
    )
    assert isinstance(formulation, GaussianFormulation)
    return formulation


class Anything:
    """A network with a random prediction of every level, and of ids that are none."""

    def __init__(self, vocab_size: int, levels: int, seed: int = 0) -> None:
        self.vocab_size, self.data_ids = vocab_size, torch.arange(levels)
        self.table = torch.randn(40, vocab_size, dtype=torch.float64, generator=generator(seed))

    def __call__(self, xt, t, *, at=None, valid=None):
        logits = self.table[xt + xt.roll(1, 1)]
        return logits if at is None else logits[at]


# --- the chain ---


def test_single_steps_are_symmetric_and_their_products_are_not():
    """So that the tests below tell a matrix from its transpose."""
    one, two = gaussian_step(0.08, 5), gaussian_step(0.9, 5)
    assert torch.allclose(one, one.T, atol=1e-15)
    assert (one @ two - two @ one).abs().max() > 1e-3
    process = GaussianProcess(BETAS, 5)
    whole = process.log_forward(torch.arange(5), times(6, 6, 5)).exp()
    assert torch.allclose(whole, gaussian_chain(BETAS, 5), atol=1e-14)
    assert torch.allclose(whole.sum(0), torch.ones(5).double(), atol=1e-14)
    assert torch.allclose(whole.sum(1), torch.ones(5).double(), atol=1e-14)


def test_the_posterior_is_that_of_explicit_products():
    """Of all pairs of times, single steps and strides: q(x_t | x_s) q(x_s | x_0), normalised."""
    process = GaussianProcess(BETAS, 5)
    xt, x0 = torch.arange(5).repeat_interleave(5), torch.arange(5).repeat(5)
    for s, t in combinations(range(7), 2):
        found = posterior(process, xt, x0, times(t, 6, 25), times(s, 6, 25))
        step, past = gaussian_chain(BETAS, 5, s, t), gaussian_chain(BETAS, 5, 0, s)
        law = step.T[xt] * past[x0]
        assert torch.allclose(found, law / law.sum(1, keepdim=True), atol=1e-13), (s, t)


@pytest.mark.parametrize(("s", "t"), [(0, 6), (1, 6), (2, 6), (1, 2), (2, 5), (5, 6)])
def test_steps_back_have_the_law_of_explicit_products(s, t):
    """Without chance: an even grid of u falls on every level as often as its probability says."""
    process, count = GaussianProcess(BETAS, 5), 10_000
    xt, x0 = torch.arange(5).repeat_interleave(5), torch.arange(5).repeat(5)
    law = gaussian_chain(BETAS, 5, s, t).T[xt] * gaussian_chain(BETAS, 5, 0, s)[x0]
    u = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    now, before = times(t, 6, 1)[0], times(s, 6, 1)[0]
    drawn = process.step_back(
        *(x[:, None].expand(25, count) for x in (xt, x0)), now, before, u.expand(25, count)
    )
    share = torch.nn.functional.one_hot(drawn, 5).double().mean(1)
    assert torch.allclose(share, law / law.sum(1, keepdim=True), rtol=0, atol=2 / count)


def test_a_batch_in_parts_is_the_same_batch(monkeypatch):
    process, rng = GaussianProcess(BETAS, 5), generator(0)
    x0 = torch.randint(5, (7, 9), generator=rng)
    xt = torch.randint(5, (7, 9), generator=rng)
    u = torch.rand(7, 9, dtype=torch.float64, generator=rng)
    t = torch.arange(7) / 6
    editable = torch.rand(7, 9, generator=rng) < 0.7

    def answers() -> tuple[Tensor, ...]:
        now, before = (torch.tensor(x, dtype=torch.float64) for x in (4 / 6, 1 / 6))
        back = process.step_back(xt, x0, now, before, u)
        return process.corrupt(x0, t, editable, generator(1)).ids, back

    whole = answers()
    monkeypatch.setattr(gaussian, "_PART", 4)
    assert all(torch.equal(a, b) for a, b in zip(whole, answers(), strict=True))
    nothing = process.corrupt(x0, t, editable & False, generator(1)).ids
    assert torch.equal(nothing, x0)


# --- the size of the steps ---


def test_a_thousand_steps_are_those_of_d3pm():
    betas = LinearBeta().betas(1000, 256)
    assert torch.allclose(betas, torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64))
    # In units of the range a step has the mean square b / 8, the spacing of levels set aside.
    step = gaussian_step(0.02, 256)[128]
    gap = (torch.arange(256) - 128).double() / 255
    assert float(step @ gap**2) == pytest.approx(0.02 / 8, rel=1e-3)


@pytest.mark.parametrize("num_steps", [10, 50, 250])
def test_other_numbers_of_steps_add_up_to_the_same_noise(num_steps):
    betas = LinearBeta().betas(num_steps, 256)
    assert float(betas.sum()) == pytest.approx(10.05)
    assert float(betas[-1] / betas[0]) == pytest.approx(200)


@pytest.mark.parametrize(
    ("levels", "num_steps", "most"),
    [(256, 1000, 5e-6), (256, 50, 2e-5), (256, 10, 2e-3), (32, 100, 2e-5), (4, 12, 3e-3)],
)
def test_what_is_left_at_the_end_is_a_small_prior_term(levels, num_steps, most):
    process = GaussianProcess(LinearBeta().betas(num_steps, levels), levels)
    prior = process.prior_nats(torch.arange(levels))
    assert prior.min() > 0
    assert most / 4 < prior.max() < most
    assert (num_steps + 1) * levels**2 * 8 < 2**29, "half a GiB"


@pytest.mark.parametrize(("levels", "num_steps"), [(2, 1000), (4, 250), (8, 1000), (256, 1)])
def test_noise_that_does_not_reach_the_end_is_refused(levels, num_steps):
    with pytest.raises(UserError, match=f"do not hide which of {levels} levels a value has"):
        LinearBeta().betas(num_steps, levels)
    weak = GaussianProcess(gaussian_betas(1, 10, 10), 256).prior_nats(torch.arange(256))
    assert weak.min() > 0.5, "a single step keeps half of the values"
    assert len(LinearBeta(first=1, last=2).betas(num_steps, 2)) == num_steps


# --- the bound ---


def exact_bound(joint: JointOracle, betas: Tensor, grid: list[int]) -> float:
    """Return the bound of the best predictions, in nats, from matrices alone.

        H(x_0) + KL(q(x_1) || noise) + sum over steps of the total correlation of x_s given x_t,

    for the model draws the values of x_s independently, each from its exact law given x_t.

    Args:
        joint: The law of x_0.
        betas: Step sizes.
        grid: Numbers of the steps of a sampler, from 0 up to T.
    """
    size, length = joint.vocab_size, joint.length

    def everywhere(one: Tensor) -> Tensor:
        whole = torch.ones(1, 1, dtype=torch.float64)
        for _ in range(length):
            whole = torch.kron(whole, one)
        return whole

    def entropy(p: Tensor) -> Tensor:
        return -torch.xlogy(p, p).sum(-1)

    start = joint.probs.flatten()
    end = start @ everywhere(gaussian_chain(betas, size))
    value = float(entropy(start) + length * math.log(size) - entropy(end))
    for s, t in pairwise(grid):
        law = start @ everywhere(gaussian_chain(betas, size, 0, s))
        both = law[:, None] * everywhere(gaussian_chain(betas, size, s, t))  # [x_s, x_t]
        seen = both.sum(0)
        back = (both / seen).T.reshape(-1, *[size] * length)
        others = [tuple(j + 1 for j in range(length) if j != i) for i in range(length)]
        apart = sum(entropy(back.sum(axes) if axes else back) for axes in others)
        value += float(seen @ (apart - entropy(back.flatten(1))))
    return value


@pytest.mark.parametrize(("levels", "length"), [(4, 2), (3, 3)])
@pytest.mark.parametrize("strides", [1, 2, 3, 6])
def test_the_bound_of_the_best_prediction_is_its_information(levels, length, strides):
    """All T = 6 steps, and a sampler that takes strides over several of them."""
    joint, process = random_joint(levels, length), GaussianProcess(BETAS, levels)
    oracle, steps = LeaveOneOutOracle(joint, process), 6 // strides
    found = expected(joint, transition_bound(process, oracle, length, steps))
    assert found == pytest.approx(exact_bound(joint, BETAS, list(range(0, 7, strides))), abs=1e-9)


def test_with_more_steps_the_bound_approaches_the_entropy():
    """Steps whose chance to move is a constant over T: in the end the gap closes like 1 / T."""
    joint, gaps = random_joint(3, 2), []
    for num_steps in (32, 64, 128, 256):
        # exp(-4 / (4 b)) / Z is about the chance to move up by one.
        beta = -1 / math.log(6 / num_steps / (1 + 2 * 6 / num_steps))
        process = GaussianProcess(torch.full((num_steps,), beta, dtype=torch.float64), 3)
        assert float(process.prior_nats(torch.arange(3)).max()) < 2e-3
        bound = transition_bound(process, LeaveOneOutOracle(joint, process), 2, num_steps)
        gaps.append(expected(joint, bound) - joint.entropy())
    assert gaps == sorted(gaps, reverse=True)
    assert 0 < gaps[-1] < 0.002
    assert 1.6 < gaps[0] / gaps[1] < gaps[-2] / gaps[-1] < 2


def test_who_predicts_nothing_pays_log_k_for_every_value():
    formulation = made(16, 20)
    network = Anything(19, 16)
    network.table[:] = 0
    bounds = transition_bound(formulation.process, network, 1, 20)
    assert torch.allclose(bounds, torch.full_like(bounds, math.log(16)), atol=1e-9)


def test_only_levels_count_in_rows_and_in_logits():
    """Given ids are any ids, and a network may have more logits than there are levels."""
    formulation, levels = made(4, 12), 4
    x0 = torch.tensor([[6, 0, 3, 4], [5, 2, 1, 4]])  # a label, two values, padding
    editable = torch.tensor([[False, True, True, False]]).expand(2, 4)
    valid = torch.tensor([[True, True, True, False]]).expand(2, 4)
    t = torch.tensor([0.3, 0.8], dtype=torch.float64)

    def nats(vocab_size: int) -> Tensor:
        network = Anything(7, levels)
        network.table = network.table[:, :vocab_size]
        batch = {"x0": x0, "t": t, "editable": editable, "valid": valid}
        loss, objective = formulation.objective(network, **batch, generator=generator(3))
        assert torch.equal(loss.nats, objective)
        assert loss.tokens.tolist() == [2, 2]
        return loss.nats

    assert torch.equal(nats(7), nats(4))
    process = formulation.process
    assert torch.equal(process.data_ids, torch.arange(4))
    logits = process.posterior_logits(torch.zeros(3, 7), torch.tensor([0, 3, 1]), times(5, 12, 3))
    assert logits[:, 4:].isneginf().all()
    law = gaussian_chain(process.betas, 4, 0, 5).T[[0, 3, 1]]
    torch.testing.assert_close(logits.softmax(1)[:, :4].double(), law, atol=1e-6, rtol=1e-5)


# --- by name ---


def test_a_formulation_by_name_is_the_one_by_hand():
    formulation = made(8, 20, schedule=LINEAR_BETA | {"last": 0.03}, cross_entropy_weight=0.001)
    process = formulation.process
    assert torch.equal(process.betas, gaussian_betas(20, 50 * 1e-4, 50 * 0.03))
    assert (process.levels, process.num_steps, formulation.num_steps) == (8, 20, 20)
    assert formulation.cross_entropy_weight == pytest.approx(0.02)
    assert isinstance(formulation, TransitionFormulation)
    network = Anything(11, 8)
    x0 = torch.randint(8, (5, 3), generator=generator(4))
    t = torch.linspace(0.1, 1, 5, dtype=torch.float64)
    batch = {"x0": x0, "t": t, "editable": torch.ones_like(x0, dtype=torch.bool)}
    for bound, steps, grid in [
        (formulation.bound, 20, None),
        (formulation.in_steps(5), 5, None),
        (formulation.in_steps(2, given_grid([1, 0.3, 0])), 2, given_grid([1, 0.3, 0])),
    ]:
        found = bound(network, **batch, generator=generator(5)).nats
        again = {"num_steps": steps, "grid": grid, "generator": generator(5)}
        assert torch.equal(found, transition_nelbo(network, process, **batch, **again).nats)


def test_other_processes_are_the_same_for_ordered_values():
    ids = torch.arange(4)
    options = {"mask_token_id": 4, "vocab_size": 4, "data_ids": ids}
    for process in ("absorbing", "uniform"):
        kinds = [
            make_formulation(process, {"name": "cosine"}, **options, ordered=ordered)
            for ordered in (False, True)
        ]
        assert type(kinds[0]) is type(kinds[1])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ordered": False}, "a Gaussian needs ordered values, and tokens have no order"),
        ({"schedule": {"name": "linear"}}, "'linear' goes with the absorbing or uniform process"),
        ({"process": "absorbing"}, "'linear-beta' goes with the gaussian process"),
        ({"process": "gausian"}, "did you mean 'gaussian'"),
        ({"process": "gausian", "ordered": False}, "did you mean|one of|absorbing"),
        ({"num_steps": 0}, "set num_steps"),
        ({"schedule": LINEAR_BETA | {"first": 0}}, "first must be above 0"),
        ({"schedule": LINEAR_BETA | {"middle": 1}}, "unknown linear-beta schedule option"),
        ({"attention": "any-order"}, "any-order' goes with the absorbing process"),
        ({"block_length": 4}, "block_length goes with the absorbing process"),
    ],
)
def test_names_that_do_not_go_together_are_refused(options, words):
    names = {"process": "gaussian", "schedule": LINEAR_BETA, "num_steps": 12, "ordered": True}
    with pytest.raises(UserError, match=words):
        check_names(**names | options)
    check_names(**names)


def test_what_the_process_does_not_have_is_refused():
    formulation = made()
    with pytest.raises(UserError, match="continuous time is not supported for Gaussian-noise mod"):
        _ = formulation.continuous
    with pytest.raises(UserError, match=r"5 steps take no equal strides over the 12 .* 4 would"):
        formulation.in_steps(5)
    with pytest.raises(UserError, match="not among the 12 steps"):
        formulation.in_steps(4, time_grid(4, "cosine"))
    with pytest.raises(UserError, match="has 12 steps, not 6"):
        GaussianFormulation(formulation.process, 6)
    with pytest.raises(UserError, match="ids are the levels 0, 1, 2"):
        made(data_ids=torch.tensor([1, 0, 2, 3]))
    assert all(formulation.in_steps(n) for n, m in product((1, 2, 3, 4, 6, 12), [12]) if m % n == 0)
