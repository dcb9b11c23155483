"""A schedule per vocabulary entry: the bound is the likelihood, and the tempting shortcuts are not.

Nearly everything is exact: the library's own objectives are given every mask in turn, weighted by
its probability, at the nodes of a quadrature over t.
"""

import math
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, product

import pytest
import torch
from benchmarks.diffusionbert_released import ReleasedSpindle, released_diffusionbert
from torch import Tensor

from checks import assert_law, assert_mean, draw_rows, generator, golden, random_joint
from enumeration import (
    Dealt,
    anywhere,
    chances,
    everything,
    nodes,
    tokenwise_bound,
    tokenwise_last_step_bound,
    tokenwise_steps_bound,
)
from unmask.diffusion.formulation import LearnedFormulation, PerTokenFormulation
from unmask.diffusion.objectives.masked import continuous_nelbo, discrete_nelbo
from unmask.diffusion.objectives.per_token import (
    integrand,
    rloo_nelbo,
    step_kl,
    tokenwise_discrete_nelbo,
    tokenwise_last_step_nelbo,
    tokenwise_nelbo,
)
from unmask.diffusion.processes.absorbing import AbsorbingProcess
from unmask.diffusion.processes.absorbing_per_token import PerTokenProcess
from unmask.diffusion.processes.base import Corrupted
from unmask.diffusion.schedules.continuous import Polynomial
from unmask.diffusion.schedules.grids import given_grid, stratified_times, time_grid
from unmask.diffusion.schedules.per_token import (
    LearnedExponents,
    Spindle,
    TokenSchedule,
    log_frequency,
    spindle,
)
from unmask.errors import UserError
from unmask.evaluation.oracles.joint import JointOracle, TokenwiseOracle

H = 1.220607


def exponents(*values: float, eps: float = 0.0) -> LearnedExponents:
    """Learned exponents with given values, in float64."""
    schedule = LearnedExponents(len(values), eps=eps).double()
    schedule.param.data = torch.tensor(values, dtype=torch.float64).expm1().log()
    return schedule


def unigrams(joint: JointOracle) -> Tensor:
    """How often each token occurs in ten thousand sequences, shape (V,)."""
    seen = (joint.sequences()[..., None] == joint.data_ids).sum(1).double()
    return 10_000 * joint.probs.flatten() @ seen


def corpus_spindle(joint: JointOracle, strength: float = 0.3) -> Spindle:
    return spindle(unigrams(joint), joint.vocab_size, joint.data_ids, strength)


def echo() -> JointOracle:
    """Four kinds of very unequal frequency; often the second token repeats the first."""
    single = torch.tensor([0.6, 0.25, 0.1, 0.05], dtype=torch.float64)
    return JointOracle(0.6168 * single[:, None] * single + 0.3832 * single.diag())


SCHEDULES = {
    "spindle": lambda: corpus_spindle(golden()),
    "no spindle": lambda: corpus_spindle(golden(), 0.0),
    "exponents": lambda: exponents(0.5, 2.0),
    "clamped exponents": lambda: exponents(0.7, 1.5, eps=0.01),
}


# Schedules.


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_start_clean_end_masked_and_know_their_rate(name):
    schedule = SCHEDULES[name]()
    assert isinstance(schedule, TokenSchedule)
    end = 0.99 if "clamped" in name else 1.0
    t = torch.tensor([0, 1e-100, 1.0], dtype=torch.float64)
    hidden = schedule.mask_prob(t)
    assert (hidden[0] == 0).all()
    assert (hidden[1] > 0).all()
    assert (hidden[2] == end).all()
    t = torch.linspace(1e-6, 1, 201, dtype=torch.float64, requires_grad=True)
    hidden = schedule.mask_prob(t)
    assert (hidden.diff(dim=0) > 0).all()
    for v in range(schedule.vocab_size):
        (slope,) = torch.autograd.grad(hidden[:, v].sum(), t, retain_graph=True)
        assert torch.allclose(schedule.rate(t)[:, v], slope / hidden[:, v], rtol=1e-12)


def test_the_rate_of_learned_exponents_is_w_over_t():
    t = torch.rand(7, generator=generator(0))
    rate = LearnedExponents(3, power_init=2.5).rate(t)
    assert torch.allclose(rate, (2.5 / t)[:, None].expand(7, 3))


@pytest.mark.parametrize("start", [0.01, 1.0, 60.0])
def test_learned_exponents_start_where_told(start):
    schedule = LearnedExponents(4, power_init=start)
    assert torch.allclose(schedule.exponents, torch.full((4,), start), rtol=1e-5)
    assert schedule.eps == 1e-4
    # Also from t = 0, where the logarithm is infinite.
    schedule.mask_prob(torch.tensor([0.0, 0.5])).sum().backward()
    assert torch.isfinite(schedule.param.grad).all()
    assert start > 9 or (schedule.param.grad < 0).all()


