"""The laws of ancestral and Gibbs sampling, against every path summed up."""

from itertools import pairwise, product

import pytest
import torch
from torch import Tensor

from checks import assert_law, golden, random_joint
from laws import counts_of, divergence, gaussian_chain
from unmask.diffusion.formulation import (
    GaussianFormulation,
    PerTokenFormulation,
    UniformFormulation,
)
from unmask.diffusion.processes.absorbing import AbsorbingProcess
from unmask.diffusion.processes.absorbing_per_token import PerTokenProcess
from unmask.diffusion.processes.base import posterior
from unmask.diffusion.processes.gaussian import GaussianProcess
from unmask.diffusion.processes.uniform import UniformProcess
from unmask.diffusion.rng import RowRng
from unmask.diffusion.schedules.continuous import Cosine, Polynomial
from unmask.diffusion.schedules.grids import given_grid, time_grid
from unmask.diffusion.schedules.per_token import LearnedExponents
from unmask.diffusion.schedules.tabulated import gaussian_betas
from unmask.errors import UserError
from unmask.evaluation.oracles.joint import JointOracle, LeaveOneOutOracle, TokenwiseOracle
from unmask.sampling import reverse
from unmask.sampling.canvas import Canvas
from unmask.sampling.policies.fixed_order import RandomOrder
from unmask.sampling.policies.gibbs import Gibbs
from unmask.sampling.sampler import sample
from unmask.sampling.samplers.registry import make_sampler
from unmask.sampling.token_sampling import Draw

ROWS = 20_000
STEPS = 3


def written(formulation, denoiser, sampler, oracle: JointOracle, grid: Tensor) -> Tensor:
    """Return the last ids (ROWS, L) of a sampler on blank canvases."""
    mask = oracle.mask_token_id
    rng = RowRng(torch.arange(ROWS))
    canvas = Canvas.from_rows([[None] * oracle.length] * ROWS, mask, mask)
    posterior = reverse.posterior_denoiser(formulation, denoiser)
    options = (sampler.policy, sampler.drawing, grid, rng)
    for frame in reverse.sample(formulation, posterior, canvas, *options):
        canvas = frame.canvas
    return canvas.ids


@pytest.mark.parametrize("exponents", [(0.5, 2.0), (1.0, 1.0), (3.0, 0.7)])
def test_ancestral_with_a_schedule_for_each_token_has_the_law_of_its_steps(exponents):
    """p(z_s = v | mask) = mu_v rho_v and independent positions, over all canvases of two tokens."""
    joint = golden()
    schedule = LearnedExponents(2, eps=0.0).double()
    schedule.param.data = torch.tensor(exponents, dtype=torch.float64).expm1().log()
    process = PerTokenProcess(schedule, 2)
    oracle, grid = TokenwiseOracle(joint, process), time_grid(STEPS)
    states = torch.tensor(list(product(range(3), repeat=2)))
    law = (states == 2).all(1).double()
    for t, s in pairwise(grid):
        mu = oracle(states, t.expand(9)).exp() * (states[..., None] == 2)
        reveal = process.reveal_prob(t, s)
        step = torch.cat([mu * reveal, (mu * (1 - reveal)).sum(-1, keepdim=True)], -1)
        keep = torch.nn.functional.one_hot(states, 3) * (states[..., None] != 2)
        step = step + keep  # (9, 2, 3)
        kernel = torch.einsum("xa,xb->xab", step[:, 0], step[:, 1]).reshape(9, 9)
        law = law @ kernel.detach()
    assert law[(states == 2).any(1)].sum() < 1e-12
    ids = written(PerTokenFormulation(process), oracle, make_sampler("ancestral"), joint, grid)
    assert_law(counts_of(ids, 3), law)


@pytest.mark.parametrize("schedule", [Polynomial(), Cosine()])
def test_ancestral_with_uniform_noise_has_the_law_of_its_steps(schedule):
    """The joint kernel q(x_t | x_s) sum g(x_0) q(x_s | x_0), independent positions, all paths."""
    joint = random_joint(3, 2, seed=4)
    process = UniformProcess(schedule, joint.data_ids)
    oracle, grid = LeaveOneOutOracle(joint, process), time_grid(STEPS)
    states = joint.sequences()
    count = len(states)
    law = torch.full((count,), 1 / count, dtype=torch.float64)
    for t, s in pairwise(grid):
        prediction = oracle(states, t.expand(count)).log_softmax(-1)
        steps = []
        for i in range(2):
            times = (t.expand(count), s.expand(count))
            like = process.log_likelihood(states[:, i], *times)
            steps.append(torch.softmax(like + process.log_spread(prediction[:, i], times[1]), 1))
        law = law @ torch.einsum("xa,xb->xab", *steps).reshape(count, count)
    ids = written(UniformFormulation(process), oracle, make_sampler("ancestral"), joint, grid)
    assert_law(counts_of(ids, 3), law)


BETAS = gaussian_betas(6, 0.1, 0.8)


