"""Orders that know before the network runs: their counts, their laws and the times they tell."""

from itertools import pairwise

import pytest
import torch
from scipy.stats import beta, kstest

from checks import assert_law, assert_mean, chain, generator, golden, random_joint
from laws import ancestral_law, blank, counts_of, law_of_path, run
from unmask.diffusion.processes.absorbing import AbsorbingProcess
from unmask.diffusion.rng import RowRng
from unmask.diffusion.schedules.continuous import Cosine, Geometric, LogLinear, Polynomial
from unmask.diffusion.schedules.grids import time_grid
from unmask.errors import UserError
from unmask.evaluation.oracles.joint import JointOracle
from unmask.sampling.canvas import Canvas
from unmask.sampling.policies.fixed_order import FirstHitting, LeftToRight, RandomOrder, RandomQuota
from unmask.sampling.sampler import sample
from unmask.sampling.token_sampling import Draw

LONG = random_joint(2, 12)


def revealed(frames) -> list[int]:
    """Return how many positions each step wrote, in all rows alike."""
    return [int(frame.revealed.sum(1).unique()) for frame in frames[1:]]


@pytest.mark.parametrize("steps", [1, 4, 5, 7, 12, 20])
def test_a_quota_is_as_even_as_whole_numbers_allow(steps):
    """floor(N / T) + 1 in the first N mod T steps, floor(N / T) afterwards."""
    frames = run(LONG, RandomQuota(), blank(LONG, 5), time_grid(steps))
    whole, rest = divmod(12, steps)
    expected = [whole + 1] * rest + [whole] * (steps - rest)
    assert revealed(frames) == [n for n in expected if n]


@pytest.mark.parametrize("policy", [RandomQuota(5), FirstHitting(5), LeftToRight(5)])
def test_a_number_of_tokens_per_step_is_exact(policy):
    assert revealed(run(LONG, policy, blank(LONG, 5), time_grid(12))) == [5, 5, 2]
    # A grid that is too short: what is left is written in the last step.
    assert revealed(run(LONG, policy, blank(LONG, 5), time_grid(2))) == [5, 7]


@pytest.mark.parametrize("policy", [RandomQuota, FirstHitting, LeftToRight])
def test_less_than_one_token_a_step_is_refused(policy):
    with pytest.raises(UserError, match="from 1 to"):
        policy(0)


@pytest.mark.parametrize("policy", [RandomQuota(1), FirstHitting()])
def test_the_random_order_is_any_order_alike(policy):
    oracle = random_joint(2, 4)
    frames = run(oracle, policy, blank(oracle, 12_000), time_grid(4))
    place = torch.stack([frame.revealed.long().argmax(1) for frame in frames[1:]], 1)
    orders = torch.unique(place, dim=0, return_counts=True)[1]
    assert len(orders) == 24
    assert_law(orders, torch.full((24,), 1 / 24))


@pytest.mark.parametrize("oracle", [golden(), random_joint(), random_joint(2, 5, seed=3)])
@pytest.mark.parametrize("policy", [FirstHitting(), RandomQuota(1)])
def test_one_token_at_a_time_in_random_order_has_the_law_of_the_data(oracle, policy):
    frames = run(oracle, policy, blank(oracle, 20_000), time_grid(oracle.length))
    assert revealed(frames) == [1] * oracle.length
    assert_law(counts_of(frames[-1].canvas.ids, oracle.vocab_size), oracle.probs)


def test_first_hitting_between_given_tokens_has_the_conditional_law():
    oracle = random_joint()
    frames = run(oracle, FirstHitting(), [[None, 2, None, 0]] * 10_000, time_grid(2))
    law = oracle.probs[:, 2, :, 0]
    assert_law(counts_of(frames[-1].canvas.ids[:, [0, 2]], 3), law / law.sum())


@pytest.mark.parametrize("schedule", [Polynomial(), Cosine(), Polynomial(2.0), LogLinear(0.2)])
def test_the_times_of_first_hitting_are_order_statistics(schedule):
    """The n-th of N mask rates is the n-th largest of N uniform ones: Beta(N + 1 - n, n)."""
    oracle = random_joint(2, 5)
    frames = run(oracle, FirstHitting(), blank(oracle, 3000), time_grid(5), schedule=schedule)
    full = float(schedule.mask_prob(torch.ones((), dtype=torch.float64)))
    for n, frame in enumerate(frames[1:], 1):
        rate = schedule.mask_prob(frame.time) / full
        assert kstest(rate.numpy(), beta(6 - n, n).cdf).pvalue > 1e-6
        assert_mean(rate, (6 - n) / 6)
    for before, after in pairwise(frames[1:]):
        assert (after.time < before.time).all()


def test_first_hitting_at_a_schedule_that_never_quite_ends():
    """Times stay within [0, 1], and a row without masks is at time 0."""
    oracle = random_joint(2, 5)
    rows = [[None] * 5, [0, 1, None, 0, 1]] * 200
    frames = run(oracle, FirstHitting(), rows, time_grid(5), schedule=Geometric(0.1, 5.0))
    for frame in frames[1:]:
        assert ((frame.time >= 0) & (frame.time <= 1)).all()
    assert (frames[-1].time[1::2] == 0).all()


def test_several_at_a_time_are_conditioned_on_the_time_of_the_first():
    oracle = random_joint(2, 6)
    single = run(oracle, FirstHitting(), blank(oracle, 50), time_grid(6))
    triple = run(oracle, FirstHitting(3), blank(oracle, 50), time_grid(6))
    assert torch.equal(triple[1].time, single[1].time)
    assert torch.equal(triple[2].time, single[4].time)
    together = single[1].revealed | single[2].revealed | single[3].revealed
    assert torch.equal(triple[1].revealed, together)