def test_a_spindle_of_the_greatest_strength_never_turns_back():
    counts = torch.tensor([10**9, 10**7, 50, 0])
    t = torch.linspace(0, 1, 2001, dtype=torch.float64)
    schedule = spindle(counts, 4, torch.arange(4), 1 / math.pi)
    assert (schedule.mask_prob(t).diff(dim=0) > 0).all()
    object.__setattr__(schedule, "strength", 0.5)
    assert (schedule.mask_prob(t).diff(dim=0) < 0).any()


def test_frequent_words_are_masked_later():
    counts = torch.tensor([3, 40, 0, 1000, 7])
    data = torch.tensor([0, 1, 3, 4])
    f = log_frequency(counts, data)
    assert (f[counts.argsort()].diff() > 0).all()
    assert f[3] == 1
    assert f[2] == 0
    schedule = spindle(counts, 5, data)
    assert (counts * schedule.information).sum().item() == pytest.approx(0, abs=1e-9)
    half = torch.tensor([0.5])
    assert (schedule.mask_prob(half)[0][counts.argsort()].diff() < 0).all()
    process = PerTokenProcess(schedule, 9)
    x0 = torch.tensor([[0, 1, 3, 4]]).expand(20_000, -1)
    masked = process.corrupt(x0, half.expand(20_000), anywhere(x0), generator(1)).masked
    for column, v in enumerate(data):
        assert_mean(masked[:, column], schedule.mask_prob(half)[0, v].item())


def test_ids_that_are_no_data_do_not_count():
    counts = torch.tensor([5, 2, 10_000])
    padded = spindle(counts, 3, torch.arange(2))
    assert torch.equal(padded.information[:2], spindle(counts[:2], 2, torch.arange(2)).information)


@pytest.mark.parametrize(
    ("counts", "strength", "message"),
    [
        ([1, 2, 3], 0.4, "from 0 to 0.318"),
        ([1, 2, 3], -0.1, "from 0 to 0.318"),
        ([1, 2, 3], math.nan, "from 0 to 0.318"),
        ([1, 2], 0.3, "do not fit the tokenizer"),
        ([1, 2, -3], 0.3, "not negative"),
        ([1, 2, math.inf], 0.3, "finite"),
        ([0, 0, 0], 0.3, "all zero"),
        ([0, 0, 9], 0.3, "all zero"),
    ],
)
def test_what_makes_no_spindle_is_refused(counts, strength, message):
    with pytest.raises(UserError, match=message):
        spindle(torch.tensor(counts), 3, torch.arange(2), strength)


def test_what_makes_no_schedule_process_or_bound_is_refused():
    with pytest.raises(UserError, match="between -1 and 1"):
        Spindle(torch.tensor([1.5, 0.0]))
    for start in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(UserError, match="power_init must be above 0"):
            LearnedExponents(2, power_init=start)
    with pytest.raises(UserError, match="eps must be from 0 to below 1"):
        LearnedExponents(2, eps=1.0)
    with pytest.raises(UserError, match="as many weights"):
        PerTokenProcess(exponents(1, 1), 2, torch.ones(3))
    with pytest.raises(UserError, match="all zero"):
        PerTokenProcess(exponents(1, 1), 2, torch.zeros(2))
    for first_time in (0.0, 1.0):
        with pytest.raises(UserError, match="first_time"):
            tokenwise_bound(golden(), exponents(1, 1), first_time=first_time)


# The process.


@pytest.mark.parametrize("name", SCHEDULES)
def test_posteriors_are_distributions_and_compose_to_the_forward_process(name):
    process = PerTokenProcess(SCHEDULES[name](), 2)
    xt = torch.tensor([[0, 2, 2, 1]])
    x0 = torch.tensor([[0, 1, 0, 1]])
    for t, s in [(1.0, 0.0), (1.0, 0.5), (0.5, 0.25), (0.5, 0.0), (1e-6, 0.0)]:
        t, s = (torch.tensor([x], dtype=torch.float64) for x in (t, s))
        q = process.posterior(xt, x0, t, s, 3).detach()
        assert (q >= 0).all()
        assert torch.allclose(q.sum(-1), torch.ones(1, 4).double(), atol=1e-12)
        assert q[0, 0, 0] == q[0, 3, 1] == 1
        assert q[0, 1, 0] == q[0, 2, 1] == 0
        assert s > 0 or [q[0, 1, 1].item(), q[0, 2, 0].item()] == pytest.approx([1, 1])
    for v in range(2):
        truth = torch.tensor([[v]])
        law = torch.eye(3).double()[2]
        for t, s in pairwise(time_grid(7)):
            row = [process.posterior(torch.tensor([[x]]), truth, t, s, 3) for x in range(3)]
            law = law @ torch.cat(row)[:, 0].detach()
            hidden = process.schedule.mask_prob(s[None])[0, v].item()
            share = 0.99 if "clamped" in name else 1.0
            # What is still visible at t = 1 is not on this way.
            assert law[2].item() == pytest.approx(hidden / share, abs=1e-12)
        assert law[v].item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("name", SCHEDULES)