def gaussian_law(joint: JointOracle, grid: list[int]) -> Tensor:
    """Return the law of a sampler at the times j / T of a grid, from explicit matrix products.

    From x_t each value gets its exact law given x_t, independently:
    p(x_s^i | x_t) = sum over x_0 of p(x_0 | x_t) q(x_s^i | x_t^i, x_0^i).
    """
    size, states = joint.vocab_size, joint.sequences()
    law = torch.full((size**2,), size**-2.0, dtype=torch.float64)
    for t, s in pairwise(grid):
        past, step = gaussian_chain(BETAS, size, 0, s), gaussian_chain(BETAS, size, s, t)
        whole = past @ step  # [x_0, x_t]
        # Of both values, [x_0^1, x_0^2, x_t^1, x_t^2], normalised over x_0.
        clean = joint.probs[..., None, None] * torch.einsum("ac,bd->abcd", whole, whole)
        clean = clean / clean.sum((0, 1))
        back = past[:, :, None] * step[None] / whole[:, None]  # [x_0, x_s, x_t]
        first = torch.einsum("abcd,aec->cde", clean, back)
        second = torch.einsum("abcd,bfd->cdf", clean, back)
        kernel = torch.einsum("cde,cdf->cdef", first, second).reshape(len(states), len(states))
        law = law @ kernel
    return law