def test_first_hitting_is_a_fixed_quota_that_knows_its_time():
    """A network that ignores the time writes the same text, draw for draw."""
    hitting = run(LONG, FirstHitting(), blank(LONG, 20), time_grid(12))
    quota = run(LONG, RandomQuota(), blank(LONG, 20), time_grid(12))
    for one, other in zip(hitting, quota, strict=True):
        assert torch.equal(one.canvas.ids, other.canvas.ids)
    process = AbsorbingProcess(Polynomial(), 2)
    for before, frame in pairwise(quota):
        told = process.time_of(before.canvas.masked, before.canvas.editable)
        assert torch.equal(frame.time, told)


def test_a_time_belongs_to_its_row_alone():
    rows = [[None] * 12, [0] * 6 + [None] * 6, [None, *[1] * 11]]
    together = run(LONG, FirstHitting(), rows, time_grid(12), seed=40)
    for i, row in enumerate(rows):
        alone = run(LONG, FirstHitting(), [row], time_grid(12), seed=40 + i)
        for one, all_rows in zip(alone, together, strict=False):
            assert one.time[0] == all_rows.time[i]


@pytest.mark.parametrize("oracle", [golden(), random_joint()])
def test_left_to_right_has_the_law_of_the_data(oracle):
    frames = run(oracle, LeftToRight(), blank(oracle, 15_000), time_grid(oracle.length))
    assert_law(counts_of(frames[-1].canvas.ids, oracle.vocab_size), oracle.probs)
    # Exactly, by the chain rule.
    law, calls = law_of_path(oracle, LeftToRight())
    assert torch.allclose(law, oracle.probs.flatten(), rtol=1e-12)
    assert (calls == oracle.length).all()


def test_left_to_right_goes_from_left_to_right_and_asks_for_nothing_else():
    markov, asked = chain(), []

    class Noted(type(markov)):
        def __call__(self, xt, t, *, at=None, valid=None):
            asked.append(at)
            return super().__call__(xt, t, at=at, valid=valid)

    rows = [[None] * 6, [0, None, None, 2, None, None], [1, None]]
    canvas = Canvas.from_rows(rows, 3, 3)
    process = AbsorbingProcess(Polynomial(), 3)
    oracle = Noted(markov.initial, markov.transition)
    rng = RowRng(torch.arange(3))
    frames = list(sample(oracle, process, canvas, LeftToRight(2), Draw(), time_grid(6), rng))
    assert [f.revealed[0].nonzero()[:, 0].tolist() for f in frames[1:]] == [[0, 1], [2, 3], [4, 5]]
    assert [f.revealed[1].nonzero()[:, 0].tolist() for f in frames[1:]] == [[1, 2], [4, 5], []]
    assert [f.revealed[2].nonzero()[:, 0].tolist() for f in frames[1:]] == [[1], [], []]
    assert [int(at.sum()) for at in asked] == [5, 4, 2]


def test_two_tokens_a_step_are_drawn_independently():
    """p(x_1) p(x_2) p(x_3 | x_1 x_2) p(x_4 | x_1 x_2), summed from the joint."""
    oracle = random_joint()
    p = oracle.probs
    first, second = p.sum((1, 2, 3)), p.sum((0, 2, 3))
    pair = p.sum((2, 3))
    third, fourth = p.sum(3) / pair[..., None], p.sum(2) / pair[..., None]
    law = torch.einsum("a,b,abc,abd->abcd", first, second, third, fourth)
    assert torch.allclose(law_of_path(oracle, LeftToRight(2))[0], law.flatten(), rtol=1e-12)
    frames = run(oracle, LeftToRight(2), blank(oracle, 15_000), time_grid(4))
    assert_law(counts_of(frames[-1].canvas.ids, 3), law)


@pytest.mark.parametrize("oracle", [golden(), random_joint(3, 3, seed=5)])
def test_position_then_token_has_the_law_of_one_draw_among_all_outcomes(oracle):
    """Two ways to take the same reverse steps; the second knows no separate choice of positions."""
    grid, rows = time_grid(3), 20_000
    process = AbsorbingProcess(Polynomial(), oracle.mask_token_id)
    law = ancestral_law(oracle, process, grid)
    two = run(oracle, RandomOrder(), blank(oracle, rows), grid)[-1].canvas.ids
    assert_law(counts_of(two, oracle.vocab_size), law)

    mask = oracle.mask_token_id
    ids = torch.full((rows, oracle.length), mask)
    rng = generator(0)
    for t, s in pairwise(grid):
        prediction = oracle(ids, t.expand(rows)).exp()
        reveal = process.reveal_prob(t, s)
        stay = (1 - reveal).expand(*ids.shape, 1)
        outcomes = torch.cat([reveal * prediction, stay], -1).view(-1, mask + 1)
        drawn = torch.multinomial(outcomes, 1, generator=rng).view(ids.shape)
        ids = torch.where(ids == mask, drawn, ids)
    assert_law(counts_of(ids, oracle.vocab_size), law)


def test_a_data_set_of_one_text_is_written_in_any_order():
    probs = torch.zeros((3,) * 5, dtype=torch.float64)
    probs[2, 0, 1, 1, 2] = 1
    oracle = JointOracle(probs)
    for policy in (RandomOrder(), RandomQuota(2), FirstHitting(), LeftToRight(2)):
        frames = run(oracle, policy, blank(oracle, 10), time_grid(5))
        assert (frames[-1].canvas.ids == torch.tensor([2, 0, 1, 1, 2])).all()