def test_masks_fall_as_often_as_the_process_says(name):
    process = PerTokenProcess(SCHEDULES[name](), 2)
    x0, editable = torch.tensor([[0, 1, 0, 1]]), torch.tensor([[True, True, False, True]])
    t = torch.tensor([0.4])
    masks = torch.tensor(list(product([False, True], repeat=3)))
    masks = torch.stack([masks[:, 0], masks[:, 1], torch.zeros(8).bool(), masks[:, 2]], 1)
    law = process.log_mask_pattern(
        x0.expand(8, -1), masks, t.expand(8), editable.expand(8, -1)
    ).exp()
    assert law.sum().item() == pytest.approx(1, abs=1e-12)
    many = 20_000
    noised = process.corrupt(
        x0.expand(many, -1), t.expand(many), editable.expand(many, -1), generator(2)
    )
    assert torch.equal(noised.ids, torch.where(noised.masked, 2, x0))
    pattern = (noised.masked[:, [0, 1, 3]] * torch.tensor([4, 2, 1])).sum(1)
    assert_law(pattern.bincount(minlength=8), law.detach())


def test_the_chance_of_a_pattern_has_a_gradient_at_every_time():
    schedule = exponents(0.5, 2.0)
    x0 = torch.tensor([[0, 1, 0]]).expand(2, -1)
    masked = torch.tensor([[True, True, False], [True, False, False]])
    editable = torch.tensor([[True, True, False]]).expand(2, -1)
    t = torch.tensor([1.0, 1e-8], dtype=torch.float64)
    PerTokenProcess(schedule, 2).log_mask_pattern(x0, masked, t, editable).sum().backward()
    assert torch.isfinite(schedule.param.grad).all()


@pytest.mark.parametrize("weights", [None, torch.tensor([3, 1])])
@pytest.mark.parametrize("name", SCHEDULES)
def test_time_of_a_canvas_has_its_masked_share(name, weights):
    process = PerTokenProcess(SCHEDULES[name](), 2, weights)
    editable = torch.arange(8).expand(5, -1) < 6
    masked = torch.arange(8) < torch.tensor([[0], [1], [3], [5], [6]])
    times = process.time_of(masked, editable)
    mean = torch.full((2,), 0.5) if weights is None else weights / 4
    share = process.schedule.mask_prob(times) @ mean.double()
    expected = torch.tensor([0, 1, 3, 5, 6]) / 6
    assert share.tolist()[:4] == pytest.approx(expected.tolist()[:4], abs=1e-7)
    assert times[0] == 0
    assert times[4] == 1


# The exact denoiser.


def test_the_exact_prediction_is_bayes_rule():
    joint = random_joint(3, 3)
    process = PerTokenProcess(exponents(0.4, 1.0, 3.0), 3)
    x = torch.randint(4, (40, 3), generator=generator(3))
    t = 1 - torch.rand(40, dtype=torch.float64, generator=generator(4))
    logits = TokenwiseOracle(joint, process)(x, t).detach()
    for row, time, prediction in zip(x, t, logits, strict=True):
        hidden = process.schedule.mask_prob(time[None])[0].detach()
        weight = {}
        for y, p in zip(joint.sequences(), joint.probs.flatten(), strict=True):
            likelihood = [
                hidden[b] if a == 3 else (1 - hidden[b]) * (a == b)
                for a, b in zip(row, y, strict=True)
            ]
            weight[tuple(y.tolist())] = p * math.prod(likelihood)
        total = sum(weight.values())
        for i, v in product(range(3), range(3)):
            expected = sum(w for y, w in weight.items() if y[i] == v) / total
            assert prediction[i, v].exp().item() == pytest.approx(expected.item(), abs=1e-12)


def test_with_equal_schedules_the_exact_prediction_is_that_of_the_joint():
    joint = random_joint()
    x = torch.randint(4, (50, 4), generator=generator(5))
    valid = torch.rand(50, 4, generator=generator(6)) < 0.8
    t = torch.full((50,), 0.3)
    oracle = TokenwiseOracle(joint, PerTokenProcess(exponents(2, 2, 2), 3))
    at = valid & (x == 3)
    assert torch.allclose(
        oracle(x, t, at=at, valid=valid), joint(x, t, at=at, valid=valid), atol=1e-12
    )