@pytest.mark.parametrize("stride", [1, 2, 3, 6])
def test_ancestral_with_gaussian_noise_has_the_law_of_its_steps(stride):
    """All T = 6 steps, and strides over several; false alarms 1e-6 each."""
    joint = random_joint(4, 2, seed=4)
    process = GaussianProcess(BETAS, 4)
    oracle, grid = LeaveOneOutOracle(joint, process), time_grid(6 // stride)
    law = gaussian_law(joint, list(range(6, -1, -stride)))
    formulation = GaussianFormulation(process, 6)
    ids = written(formulation, oracle, make_sampler("ancestral"), joint, grid)
    assert_law(counts_of(ids, 4), law)


def test_shorter_strides_with_gaussian_noise_come_nearer_to_the_data():
    joint = random_joint(4, 2, seed=4)
    grids = [list(range(6, -1, -stride)) for stride in (1, 2, 3, 6)]
    gaps = [divergence(joint.probs, gaussian_law(joint, grid)) for grid in grids]
    assert gaps == sorted(gaps)
    assert 0 < 3 * gaps[0] < gaps[-1]


def test_uneven_strides_with_gaussian_noise_have_the_law_of_their_steps():
    joint, process = random_joint(4, 2, seed=4), GaussianProcess(BETAS, 4)
    oracle, grid = LeaveOneOutOracle(joint, process), given_grid([1, 5 / 6, 2 / 6, 0])
    formulation = GaussianFormulation(process, 6)
    ids = written(formulation, oracle, make_sampler("ancestral"), joint, grid)
    assert_law(counts_of(ids, 4), gaussian_law(joint, [6, 5, 2, 0]))


def test_given_ids_need_not_be_levels():
    """A label in front and a given value: neither changes, and the rest is a value."""
    process = GaussianProcess(BETAS, 4)
    formulation = GaussianFormulation(process, 6)

    class Flat:
        vocab_size, data_ids = 9, torch.arange(4)

        def __call__(self, xt, t, *, at=None, valid=None):
            return torch.zeros(int(at.sum()), 9)

    canvas = Canvas.from_rows([[8, None, 2, None], [None, 7, None, 6]] * 200, 5, 5)
    denoiser = reverse.posterior_denoiser(formulation, Flat())
    draw, rng = make_sampler("ancestral").drawing, RowRng(torch.arange(400))
    *_, last = reverse.sample(formulation, denoiser, canvas, RandomOrder(), draw, time_grid(3), rng)
    ids = last.canvas.ids
    assert (ids[::2, [0, 2]] == torch.tensor([8, 2])).all()
    assert (ids[1::2, [1, 3]] == torch.tensor([7, 6])).all()
    assert ids[::2, [1, 3]].unique().tolist() == [0, 1, 2, 3]


def test_gaussian_noise_has_one_order_and_its_own_times():
    formulation = GaussianFormulation(GaussianProcess(BETAS, 4), 6)
    canvas, draw = Canvas.from_rows([[None, None]], 4, 4), make_sampler("ancestral").drawing
    rest = (RandomOrder(), draw, time_grid(3, "cosine"), RowRng(torch.arange(1)))
    with pytest.raises(UserError, match=r"not among the 6 steps .* take the grid 'uniform'"):
        reverse.sample(formulation, random_joint(4, 2), canvas, *rest)
    with pytest.raises(UserError, match=r"not among the 6 steps"):
        reverse.sample(formulation, random_joint(4, 2), canvas, *rest[:2], time_grid(4), rest[3])
    with pytest.raises(UserError, match="Gaussian-noise models have no masks; use sampler 'anc"):
        reverse.reverse(formulation, make_sampler("threshold").policy)


def test_a_prediction_that_ignores_its_own_token_is_conditioned_on_it():
    """What a sampler draws from is the full posterior p(x_0^i | x_t), own token included."""
    joint = random_joint(3, 2, seed=5)
    process = UniformProcess(Polynomial(), joint.data_ids)
    informed = reverse.posterior_denoiser(
        UniformFormulation(process), LeaveOneOutOracle(joint, process)
    )
    xt, t = joint.sequences(), torch.full((9,), 0.4, dtype=torch.float64)
    found = informed(xt, t).softmax(-1)
    like = torch.stack([process.log_forward(joint.data_ids, t[:3]).exp()] * 2)  # q(x_t | x_0)
    for row in range(9):
        weights = joint.probs * like[0][:, xt[row, 0]][:, None] * like[1][:, xt[row, 1]]
        assert torch.allclose(found[row, 0], weights.sum(1) / weights.sum(), atol=1e-12)
        assert torch.allclose(found[row, 1], weights.sum(0) / weights.sum(), atol=1e-12)
    delta = posterior(process, xt[:, 0], xt[:, 1], t, torch.zeros(9).double())
    assert torch.equal(delta.argmax(1), xt[:, 1])


@pytest.mark.parametrize("sequential", [False, True])
def test_gibbs_converges_where_the_conditionals_belong_to_a_joint(sequential):
    joint = golden()
    process = AbsorbingProcess(Polynomial(), 2)
    name = "gibbs-sequential" if sequential else "gibbs"
    sampler = make_sampler(name, steps=30, burn_in=30)
    rng, canvas = RowRng(torch.arange(ROWS)), Canvas.from_rows([[None] * 2] * ROWS, 2, 2)
    grid = sampler.times(2)
    calls = 0
    for frame in sample(joint, process, canvas, sampler.policy, sampler.drawing, grid, rng):
        canvas, calls = frame.canvas, frame.nfe
        if frame.step > 28:
            assert int(canvas.masked.sum(1).max()) <= 1
    assert calls == 30
    assert_law(counts_of(canvas.ids, 2), joint.probs)


def test_gibbs_visits_in_its_order_and_leaves_the_prompt_alone():
    joint = random_joint(3, 5)
    process = AbsorbingProcess(Polynomial(), 3)
    canvas = Canvas.from_rows([[1, None, None, 2, None]] * 50, 3, 3)
    for policy in (Gibbs(sequential=True), Gibbs()):
        visits = torch.zeros(5)
        grid, rng = time_grid(30), RowRng(torch.arange(50))
        order = []
        for frame in sample(joint, process, canvas, policy, Draw(), grid, rng):
            assert torch.equal(frame.canvas.ids[:, [0, 3]], canvas.ids[:, [0, 3]])
            if 0 < frame.step < 30:
                assert (frame.revealed.sum(1) == 1).all()
                visits += frame.revealed.sum(0)
                order.append(frame.revealed[0].nonzero().item())
        assert visits[[0, 3]].sum() == 0
        if policy.sequential:
            assert order == ([1, 2, 4] * 10)[:29]
        else:
            share = visits[[1, 2, 4]] / visits.sum()
            assert torch.allclose(share, torch.full((3,), 1 / 3), atol=0.06)


def test_burn_in_is_where_the_filters_do_not_hold():
    sampler = make_sampler("gibbs", steps=10, top_k=1, burn_in=4)
    logits = torch.log(torch.tensor([[0.1, 0.5, 0.4]])).expand(200, 3)
    u = torch.linspace(0.01, 0.99, 200, dtype=torch.float64)
    for step in range(10):
        drawn = sampler.drawing.at(step)(logits, u).tokens.unique().tolist()
        assert drawn == ([0, 1, 2] if step < 4 else [1]), step
    assert make_sampler("gibbs", steps=10).burnt_in == 5


def test_one_schedule_for_all_tokens_is_the_same_sampler():
    """With equal exponents the way back by token has the law of random order (P15)."""
    joint = golden()
    schedule = LearnedExponents(2, power_init=1.0, eps=0.0).double()
    by_token = PerTokenFormulation(PerTokenProcess(schedule, 2))
    grid = time_grid(STEPS)
    ids = written(by_token, joint, make_sampler("ancestral"), joint, grid)
    plain = AbsorbingProcess(Polynomial(), 2)
    canvas = Canvas.from_rows([[None] * 2] * ROWS, 2, 2)
    rng = RowRng(torch.arange(ROWS) + 7 * ROWS)
    for frame in sample(joint, plain, canvas, RandomOrder(), Draw(), grid, rng):
        canvas = frame.canvas
    one, other = counts_of(ids, 2).double(), counts_of(canvas.ids, 2).double()
    # Two samples of one law: the statistic of their difference has 3 degrees of freedom.
    assert ((one - other).square() / (one + other)).sum() < 30.7
