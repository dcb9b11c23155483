"""Noise that turns tokens into tokens: its laws, its schedules, its bounds and the way back."""

import math
from itertools import pairwise, product

import pytest
import torch
from torch import Tensor

from checks import SCHEDULES, assert_law, assert_mean, draw_rows, generator, golden, random_joint
from enumeration import Prescribed, expected, sequences, transition_bound, uniform_bound
from unmask.diffusion.objectives.transition import transition_nelbo, uniform_nelbo
from unmask.diffusion.processes.base import posterior
from unmask.diffusion.processes.gaussian import GaussianProcess
from unmask.diffusion.processes.uniform import UniformProcess
from unmask.diffusion.schedules.continuous import Polynomial, Schedule
from unmask.diffusion.schedules.grids import given_grid, stratified_times, time_grid
from unmask.diffusion.schedules.tabulated import (
    Tabulated,
    d3pm_cosine,
    gaussian_betas,
    mutual_information,
)
from unmask.errors import UserError
from unmask.evaluation.oracles.joint import LeaveOneOutOracle
from unmask.sampling.token_sampling import Draw

H, MARGINALS = 1.220607, 1.283876
# With gaps and out of order: where an id stands is not the id.
IDS = torch.tensor([7, 2, 5, 3])
BETAS = gaussian_betas(12, 0.05, 0.6)
PROCESSES = {
    "linear": UniformProcess(Polynomial(), IDS),
    "geometric": UniformProcess(SCHEDULES["geometric"], IDS),
    "log-linear": UniformProcess(SCHEDULES["log-linear"], IDS),
    "d3pm cosine": UniformProcess(d3pm_cosine(12), IDS),
    "gaussian": GaussianProcess(BETAS, 4),
}
every_process = pytest.mark.parametrize("name", PROCESSES)


def uniform(symbols: int, schedule: Schedule | None = None) -> UniformProcess:
    return UniformProcess(schedule or Polynomial(), torch.arange(symbols))


def times(value: float, count: int) -> Tensor:
    return torch.full((count,), value, dtype=torch.float64)


def matrix(process, t: float, s: float = 0.0) -> Tensor:
    """Return q(x_t | x_s) by brute force of one call per column, shape (K, K), rows x_s."""
    ids = process.data_ids
    count = len(ids)
    return process.log_likelihood(ids, times(t, count), times(s, count)).exp().T


class Opinion:
    """A denoiser of any random opinion about each token, given the one on its left and its own."""

    def __init__(self, vocab_size: int, ids: Tensor, sharpness: float = 2.0, seed: int = 5) -> None:
        self.vocab_size, self.data_ids = vocab_size, ids
        shape = (vocab_size, vocab_size, vocab_size)
        self.table = sharpness * torch.randn(shape, generator=generator(seed), dtype=torch.float64)
        outside = torch.ones(vocab_size, dtype=torch.bool)
        outside[ids] = False
        self.table[..., outside] = -math.inf

    def __call__(self, xt, t, *, at=None, valid=None):
        logits = self.table[xt, xt.roll(1, 1)]
        return logits if at is None else logits[at]


class FullPosterior:
    """The leave-one-out prediction with the token itself counted in: right for "mixture" only."""

    def __init__(self, oracle: LeaveOneOutOracle) -> None:
        self.oracle, self.data_ids = oracle, oracle.data_ids
        self.vocab_size = oracle.vocab_size

    def __call__(self, xt, t, *, at=None, valid=None):
        row = at.nonzero()[:, 0]
        return self.oracle.process.posterior_logits(self.oracle(xt, t, at=at), xt[at], t[row])


class Indifferent(Opinion):
    def __init__(self, vocab_size: int, ids: Tensor) -> None:
        super().__init__(vocab_size, ids, sharpness=0.0)


# --- schedules on a grid ---


def test_the_mutual_information_schedule_of_masks_is_linear():
    steps = torch.arange(1, 1001)
    schedule = Tabulated.from_betas(1.0 / (1000 - steps + 1).double())
    values = [schedule.alpha(times(j / 1000, 1)).item() for j in (1, 500, 999, 1000)]
    assert values == pytest.approx([0.999, 0.5, 0.001, 0], abs=1e-6)
    assert torch.allclose(schedule.alpha(steps / 1000.0), 1 - steps / 1000.0, atol=1e-6)


def test_the_cosine_of_d3pm_is_not_squared():
    schedule = d3pm_cosine(1000)
    assert schedule.alpha(times(0.5, 1)).item() == pytest.approx(0.70274, abs=5e-6)
    # The last step would be certain; it is cut to 0.999.
    assert 0 < schedule.visible[-1] < 1e-5
    assert schedule.visible[-1] / schedule.visible[-2] == pytest.approx(0.001)