# The bound.


@pytest.mark.parametrize("name", ["spindle", "no spindle", "exponents"])
def test_the_bound_of_every_sequence_is_its_likelihood(name):
    joint, schedule = golden(), SCHEDULES[name]()
    value = tokenwise_bound(joint, schedule)
    assert torch.allclose(value, -joint.log_prob(joint.sequences()), atol=1e-6)
    assert (joint.probs.flatten() @ value).item() == pytest.approx(H, abs=1e-6)


@pytest.mark.parametrize("schedule", [exponents(0.6, 1.0, 2.5), corpus_spindle(random_joint(3, 3))])
def test_the_bound_of_an_unstructured_joint_is_its_likelihood(schedule):
    joint = random_joint(3, 3)
    value = tokenwise_bound(joint, schedule)
    assert torch.allclose(value, -joint.log_prob(joint.sequences()), atol=1e-6)


def test_a_prediction_that_ignores_the_time_costs_a_lot():
    value = tokenwise_bound(golden(), exponents(0.5, 2.0), golden())
    assert (golden().probs.flatten() @ value).item() == pytest.approx(2.23696, abs=1e-5)


def test_without_the_difference_of_rates_there_is_no_bound():
    """The cross-entropy alone is wrong for single sequences, and can be brought below the entropy.

    Its mean over data and masks is still H at the exact prediction, where rates agree on average.
    """
    joint, schedule = golden(), exponents(0.5, 2.0)
    u, width = nodes()
    x0, masked, t = everything(joint, u)
    process = PerTokenProcess(schedule, 2)
    prediction = TokenwiseOracle(joint, process)(x0.masked_fill(masked, 2), t)
    rate = schedule.rate(t)

    def shortcut(prediction: Tensor) -> Tensor:
        nats = -rate.gather(1, x0) * prediction.gather(2, x0[..., None])[..., 0]
        cost = chances(process, x0, masked, t) * torch.where(masked, nats, 0).sum(1)
        return (width @ cost.view(len(u), 4, 4).sum(2)).detach()

    probs = joint.probs.flatten()
    honest = shortcut(prediction)
    assert (honest + joint.log_prob(joint.sequences())).abs().max() > 0.1
    assert (probs @ honest).item() == pytest.approx(H, abs=1e-6)
    cheat = (prediction + rate[:, None].log()).log_softmax(-1)
    assert (probs @ shortcut(cheat)).item() < H - 0.1
    # With the term, the same prediction costs more than the exact one.
    noised = Corrupted(x0.masked_fill(masked, 2), masked)
    weight = chances(process, x0, masked, t) * width.repeat_interleave(16)
    weight = weight * probs.repeat_interleave(4).repeat(len(u))
    assert weight @ integrand(Fixed(joint, cheat), process, x0, noised, t) > H + 0.1


def test_bound_of_few_and_many_steps():
    joint, schedule = golden(), corpus_spindle(golden())
    probs = joint.probs.flatten()
    # All masked, all written: the product of the marginals.
    assert (probs @ tokenwise_steps_bound(joint, schedule, 1)).item() == pytest.approx(
        1.283876, abs=1e-6
    )
    gaps = [(probs @ tokenwise_steps_bound(joint, schedule, 2**k)).item() - H for k in range(9)]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-2] / gaps[-1] == pytest.approx(2, rel=0.01)
    # The specification's Monte-Carlo estimate at 256 steps.
    assert gaps[-1] + H == pytest.approx(1.2232, abs=0.0039)
    assert 0 < gaps[-1] < 0.0003


def test_bound_of_a_grid():
    """Its steps one by one, each over all masks."""
    joint, schedule = random_joint(3, 3), corpus_spindle(random_joint(3, 3))
    grid = given_grid([1, 0.8, 0.15, 0])
    process, total = PerTokenProcess(schedule, 3), torch.zeros(27).double()
    for now, before in pairwise(grid):
        x0, masked, t = everything(joint, now[None])
        noised = Corrupted(x0.masked_fill(masked, 3), masked)
        oracle = TokenwiseOracle(joint, process)
        step = step_kl(oracle, process, x0, noised, t, before.expand(len(t)))
        total += (chances(process, x0, masked, t) * step.kl).view(27, -1).sum(1)
    value = tokenwise_steps_bound(joint, schedule, 3, grid=grid)
    assert torch.allclose(value, total, atol=1e-9)
    assert (value - tokenwise_steps_bound(joint, schedule, 3)).abs().max() > 1e-3


@pytest.mark.parametrize("formulation", [PerTokenFormulation, LearnedFormulation])
def test_what_a_model_is_judged_by_loses_nothing_at_the_ends(formulation):
    """A decoder that sees nothing costs what the tokens are worth apart, a prior costs log V."""
    if formulation is PerTokenFormulation:
        joint, schedule = echo(), corpus_spindle(echo())
    else:
        joint, schedule = golden(), SCHEDULES["clamped exponents"]()
    bound = formulation(PerTokenProcess(schedule, joint.mask_token_id)).bound
    value = tokenwise_last_step_bound(joint, bound.keywords["process"], bound.func, 1e-4)
    slack = value + joint.log_prob(joint.sequences())
    assert slack.abs().max() < 1e-7
    assert -1e-9 < joint.probs.flatten() @ slack < 1e-8
    blind = joint.probs.flatten() @ tokenwise_bound(joint, schedule, first_time=1e-3)
    assert blind > joint.entropy() + 1e-3


def test_monte_carlo_of_what_a_model_is_judged_by():
    joint = golden()
    process = PerTokenProcess(corpus_spindle(joint), 2)
    x0, rng = draw_rows(joint, 100_000, 41), generator(42)
    t = stratified_times(len(x0), rng)
    bound = PerTokenFormulation(process).bound
    oracle = TokenwiseOracle(joint, process)
    loss = bound(oracle, x0=x0, t=t, editable=anywhere(x0), generator=rng)
    assert_mean(loss.nats, H)
    # The last step alone, drawn as often as it is long.
    loss = tokenwise_last_step_nelbo(oracle, process, x0, t, anywhere(x0), rng, first_time=0.5)
    expected = joint.probs.flatten() @ tokenwise_last_step_bound(
        joint, process, partial(tokenwise_last_step_nelbo, first_time=0.5), 0.5
    )
    assert_mean(loss.nats, expected.item())
    assert expected > H + 1e-3


def test_clamped_schedules_pay_for_what_is_visible_at_the_end():
    uniform = JointOracle(torch.full((2, 2), 0.25))
    for w in (0.7, 1.0, 3.0):
        for value in (
            tokenwise_bound(uniform, exponents(w, w, eps=0.01)),
            tokenwise_steps_bound(uniform, exponents(w, w, eps=0.01), 5),
        ):
            assert torch.allclose(value.detach(), torch.full((4,), 2 * math.log(2)).double())
    skewed = tokenwise_bound(golden(), SCHEDULES["clamped exponents"]())
    assert H < (golden().probs.flatten() @ skewed).item() < H + 0.02


def test_a_uniform_prediction_has_the_bound_of_its_formula():
    w, eps, first = torch.tensor([0.5, 1.0, 2.0]).double(), 0.05, 0.1
    uniform = JointOracle(torch.full((3, 3), 1 / 9))
    u, width = nodes()
    x0, masked, t = everything(uniform, u)
    process = Dealt(exponents(*w, eps=eps), 3, masked=masked)
    loss = tokenwise_nelbo(uniform, process, x0, t, anywhere(x0), generator(0), first_time=first)
    chance = chances(process, x0, masked, first + (1 - first) * t)
    value = (width[:, None] * (chance * loss.diffusion).view(len(u), 9, 4).sum(2)).sum(0)
    hidden = (1 - eps) * first**w
    single = (1 - eps - hidden) * (w.mean() / w - 1 + math.log(3))
    assert torch.allclose(value, single[uniform.sequences()].sum(1), rtol=1e-9)
    decoder = hidden * (hidden.sum().log() - hidden.log())
    assert torch.allclose(loss.reconstruction, decoder[x0].sum(1), rtol=1e-12)
    assert torch.allclose(loss.prior, torch.tensor(2 * eps * math.log(3)).double(), rtol=1e-12)
    assert (loss.tokens == 2).all()


@pytest.mark.parametrize("w", [0.5, 1.0, 2.5])
def test_equal_exponents_are_the_polynomial_schedule(w):
    """Row by row, for the same masks."""
    joint = random_joint()
    schedule = exponents(w, w, w)
    x0 = torch.randint(3, (200, 4), generator=generator(7))
    editable = torch.rand(200, 4, generator=generator(8)) < 0.7
    t = 1 - torch.rand(200, dtype=torch.float64, generator=generator(9))
    loss = tokenwise_nelbo(
        joint, PerTokenProcess(schedule, 3), x0, t, editable, generator(10), first_time=1e-9
    )
    plain = AbsorbingProcess(Polynomial(w), 3)
    other = continuous_nelbo(joint, plain, x0, 1e-9 + t, editable, generator(10))
    assert torch.allclose(loss.diffusion, other.nats, rtol=1e-8)
    assert torch.equal(loss.tokens, other.tokens)