@pytest.mark.parametrize("frequency", [[5, 0, 3, 1, 1, 90], [1, 1, 1], [0.7, 0.3]])
def test_uniform_noise_forgets_at_an_even_pace(frequency):
    unigram = torch.tensor(frequency, dtype=torch.float64)
    schedule = mutual_information(unigram, 20)
    p, size = unigram / unigram.sum(), len(unigram)
    assert schedule.visible[[0, -1]].tolist() == [1, 0]
    for j, alpha in enumerate(schedule.visible.tolist()):
        joint = p[:, None] * (alpha * torch.eye(size).double() + (1 - alpha) / size)
        independent = p[:, None] * joint.sum(0)
        ratio = torch.xlogy(joint, joint) - torch.xlogy(joint, independent)
        entropy = -torch.xlogy(p, p).sum()
        assert float(ratio.sum() / entropy) == pytest.approx(1 - j / 20, abs=1e-12)


TABLES = {
    "cosine": d3pm_cosine(50),
    "information": mutual_information(torch.tensor([9, 4, 1, 1]), 30),
    "betas": Tabulated.from_betas(torch.tensor([0.1, 0.5, 1.0])),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_a_schedule(name):
    schedule = TABLES[name]
    assert isinstance(schedule, Schedule)
    t = torch.rand(500, dtype=torch.float64, generator=generator(0)) * 0.99 + 0.005
    assert torch.allclose(schedule.alpha(t) + schedule.mask_prob(t), torch.ones(1).double())
    assert torch.allclose(schedule.inverse(schedule.alpha(t)), t, atol=1e-9)
    assert (schedule.alpha(t.sort().values).diff() <= 0).all()
    # Within one interval the derivative is the slope.
    inside = (t * schedule.num_steps).floor() == ((t + 1e-6) * schedule.num_steps).floor()
    slope = (schedule.alpha(t + 1e-6) - schedule.alpha(t)) / 1e-6
    assert torch.allclose(slope[inside], schedule.dalpha(t)[inside], rtol=1e-6, atol=1e-8)
    assert schedule.alpha(torch.zeros(1)).tolist() == [1]
    assert schedule.mask_prob(torch.zeros(1)).tolist() == [0]
    assert schedule.inverse(torch.ones(1)).tolist() == [0]
    for value in (schedule.alpha, schedule.mask_prob, schedule.dalpha, schedule.inverse):
        assert value(torch.rand(2, 3)).dtype == torch.float32


def test_tables_that_are_no_schedule_are_refused():
    with pytest.raises(UserError, match="between 0 and 1"):
        Tabulated.from_betas(torch.tensor([0.5, 1.5]))
    with pytest.raises(UserError, match="between 0 and 1"):
        Tabulated.from_betas(torch.tensor([]))
    with pytest.raises(UserError, match="two different tokens"):
        mutual_information(torch.tensor([0, 9, 0]), 10)


# --- the laws of the processes ---


@every_process
def test_rows_of_every_step_are_distributions(name):
    process = PROCESSES[name]
    grid = [j / 12 for j in range(13)]
    for s, t in product(grid, grid):
        if s < t:
            q = matrix(process, t, s)
            assert (q >= 0).all()
            assert torch.allclose(q.sum(1), torch.ones(4).double(), atol=1e-12)
            assert torch.allclose(q.sum(0), torch.ones(4).double(), atol=1e-12)


@every_process
def test_steps_multiply_to_the_whole(name):
    """Any two steps, and all of the grid, against the closed form from 0."""
    process = PROCESSES[name]
    chain = torch.eye(4, dtype=torch.float64)
    for j in range(12):
        chain = chain @ matrix(process, (j + 1) / 12, j / 12)
        whole = process.log_forward(process.data_ids, times((j + 1) / 12, 4)).exp()
        assert torch.allclose(chain, whole, atol=1e-12)
        assert torch.allclose(matrix(process, (j + 1) / 12), whole, atol=1e-12)
    two = matrix(process, 0.5, 0.25) @ matrix(process, 0.75, 0.5)
    assert torch.allclose(two, matrix(process, 0.75, 0.25), atol=1e-12)
    assert torch.equal(matrix(process, 0.5, 0.5), torch.eye(4).double())


def test_uniform_noise_is_the_product_of_its_matrices():
    betas = torch.tensor([0.1, 0.3, 0.05, 0.6], dtype=torch.float64)
    process, product_ = uniform(5, Tabulated.from_betas(betas)), torch.eye(5).double()
    for j, b in enumerate(betas):
        product_ = product_ @ ((1 - b) * torch.eye(5).double() + b / 5)
        assert torch.allclose(matrix(process, (j + 1) / 4), product_, atol=1e-12)


def test_a_gaussian_step_is_its_formula():
    process, b = GaussianProcess(BETAS, 4), float(BETAS[5])
    q = matrix(process, 6 / 12, 5 / 12)
    weight = {n: math.exp(-4 * n**2 / (9 * b)) for n in range(-3, 4)}
    for i, j in product(range(4), range(4)):
        if i != j:
            assert q[i, j].item() == pytest.approx(weight[i - j] / sum(weight.values()), rel=1e-12)
    assert torch.allclose(q, q.T, atol=1e-15)
    assert q[0, 1] > q[0, 2] > q[0, 3]


@every_process
def test_the_posterior_is_bayes_rule(name):
    process = PROCESSES[name]
    ids = process.data_ids
    xt, x0 = ids.repeat_interleave(4), ids.repeat(4)
    for t, s in [(1.0, 0.0), (1.0, 0.5), (0.5, 0.25), (0.25, 0.0), (1 / 12, 0.0), (1.0, 11 / 12)]:
        q = posterior(process, xt, x0, times(t, 16), times(s, 16))
        like, forward = matrix(process, t, s), matrix(process, s) if s else torch.eye(4).double()
        by_hand = like.T[process.places(xt)] * forward[process.places(x0)]
        assert torch.allclose(q, by_hand / by_hand.sum(1, keepdim=True), atol=1e-12)
        assert torch.allclose(q.sum(1), torch.ones(16).double(), atol=1e-12)
        if s == 0:
            assert torch.equal(q, forward[process.places(x0)])


@every_process
def test_posteriors_compose_to_the_forward_process(name):
    """From noise down the grid with x_0 known, the law at every time is q(x_t | x_0)."""
    process = PROCESSES[name]
    ids, x0 = process.data_ids, process.data_ids[2].expand(4)
    law = process.log_forward(x0[:1], times(1.0, 1)).exp()[0]
    for t, s in pairwise(j / 12 for j in range(12, -1, -1)):
        law = law @ posterior(process, ids, x0, times(t, 4), times(s, 4))
        assert torch.allclose(law, process.log_forward(x0[:1], times(s, 1)).exp()[0], atol=1e-12)
    assert law[2] == pytest.approx(1, abs=1e-12)


@every_process
def test_corrupt_has_the_law_it_should(name):
    process = PROCESSES[name]
    ids = process.data_ids
    # These are nearly clean until late.
    time = 10 / 12 if name in ("geometric", "gaussian") else 0.5
    x0 = ids.repeat(20_000)[:, None].repeat(1, 3)
    editable = torch.ones_like(x0, dtype=torch.bool)
    editable[:, 1] = False
    x0[:, 1] = 99  # given, and not even data
    noised = process.corrupt(x0, times(time, len(x0)), editable, generator(1))
    assert (noised.ids[:, 1] == 99).all()
    assert torch.equal(noised.masked, editable)
    law = matrix(process, time)
    for k, token in enumerate(ids):
        got = process.places(noised.ids[x0[:, 0] == token][:, [0, 2]])
        assert_law((got[:, 0] * 4 + got[:, 1]).bincount(minlength=16), torch.outer(law[k], law[k]))


def test_each_row_has_its_own_time():
    for process in (uniform(9), GaussianProcess(gaussian_betas(50, 1e-3, 5.0), 9)):
        x0, t = torch.full((2, 900), 4), torch.tensor([0.0, 1.0])
        ids = process.corrupt(x0, t, torch.ones_like(x0).bool(), generator(2)).ids
        assert (ids[0] == 4).all()
        assert 50 < (ids[1] == 4).sum() < 150


@every_process
def test_noise_is_uniform_over_the_data_ids(name):
    process = PROCESSES[name]
    u = (torch.arange(400, dtype=torch.float64) + 0.5).view(20, 20) / 400
    ids = process.noise_ids(u)
    assert [int((ids == token).sum()) for token in process.data_ids] == [100] * 4
    edge = torch.tensor([2**-53, 1 - 2**-53], dtype=torch.float64)
    assert torch.equal(process.noise_ids(edge), process.data_ids[[0, -1]])


@every_process
def test_steps_back_have_the_law_of_the_posterior(name):
    """Without chance: an even grid of u falls on every token as often as its probability says."""
    process, count = PROCESSES[name], 4000
    u = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    for t, s in [(1.0, 0.0), (1.0, 0.5), (0.75, 0.5), (0.5, 0.0), (1 / 12, 0.0)]:
        for xt, x0 in product(process.data_ids, process.data_ids):
            now, goal = xt.expand(count), x0.expand(count)
            xs = process.step_back(now, goal, times(t, 1)[0], times(s, 1)[0], u)
            law = posterior(process, xt[None], x0[None], times(t, 1), times(s, 1))[0]
            share = process.places(xs).bincount(minlength=4) / count
            assert torch.allclose(share, law.float(), atol=4 / count)
            if s == 0:
                assert torch.equal(xs, goal)


@every_process
def test_the_last_step_ends_in_x0_for_every_number(name):
    process = PROCESSES[name]
    u = torch.tensor([2**-53, 0.3, 1 - 2**-53], dtype=torch.float64)
    zero = torch.zeros((), dtype=torch.float64)
    for t in torch.linspace(0.01, 1, 200, dtype=torch.float64):
        for xt, x0 in product(process.data_ids, process.data_ids[:2]):
            now, goal = xt.expand(3), x0.expand(3)
            if name != "gaussian" or round(float(t) * 12) > 0:
                assert torch.equal(process.step_back(now, goal, t, zero, u), goal)


@every_process
def test_two_draws_are_one_joint_step(name):
    """x_0 from the posterior of any prediction, then x_s given x_0, is the step of the bound."""
    process = PROCESSES[name]
    ids, count, vocab_size = process.data_ids, len(process.data_ids), 9
    logits = torch.full((count, vocab_size), -math.inf, dtype=torch.float64)
    logits[:, ids] = 2 * torch.randn(count, count, generator=generator(3), dtype=torch.float64)
    for t, s in [(1.0, 0.5), (0.75, 0.5), (0.5, 0.0), (1 / 12, 0.0)]:
        now, before = times(t, count), times(s, count)
        clean = process.posterior_logits(logits, ids, now).softmax(1)
        assert clean[:, [v for v in range(vocab_size) if v not in ids]].sum() == 0
        two = sum(
            clean[:, v][:, None] * posterior(process, ids, v.expand(count), now, before)
            for v in ids
        )
        spread = process.log_spread(logits[:, ids].log_softmax(1), before)
        joint = (process.log_likelihood(ids, now, before) + spread).softmax(1)
        assert torch.allclose(two, joint, atol=1e-12)
        # That spread is a matrix product.
        forward = matrix(process, s) if s else torch.eye(count).double()
        assert torch.allclose(spread.exp(), logits[:, ids].softmax(1) @ forward, atol=1e-12)


def test_a_prediction_of_nothing_leaves_the_token_itself():
    """The mixture that costs log K: alpha at x_t, and the rest over all."""
    process = uniform(4)
    prediction = process.posterior_logits(
        torch.zeros(1, 4).double(), torch.tensor([2]), times(0.3, 1)
    )
    assert prediction.softmax(1)[0].tolist() == pytest.approx([0.075, 0.075, 0.775, 0.075])


@every_process
def test_the_prior_is_a_divergence_from_noise(name):
    process = PROCESSES[name]
    last = matrix(process, 1.0)
    by_hand = (last * (last * 4).log()).sum(1)
    assert torch.allclose(process.prior_nats(process.data_ids), by_hand, atol=1e-12)
    if name == "linear":
        assert (process.prior_nats(process.data_ids) == 0).all()


def test_a_chain_that_forgets_all_before_its_end_stays_a_chain():
    """D3PM's betas for uniform noise on pixels: alpha falls below the smallest float64."""
    process = uniform(4, Tabulated.from_betas(gaussian_betas(1000, 0.02, 1.0)))
    t = torch.arange(1, 1001, dtype=torch.float64) / 1000
    ids = torch.zeros(1000, dtype=torch.int64)
    step = process.log_likelihood(ids, t, t - 0.001).exp()
    assert torch.allclose(step.sum(1), torch.ones(1000).double(), atol=1e-12)
    back = posterior(process, ids, ids + 1, t, (t - 0.001).clamp_min(0))
    assert torch.allclose(back.sum(1), torch.ones(1000).double(), atol=1e-12)
    xs = process.step_back(ids, ids + 1, t[-1], t[-2], torch.rand(1000).double())
    assert len(xs.unique()) == 4


def test_many_levels_stay_finite():
    """Far values underflow; an unlikely prediction must cost nats, not infinity."""
    process = GaussianProcess(gaussian_betas(20, 1e-5, 1e-3), 256)
    x0 = torch.tensor([[0, 255, 128]])
    logits = torch.zeros(3, 256)
    logits[0, 255] = logits[1, 0] = 1000.0
    logits.requires_grad_()
    everywhere = torch.ones_like(x0, dtype=torch.bool)

    def certain(xt, t, *, at, valid):
        return logits

    for t in (0.05, 0.5, 1.0):
        loss = transition_nelbo(certain, process, x0, times(t, 1), 20, everywhere, generator(4))
        (gradient,) = torch.autograd.grad(loss.nats.sum(), logits)
        assert loss.nats.isfinite().all()
        assert gradient.isfinite().all()
    xs = process.step_back(x0, 255 - x0, times(0.05, 1)[0], times(0.0, 1)[0], times(0.5, 3)[None])
    assert torch.equal(xs, 255 - x0)


def test_processes_that_cannot_be_are_refused():
    with pytest.raises(UserError, match="two different data ids"):
        UniformProcess(Polynomial(), torch.tensor([3]))
    with pytest.raises(UserError, match="two different data ids"):
        UniformProcess(Polynomial(), torch.tensor([3, 4, 3]))
    with pytest.raises(UserError, match="fewer steps or levels"):
        GaussianProcess(gaussian_betas(1000), 4096)
    with pytest.raises(UserError, match="above 0"):
        GaussianProcess(torch.zeros(3), 4)
    with pytest.raises(UserError, match="2 levels"):
        GaussianProcess(BETAS, 1)
    with pytest.raises(UserError, match="same number"):
        LeaveOneOutOracle(golden(), uniform(3))


def test_an_id_that_is_no_data_is_an_error_and_not_another_id():
    with pytest.raises((IndexError, RuntimeError)):
        PROCESSES["linear"].log_forward(torch.tensor([4]), times(0.5, 1))


# --- bounds ---

OWN_GRID = (1, 9 / 12, 8 / 12, 2 / 12, 0)


@every_process
@pytest.mark.parametrize("grid", [time_grid(1), time_grid(3), time_grid(12), given_grid(OWN_GRID)])
def test_the_bound_is_the_divergence_of_explicit_matrices(name, grid):
    process = PROCESSES[name]
    ids = process.data_ids
    denoiser = Opinion(9, ids)
    x0 = ids[torch.randint(4, (6, 3), generator=generator(5))]
    editable = torch.rand(6, 3, generator=generator(6)) < 0.7
    steps = len(grid) - 1
    own = {} if torch.equal(grid, time_grid(steps)) else {"grid": grid}
    for j in range(1, steps + 1):
        before, now = grid.flip(0)[j - 1 : j + 1].tolist()
        # Any time of the interval counts as its end.
        t = times((j - 0.4) / steps, 6)
        loss = transition_nelbo(denoiser, process, x0, t, steps, editable, generator(7), **own)
        xt = process.corrupt(x0, times(now, 6), editable, generator(7)).ids
        prediction = denoiser(xt, t)[..., ids].softmax(2)
        like = matrix(process, now, before)
        forward = matrix(process, before) if j > 1 else torch.eye(4).double()
        for row in range(6):
            nats = surprise = prior = 0.0
            for i in editable[row].nonzero()[:, 0].tolist():
                a, b = int(process.places(x0[row, i])), int(process.places(xt[row, i]))
                q = like[:, b] * forward[a]
                p = like[:, b] * (prediction[row, i] @ forward)
                q, p = q / q.sum(), p / p.sum()
                nats += float((torch.xlogy(q, q) - torch.xlogy(q, p)).sum())
                surprise -= math.log(prediction[row, i, a])
                prior += float(process.prior_nats(x0[row, i]))
            assert loss.diffusion[row].item() == pytest.approx(steps * nats, abs=1e-9)
            assert loss.cross_entropy[row].item() == pytest.approx(surprise, abs=1e-9)
            assert loss.prior[row].item() == pytest.approx(prior, abs=1e-9)
    assert torch.equal(loss.tokens, editable.sum(1))


@every_process
@pytest.mark.parametrize("steps", [1, 2, 12])
def test_who_predicts_nothing_pays_log_k_for_every_token(name, steps):
    process = PROCESSES[name]
    bounds = transition_bound(process, Indifferent(9, process.data_ids), 2, steps)
    assert torch.allclose(bounds, torch.full_like(bounds, 2 * math.log(4)), atol=1e-9)


@pytest.mark.parametrize("name", ["linear", "quadratic", "cosine", "geometric", "log-linear"])
def test_in_continuous_time_as_well(name):
    process = UniformProcess(SCHEDULES[name], IDS)
    bounds = uniform_bound(process, Indifferent(9, IDS), 1, nodes=400)
    assert torch.allclose(bounds, torch.full_like(bounds, math.log(4)), atol=1e-6)


def golden_bound(steps: int) -> float:
    process = uniform(2)
    return expected(
        golden(), transition_bound(process, LeaveOneOutOracle(golden(), process), 2, steps)
    )


def test_golden_bound_of_few_steps():
    assert golden_bound(1) == pytest.approx(MARGINALS, abs=1e-6)
    assert golden_bound(4) == pytest.approx(1.242243, abs=1e-6)
    assert golden_bound(100) == pytest.approx(1.22149, abs=5e-6)


def test_more_steps_never_loosen_the_bound():
    values = [golden_bound(2**k) for k in range(9)]
    assert values == sorted(values, reverse=True)
    gaps = [value - golden().entropy() for value in values]
    assert gaps[-1] > 0
    # The gap closes like 1 / T.
    assert gaps[-2] / gaps[-1] == pytest.approx(2, rel=0.02)


@pytest.mark.parametrize("name", ["linear", "quadratic", "cosine"])
def test_the_continuous_bound_of_every_sequence_is_its_likelihood(name):
    joint = random_joint(3, 2)
    process = uniform(3, SCHEDULES[name])
    bounds = uniform_bound(process, LeaveOneOutOracle(joint, process), 2)
    assert torch.allclose(bounds, -joint.log_prob(joint.sequences()), atol=1e-6)


def test_ids_need_not_be_places():
    joint, process = golden(), UniformProcess(Polynomial(), torch.tensor([6, 1]))
    oracle = LeaveOneOutOracle(joint, process)
    assert oracle.vocab_size == 7
    assert expected(joint, transition_bound(process, oracle, 2, 4)) == pytest.approx(
        1.242243, abs=1e-6
    )


def test_gaussian_noise_bounds_the_likelihood():
    joint, process = random_joint(4, 2), PROCESSES["gaussian"]
    oracle = LeaveOneOutOracle(joint, process)
    values = [
        expected(joint, transition_bound(process, oracle, 2, steps)) for steps in (1, 3, 6, 12)
    ]
    assert values == sorted(values, reverse=True)
    assert joint.entropy() < values[-1] < values[0] - 0.02


def test_continuous_time_is_the_limit_of_steps():
    """Of any prediction, at the same noised tokens: T KL of a short step is the integrand."""
    ids = IDS
    denoiser, steps = Opinion(9, ids), 100_000
    for name in ("linear", "quadratic", "cosine", "geometric"):
        process = UniformProcess(SCHEDULES[name], ids)
        x0 = ids[torch.randint(4, (40, 3), generator=generator(8))]
        everywhere = torch.ones_like(x0, dtype=torch.bool)
        t = torch.linspace(0.05, 1, 40, dtype=torch.float64).mul(steps).round() / steps
        limit = uniform_nelbo(denoiser, process, x0, t, everywhere, generator(9))
        before = t - 0.5 / steps
        close = transition_nelbo(denoiser, process, x0, before, steps, everywhere, generator(9))
        assert torch.allclose(limit.diffusion, close.diffusion, rtol=1e-3, atol=1e-3)
        assert torch.allclose(limit.cross_entropy, close.cross_entropy)
        assert limit.diffusion.min() >= 0


def test_the_integrand_is_the_published_formula():
    process, denoiser = uniform(5), Opinion(5, torch.arange(5))
    x0 = torch.randint(5, (8, 3), generator=generator(10))
    t = torch.linspace(0.1, 0.9, 8, dtype=torch.float64)
    everywhere = torch.ones_like(x0, dtype=torch.bool)
    loss = uniform_nelbo(denoiser, process, x0, t, everywhere, generator(11))
    xt = process.corrupt(x0, t, everywhere, generator(11)).ids
    prediction, count = denoiser(xt, t).softmax(2), 5
    for row in range(8):
        alpha, total = 1 - t[row], 0.0
        for i in range(3):
            z = xt[row, i]
            true = count * alpha * torch.eye(5, dtype=torch.float64)[x0[row, i]] + 1 - alpha
            model = count * alpha * prediction[row, i] + 1 - alpha
            inner = model[z].log() - model.log() + true.log() - true[z].log()
            rest = count / true[z] - count / model[z] - (true / true[z] * inner).sum()
            total += float(-rest / (count * alpha))
        assert loss.diffusion[row].item() == pytest.approx(total, rel=1e-9)


def test_all_noise_costs_nothing_in_continuous_time():
    process, x0 = uniform(5), torch.randint(5, (4, 3), generator=generator(12))
    everywhere = torch.ones_like(x0, dtype=torch.bool)
    denoiser = Opinion(5, torch.arange(5))
    for t in (1.0, 1 - 1e-12):
        loss = uniform_nelbo(denoiser, process, x0, times(t, 4), everywhere, generator(13))
        assert loss.nats.abs().max() < 1e-9


@pytest.mark.parametrize("steps", [2, 16])
def test_the_full_posterior_is_the_wrong_prediction(steps):
    """D3PM's two parametrisations have different best predictions and give the same step."""
    joint = random_joint(3, 2)
    process = uniform(3)
    oracle = LeaveOneOutOracle(joint, process)
    right = expected(joint, transition_bound(process, oracle, 2, steps))
    wrong = expected(joint, transition_bound(process, FullPosterior(oracle), 2, steps))
    assert joint.entropy() < right < wrong - 0.1
    xt = sequences(process, 2)
    now, before = times(1 / steps * (steps - 1), 9), times(1 / steps, 9)
    everywhere = torch.ones_like(xt, dtype=torch.bool)
    full = FullPosterior(oracle)(xt, now, at=everywhere).softmax(1)
    here, t, s = xt.flatten(), now.repeat_interleave(2), before.repeat_interleave(2)
    mixture = sum(
        full[:, v, None] * posterior(process, here, torch.full_like(here, v), t, s)
        for v in range(3)
    )
    spread = process.log_spread(oracle(xt, now, at=everywhere), s)
    joint_step = (process.log_likelihood(here, t, s) + spread).softmax(1)
    assert torch.allclose(mixture, joint_step, atol=1e-12)


def test_monte_carlo_agrees_with_the_sum():
    joint, process = golden(), uniform(2)
    oracle = LeaveOneOutOracle(joint, process)
    # The variance grows with the logarithm of the smallest time, as with masks.
    x0, t = draw_rows(joint, 100_000, 14), stratified_times(100_000, generator(15))
    everywhere = torch.ones_like(x0, dtype=torch.bool)
    loss = transition_nelbo(oracle, process, x0, t, 4, everywhere, generator(16))
    assert_mean(loss.nats, golden_bound(4))
    assert_mean(uniform_nelbo(oracle, process, x0, t, everywhere, generator(17)).nats, H)


def test_given_tokens_and_padding_change_nothing():
    process, ids = UniformProcess(Polynomial(), IDS), IDS
    denoiser = Indifferent(9, ids)
    denoiser.table[..., ids] = torch.randn(4, generator=generator(18), dtype=torch.float64)
    x0 = ids[torch.randint(4, (5, 4), generator=generator(19))]
    wide = torch.cat([x0, torch.full((5, 3), 8)], 1)
    t = times(0.5, 5)
    editable = torch.arange(7).expand(5, 7) < 4
    for nelbo in (uniform_nelbo, lambda *a: transition_nelbo(*a[:4], 2, *a[4:])):
        narrow, padded = [], []
        for xt in ids[torch.randint(4, (3, 5, 4), generator=generator(20))]:
            fixed = Prescribed(process, xt)
            narrow.append(nelbo(denoiser, fixed, x0, t, editable[:, :4], generator(0)))
            fixed = Prescribed(process, torch.cat([xt, wide[:, 4:]], 1))
            padded.append(nelbo(denoiser, fixed, wide, t, editable, generator(0), editable))
        for a, b in zip(narrow, padded, strict=True):
            torch.testing.assert_close(a.nats, b.nats)
            assert torch.equal(a.tokens, b.tokens)
        none = nelbo(denoiser, process, wide, t, editable & False, generator(0))
        assert (none.nats == 0).all()


def test_float32_logits_are_exact_enough():
    ids = torch.arange(1000)
    process, x0 = uniform(1000), torch.randint(1000, (16, 8), generator=generator(21))
    everywhere = torch.ones_like(x0, dtype=torch.bool)
    logits = 3 * torch.randn(128, 1000, generator=generator(22))
    t = torch.linspace(1e-3, 1, 16)

    def answers(dtype):
        def denoiser(xt, t, *, at, valid):
            return logits.to(dtype)

        denoiser.data_ids = ids
        return (
            uniform_nelbo(denoiser, process, x0, t, everywhere, generator(23)).nats,
            transition_nelbo(denoiser, process, x0, t, 1000, everywhere, generator(23)).nats,
        )

    for coarse, fine in zip(answers(torch.float32), answers(torch.float64), strict=True):
        assert coarse.dtype == torch.float32
        assert fine.dtype == torch.float64
        assert torch.allclose(coarse.double(), fine, rtol=1e-3, atol=1e-2)


# --- the exact prediction, and a sampler that uses it ---


@pytest.mark.parametrize("name", ["uniform", "gaussian"])
def test_the_exact_prediction_is_a_sum_over_the_other_tokens(name):
    joint = random_joint(3, 3)
    process = uniform(3) if name == "uniform" else GaussianProcess(BETAS, 3)
    oracle, t = LeaveOneOutOracle(joint, process), 0.5
    law, xt = matrix(process, t), sequences(process, 3)
    prediction = oracle(xt, times(t, 27))
    for row in range(0, 27, 4):
        for i, v in product(range(3), range(3)):
            total = sum(
                p * math.prod(float(law[x[j], xt[row, j]]) for j in range(3) if j != i)
                for x, p in zip(xt.tolist(), joint.probs.flatten().tolist(), strict=True)
                if x[i] == v
            )
            context = sum(
                p * math.prod(float(law[x[j], xt[row, j]]) for j in range(3) if j != i)
                for x, p in zip(xt.tolist(), joint.probs.flatten().tolist(), strict=True)
            )
            assert prediction[row, i, v].exp().item() == pytest.approx(total / context, abs=1e-12)
    at = torch.rand(27, 3, generator=generator(24)) < 0.5
    assert torch.equal(oracle(xt, times(t, 27), at=at), prediction[at])


def test_padding_says_nothing_to_the_exact_prediction():
    process = uniform(2)
    oracle, xt = LeaveOneOutOracle(golden(), process), torch.tensor([[0, 0], [0, 1]])
    valid = torch.tensor([[True, False]]).expand(2, 2)
    prediction = oracle(xt, times(0.2, 2), valid=valid)[:, 0].exp()
    assert prediction.flatten().tolist() == pytest.approx([0.7, 0.3, 0.7, 0.3])


def sample(oracle: LeaveOneOutOracle, steps: int, count: int, seed: int) -> Tensor:
    """Draw sequences from noise: a token from the posterior, then a step back; their numbers."""
    process, gen, length = oracle.process, generator(seed), oracle.joint.length
    states, size = sequences(process, length), len(process.data_ids)
    digits = size ** torch.arange(length - 1, -1, -1)

    def rng() -> Tensor:
        return torch.rand(count, length, dtype=torch.float64, generator=gen)

    x = process.noise_ids(rng())
    for t, s in pairwise(time_grid(steps)):
        prediction = oracle(states, t.expand(len(states)))[(process.places(x) * digits).sum(1)]
        logits = process.posterior_logits(
            prediction.flatten(0, 1), x.flatten(), t.expand(x.numel())
        )
        x0 = Draw()(logits, rng().flatten()).tokens.view(count, length)
        x = process.step_back(x, x0, t, s, rng())
    return (process.places(x) * digits).sum(1)


def law_of_sampler(oracle: LeaveOneOutOracle, steps: int) -> Tensor:
    """Return the probability of every sequence after so many joint steps, shape (K^L,)."""
    process, length = oracle.process, oracle.joint.length
    states = sequences(process, length)
    count, place = len(states), process.places(states)
    law = torch.full((count,), 1 / count, dtype=torch.float64)
    everywhere = torch.ones_like(states, dtype=torch.bool)
    for t, s in pairwise(time_grid(steps)):
        now, before = (x.expand(count * length) for x in (t, s))
        prediction = oracle(states, t.expand(count), at=everywhere)[:, process.data_ids]
        like = process.log_likelihood(states.flatten(), now, before)
        step = (like + process.log_spread(prediction, before)).softmax(1).view(count, length, -1)
        law = law @ torch.stack([step[:, i, place[:, i]] for i in range(length)]).prod(0)
    return law


@pytest.mark.parametrize(("name", "steps"), [("uniform", 1), ("uniform", 4), ("gaussian", 4)])
def test_the_law_of_a_sampler_is_that_of_its_joint_steps(name, steps):
    joint = random_joint(3, 3)
    ids = torch.tensor([4, 1, 2])
    process = UniformProcess(Polynomial(), ids)
    if name == "gaussian":
        process = GaussianProcess(BETAS, 3)
    oracle = LeaveOneOutOracle(joint, process)
    counts = sample(oracle, steps, 20_000, 25).bincount(minlength=27)
    assert_law(counts, law_of_sampler(oracle, steps))


def test_more_steps_come_nearer_to_the_truth():
    joint, process = random_joint(3, 3), uniform(3)
    oracle, truth = LeaveOneOutOracle(joint, process), joint.probs.flatten()
    gap = {}
    for steps in (1, 16, 64):
        law = law_of_sampler(oracle, steps)
        gap[steps] = float((truth * (truth / law).log()).sum())

    assert gap[1] > 10 * gap[16] > 10 * gap[64]
    one = expected(joint, transition_bound(process, oracle, 3, 4))
    model = float(-(truth * law_of_sampler(oracle, 4).log()).sum())
    assert joint.entropy() < model < one