def test_a_spindle_of_no_strength_is_the_linear_schedule():
    joint = random_joint()
    schedule = corpus_spindle(joint, 0.0)
    process, plain = PerTokenProcess(schedule, 3), AbsorbingProcess(Polynomial(), 3)
    released = ReleasedSpindle(log_frequency(unigrams(joint), joint.data_ids), 3, 64, 0.0)
    x0 = torch.randint(3, (200, 4), generator=generator(11))
    editable = torch.rand(200, 4, generator=generator(12)) < 0.7
    t = 1 - torch.rand(200, dtype=torch.float64, generator=generator(13))
    assert torch.equal(schedule.mask_prob(t), t[:, None].expand(200, 3))
    linear = discrete_nelbo(joint, plain, x0, t, 64, editable, generator(14)).nats
    loss = tokenwise_discrete_nelbo(joint, process, x0, t, 64, editable, generator(14))
    assert torch.allclose(loss.nats, linear, rtol=1e-10)
    value = released_diffusionbert(joint, released, x0, t, editable, generator(14))
    assert torch.allclose(value, linear, rtol=1e-10)
    loss = tokenwise_nelbo(joint, process, x0, t, editable, generator(15), first_time=1e-9)
    linear = continuous_nelbo(joint, plain, x0, 1e-9 + t, editable, generator(15)).nats
    assert torch.allclose(loss.diffusion, linear, rtol=1e-8)
    masked = torch.rand(200, 4, generator=generator(16)) < 0.5
    ours, theirs = (p.time_of(masked, editable) for p in (process, plain))
    assert torch.allclose(ours[editable.any(1)], theirs[editable.any(1)], atol=1e-11)


class Fixed:
    """A denoiser that answers what it was told, row by row."""

    def __init__(self, joint: JointOracle, answer: Tensor) -> None:
        self.vocab_size, self.data_ids, self.answer = joint.vocab_size, joint.data_ids, answer

    def __call__(self, xt, t, *, at=None, valid=None):
        return self.answer[at]


class Table:
    """A denoiser whose logits are a table: one entry for every canvas of two tokens and time."""

    def __init__(self, joint: JointOracle, logits: Tensor) -> None:
        self.vocab_size, self.data_ids, self.logits = joint.vocab_size, joint.data_ids, logits

    def __call__(self, xt, t, *, at=None, valid=None):
        where = (xt[:, 0] * (self.vocab_size + 1) + xt[:, 1]).long()
        return self.logits[where] if at is None else self.logits[where][at]


@pytest.mark.parametrize("schedule", [exponents(0.3, 1.0, 2.0, 5.0), corpus_spindle(echo())])
def test_no_prediction_has_a_negative_cost(schedule):
    joint = echo()
    x0, masked, t = everything(joint, torch.tensor([1e-6, 0.01, 0.3, 0.9, 1.0]).double())
    noised = Corrupted(x0.masked_fill(masked, 4), masked)
    process = PerTokenProcess(schedule, 4)
    for seed in range(20):
        logits = 6 * torch.randn(25, 2, 4, dtype=torch.float64, generator=generator(seed))
        table = Table(joint, logits)
        assert (integrand(table, process, x0, noised, t) >= -1e-12 / t).all()
        for s in (0 * t, t / 2, 0.999 * t):
            assert (step_kl(table, process, x0, noised, t, s).kl >= -1e-12).all()


@pytest.mark.parametrize("schedule", [exponents(0.3, 1.0, 2.0, 5.0), corpus_spindle(echo())])
@pytest.mark.parametrize("steps", [False, True])
def test_no_prediction_is_better_than_the_exact_one(schedule, steps):
    """The expected cost at one time is stationary in every logit, and larger elsewhere."""
    joint = echo()
    process = PerTokenProcess(schedule, 4)
    x0, masked, t = everything(joint, torch.tensor([0.37]).double())
    noised = Corrupted(x0.masked_fill(masked, 4), masked)
    canvases = torch.cartesian_prod(torch.arange(5), torch.arange(5))
    logits = TokenwiseOracle(joint, process)(canvases, t[:1].expand(25)).detach()
    logits = logits.clamp_min(-60).requires_grad_()
    weight = chances(process, x0, masked, t).detach()
    weight = weight * joint.probs.flatten().repeat_interleave(4)

    def cost(logits: Tensor) -> Tensor:
        table = Table(joint, logits)
        if steps:
            return weight @ step_kl(table, process, x0, noised, t, t / 3).kl
        return weight @ integrand(table, process, x0, noised, t)

    (gradient,) = torch.autograd.grad(cost(logits), logits)
    assert gradient.abs().max() < 1e-12
    rng = torch.randn(logits.shape, dtype=torch.float64, generator=generator(17))
    assert cost(logits + 0.1 * rng) > cost(logits)


def test_the_gradient_of_two_copies_is_that_of_the_enumerated_bound():
    joint, first = golden(), 1e-3
    schedule = exponents(0.5, 2.0, eps=1e-4)
    u = torch.tensor([0.002, 0.2, 0.9]).double()
    x0, masked, t = everything(joint, u)
    process = Dealt(schedule, 2, masked=masked)
    probs = joint.probs.flatten().repeat_interleave(4).repeat(3)
    time = first + (1 - first) * t
    # The plain conditional, as a network that has not learned yet: the identity needs no oracle.
    loss = tokenwise_nelbo(joint, process, x0, t, anywhere(x0), generator(0), first_time=first)
    total = (probs * chances(process, x0, masked, time) * loss.nats).sum()
    (exact,) = torch.autograd.grad(total, schedule.param, retain_graph=True)

    rows = torch.arange(len(x0)).view(-1, 4)
    one, two = (rows[:, i].flatten() for i in torch.cartesian_prod(*[torch.arange(4)] * 2).T)
    pairs = Dealt(schedule, 2, masked=torch.cat([masked[one], masked[two]]))
    mean, surrogate = rloo_nelbo(
        joint, pairs, x0[one], t[one], anywhere(x0[one]), generator(0), first_time=first
    )
    chance = [chances(process, x0[i], masked[i], time[i]).detach() for i in (one, two)]
    weight = probs[one] * chance[0] * chance[1]
    (found,) = torch.autograd.grad((weight * surrogate).sum(), schedule.param)
    assert torch.allclose(found, exact, rtol=1e-9)
    assert exact.abs().min() > 1e-3
    # What is reported is the mean of both copies and nothing of the surrogate.
    assert not mean.nats.requires_grad
    assert (weight * mean.nats).sum().item() == pytest.approx(total.item(), rel=1e-9)
    assert torch.allclose(mean.nats, (loss.nats[one] + loss.nats[two]) / 2)
    # Without the score part the gradient is another.
    mean = (loss.nats[one] + loss.nats[two]) / 2
    (direct,) = torch.autograd.grad((weight * mean).sum(), schedule.param)
    assert not torch.allclose(direct, exact, rtol=0.05)


def test_monte_carlo_bound_of_two_copies():
    joint, schedule = golden(), exponents(0.8, 1.6)
    process = PerTokenProcess(schedule, 2)
    index = torch.multinomial(joint.probs.flatten(), 40_000, True, generator=generator(18))
    x0 = joint.sequences()[index]
    t = 1 - torch.rand(40_000, dtype=torch.float64, generator=generator(19))
    oracle = TokenwiseOracle(joint, process)
    loss, surrogate = rloo_nelbo(oracle, process, x0, t, anywhere(x0), generator(20))
    value = tokenwise_bound(joint, schedule, first_time=1e-3)
    assert_mean(loss.nats, (joint.probs.flatten() @ value).item())
    torch.testing.assert_close(surrogate.detach(), loss.nats)
    assert surrogate.requires_grad


class Half(Table):
    """A network that answers in float32 and has a column for [MASK], which is no data."""

    def __init__(self, joint: JointOracle, logits: Tensor) -> None:
        super().__init__(joint, logits)
        self.vocab_size = joint.vocab_size + 1

    def __call__(self, xt, t, *, at=None, valid=None):
        where = xt[:, 0] * self.vocab_size + xt[:, 1]
        logits = self.logits[where].float()
        logits = torch.cat([logits, torch.full_like(logits[..., :1], -torch.inf)], -1)
        return logits if at is None else logits[at]


def test_ids_without_logit_change_nothing_and_float32_is_enough():
    joint = echo()
    logits = torch.randn(25, 2, 4, dtype=torch.float64, generator=generator(21)).requires_grad_()
    w = [0.5, 1.0, 2.0, 3.0]
    one, two = (PerTokenProcess(exponents(*x), 4) for x in (w, [*w, 0.1]))
    x0, _, t = everything(joint, torch.tensor([0.01, 0.5, 1.0]))
    editable = anywhere(x0)
    args = (x0, t, editable)
    table, half = Table(joint, logits), Half(joint, logits)
    exact = tokenwise_nelbo(table, one, *args, generator(22))
    rough = tokenwise_nelbo(half, two, *args, generator(22))
    assert rough.nats.dtype == torch.float32
    assert torch.allclose(rough.nats, exact.nats.float(), rtol=1e-5)
    assert torch.allclose(rough.reconstruction, exact.reconstruction.float())
    losses = [rough]
    for steps in (1, 2, 1000):
        exact = tokenwise_discrete_nelbo(table, one, x0, t, steps, editable, generator(23))
        losses.append(tokenwise_discrete_nelbo(half, two, x0, t, steps, editable, generator(23)))
        assert torch.allclose(losses[-1].nats, exact.nats.float(), rtol=1e-4, atol=1e-3)
    for loss in losses:
        slopes = torch.autograd.grad(loss.nats.sum(), [logits, two.schedule.param])
        assert all(torch.isfinite(slope).all() for slope in slopes)


def test_nothing_masked_costs_nothing_but_the_ends():
    x0 = torch.tensor([[0, 1], [1, 1]])
    process = Dealt(exponents(0.5, 2.0), 2, masked=torch.zeros(2, 2).bool())
    editable = torch.tensor([[True, True], [False, False]])
    loss = tokenwise_nelbo(golden(), process, x0, torch.ones(2), editable, generator(0))
    assert loss.diffusion.tolist() == [0, 0]
    assert loss.reconstruction[0] > 0
    assert loss.reconstruction[1] == 0
    assert loss.tokens.tolist() == [2, 0]


# The released code.


class ReleasedOracle:
    """The exact p(x_0 | x_t) under the released corruption, found by summing over x_0."""

    def __init__(self, joint: JointOracle, process: ReleasedSpindle) -> None:
        self.joint, self.process = joint, process
        self.vocab_size, self.data_ids = joint.vocab_size, joint.data_ids

    def __call__(self, xt, t, *, at=None, valid=None):
        y, index = self.joint.sequences(), (t * self.process.num_steps).round()
        visible = torch.stack(
            [self.process.visible(y, j.expand(len(y)), anywhere(y)) for j in index.unique()]
        )
        visible = visible[index.unique(return_inverse=True)[1]]  # (B, V^L, L)
        seen = (xt[:, None] == y) * visible
        weight = torch.where((xt == self.joint.mask_token_id)[:, None], 1 - visible, seen).prod(2)
        is_token = (y[..., None] == self.data_ids).double()
        probs = torch.einsum("bs,slv->blv", weight * self.joint.probs.flatten(), is_token)
        probs = torch.where(probs.sum(-1, keepdim=True) > 0, probs, 1)  # a canvas that cannot be
        return (probs / probs.sum(-1, keepdim=True)).log()[at]


@dataclass(frozen=True, eq=False)
class ReleasedDealt(ReleasedSpindle):
    """The released corruption with the masks it was told to deal."""

    masked: Tensor | None = None

    def corrupt(self, x0, index, editable, generator):
        return Corrupted(x0.masked_fill(self.masked, self.mask_token_id), self.masked)


def test_the_released_code_goes_below_the_entropy_and_the_valid_form_does_not():
    joint, num_steps = echo(), 256
    probs = joint.probs.flatten()
    assert joint.entropy() == pytest.approx(1.9188, abs=1e-4)
    x0, masked, t = everything(joint, time_grid(num_steps)[:-1])
    frequency = log_frequency(unigrams(joint), joint.data_ids)
    process = ReleasedDealt(frequency, 4, num_steps, 0.3, masked=masked)
    oracle = ReleasedOracle(joint, process)
    visible = process.visible(x0, t * num_steps, anywhere(x0))
    chance = torch.where(masked, 1 - visible, visible).prod(1)
    value = released_diffusionbert(oracle, process, x0, t, anywhere(x0), generator(0))
    cost = torch.where(chance > 0, chance * value, 0).view(num_steps, 16, 4).sum((0, 2))
    total = (probs @ cost).item() / num_steps
    assert total < joint.entropy() - 0.01
    valid = (probs @ tokenwise_steps_bound(joint, corpus_spindle(joint), num_steps)).item()
    assert joint.entropy() < valid < joint.entropy() + 0.001


def test_the_released_corruption_is_clipped_and_depends_on_the_sentence():
    process = ReleasedSpindle(torch.tensor([1.0, 0.2, 0.0]), 3, 2048)
    x0 = torch.tensor([[0, 1, 2], [0, 0, 2]])
    editable = torch.tensor([[True, True, False], [True, True, False]])
    half = process.visible(x0, torch.tensor([1024, 1024]), editable)
    assert half[0].tolist()[:2] == pytest.approx([0.5 + 0.3 * 0.4, 0.5 - 0.3 * 0.4])
    assert half[1].tolist()[:2] == pytest.approx([0.5, 0.5])
    ends = [process.visible(x0, torch.full((2,), j), editable)[0, 0].item() for j in (0, 1, 2048)]
    assert ends == pytest.approx([1, 0.999, 0], abs=1e-12)
    noised = process.corrupt(x0, torch.tensor([2048, 2048]), editable, generator(0))
    assert torch.equal(noised.masked, editable)
    reveal = process.reveal_prob(x0, torch.tensor([1, 1]), editable)
    assert (reveal == 1).all()
