"""Hiding by chance: the mask rate of every step, the law of whole chains, and when it is over."""

import math
from itertools import pairwise

import pytest
import torch

from checks import assert_law, assert_mean, golden, random_joint
from laws import blank, counts_of, divergence, law_of_steps, run
from unmask.diffusion.processes.absorbing import AbsorbingProcess
from unmask.diffusion.schedules.continuous import Cosine, Geometric, Polynomial
from unmask.diffusion.schedules.grids import time_grid
from unmask.errors import UserError
from unmask.sampling.canvas import Canvas
from unmask.sampling.policies.base import Clock, Past
from unmask.sampling.policies.fixed_order import RandomOrder
from unmask.sampling.policies.remasking import (
    Capped,
    ForwardBackward,
    LeastConfident,
    Loop,
    NextRate,
    Remask,
    Renoise,
    Rescaled,
)
from unmask.sampling.token_sampling import Draw

ORACLE = random_joint(2, 12)
MASK = ORACLE.mask_token_id
PROMPTED = [[1, None, None, 0, None, None, None, 1, None, None, None, None]]
RULES = [Capped(0.2), Rescaled(0.3), LeastConfident(), Loop(0.3), Capped(0), Capped(1), Rescaled(1)]
RULES += [NextRate(), ForwardBackward()]
SCHEDULES = [Polynomial(), Cosine(), Geometric()]


def clock_of(schedule, t, s, canvas, mask, last=False, past=None) -> Clock:
    process = AbsorbingProcess(schedule, mask)
    return Clock(0, t, s, process, last=last, past=past or Past.of(canvas))


# --- renoise ---


@pytest.mark.parametrize("schedule", [Polynomial(), Cosine()])
def test_refine_enters_each_pass_with_the_mask_rate_of_its_time(schedule):
    frames = run(ORACLE, Renoise(), PROMPTED * 2500, time_grid(5), schedule=schedule)
    editable = frames[0].canvas.editable
    for t, frame in zip(time_grid(5)[1:-1], frames[1:-1], strict=True):
        assert_mean(frame.canvas.masked[editable], schedule.mask_prob(t).item())
        assert torch.equal(frame.canvas.masked[~editable], editable[~editable])
    for frame, t in zip(frames[1:], time_grid(5), strict=False):
        assert (frame.time == t).all()


def test_refine_redraws_visible_tokens():
    """A pass keeps its own prediction of every editable token, also of visible ones."""
    for before, frame in pairwise(run(ORACLE, Renoise(), PROMPTED * 50, time_grid(3))):
        assert torch.equal(frame.revealed, frame.canvas.editable & ~frame.canvas.masked)
        assert torch.equal(frame.remasked, frame.canvas.masked & ~before.canvas.masked)


def test_with_the_next_rate_masks_are_as_in_refine_and_what_stays_is_not_guessed_anew():
    """Each token is a mask by a chance of its own, whatever it was; one that is seen stays."""
    frames = run(ORACLE, Remask(NextRate()), PROMPTED * 4000, time_grid(5))
    editable = frames[0].canvas.editable
    for t, (before, frame) in zip(time_grid(5)[1:-1], pairwise(frames[:-1]), strict=True):
        kept = editable & ~before.canvas.masked & ~frame.canvas.masked
        assert torch.equal(before.canvas.ids[kept], frame.canvas.ids[kept])
        for was in (before.canvas.masked, ~before.canvas.masked):
            if (editable & was).any():
                assert_mean(frame.canvas.masked[editable & was], t.item())


# --- the reverse step ---


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_row_of_the_reverse_step_is_a_distribution(rule, schedule):
    """For all s < t: chances within [0, 1], and for one sigma the marginal identity, exactly."""
    canvas = Canvas.from_rows([[None, None, None], [0, None, 1], [0, 1, 1]], MASK, MASK)
    visible = Canvas(canvas.ids, canvas.masked, torch.ones_like(canvas.masked), canvas.valid)
    past = Past(torch.tensor([[math.nan] * 3, [0.9, math.nan, 0.1], [0.5, 1, 0.2]]), None, None)
    grid = time_grid(40)
    for i, t in enumerate(grid[:-1]):
        for s in grid[i + 1 :]:
            clock = clock_of(schedule, t, s, visible, MASK, last=bool(s == 0), past=past)
            reveal, hide = (x.expand(3, 3) for x in rule.rates(visible, clock))
            assert ((reveal >= 0) & (reveal <= 1)).all()
            assert ((hide >= 0) & (hide <= 1)).all()
            masked_t = rule.mask_prob(t) if isinstance(rule, Loop) else schedule.mask_prob(t)
            masked_s = rule.mask_prob(s) if isinstance(rule, Loop) else schedule.mask_prob(s)
            if s == 0:
                assert (reveal[visible.masked] == 1).all()
                assert (hide == 0).all()
            elif isinstance(rule, LeastConfident):
                # What leaves the visible tokens of a row comes back from its masks.
                count = visible.masked.sum(1)
                left = (hide * ~visible.masked).sum(1)
                came = (reveal * visible.masked).sum(1)
                plain = count * (masked_t - masked_s) / masked_t
                assert torch.allclose(came - left, plain, atol=1e-12)
                assert (left <= 1 + 1e-12).all()
            else:
                visible_s = (1 - masked_t) * (1 - hide) + masked_t * reveal
                assert torch.allclose(visible_s, (1 - masked_s).expand(3, 3), atol=1e-12)


def test_sigma_is_what_its_rule_says():
    """By hand at t = .5, s = .4: alpha_t = .5, alpha_s = .6, so at most .4 / .5 = .8."""
    t, s = torch.tensor(0.5).double(), torch.tensor(0.4).double()
    canvas = Canvas.from_rows([[0, 1, None]], MASK, MASK)
    canvas = Canvas(canvas.ids, canvas.masked, torch.ones_like(canvas.masked), canvas.valid)
    past = Past(torch.tensor([[0.9, 0.4, math.nan]]), None, None)
    clock = clock_of(Polynomial(), t, s, canvas, MASK, past=past)

    def hide(rule):
        return rule.rates(canvas, clock).remask

    assert float(hide(Capped(0.25))) == pytest.approx(0.25)
    assert float(hide(Capped(0.9))) == pytest.approx(0.8)
    assert float(hide(Rescaled(0.25))) == pytest.approx(0.2)
    assert float(hide(NextRate())) == pytest.approx(0.4)
    assert float(NextRate().rates(canvas, clock).reveal) == pytest.approx(0.6)
    assert float(hide(ForwardBackward())) == pytest.approx(0.2)
    assert float(ForwardBackward().rates(canvas, clock).reveal) == pytest.approx(0.2 + 0.2)
    early = clock_of(Polynomial(), torch.tensor(0.4).double(), 0.75 * s, canvas, MASK)
    assert float(ForwardBackward().rates(canvas, early).remask) == pytest.approx(0.1 / 0.6)
    weight = [math.exp(-0.9), math.exp(-0.4)]
    expected = [0.8 * w / sum(weight) for w in weight]
    assert hide(LeastConfident())[0].tolist() == pytest.approx([*expected, 0], rel=1e-6)
    assert float(LeastConfident().rates(canvas, clock).reveal) == pytest.approx(0.2 + 0.8)
    # The loop stands still at alpha = .9: u = 0, and sigma .9 / .1 comes back.
    assert float(hide(Loop(0.02))) == pytest.approx(0.02)
    assert float(Loop(0.02).rates(canvas, clock).reveal) == pytest.approx(0.18)
    # At first sigma may be 1, and no token is visible.
    start = clock_of(Polynomial(), torch.tensor(1.0).double(), s, canvas, MASK)
    assert float(Capped(1.0).rates(canvas, start).remask) == pytest.approx(1)
    assert float(Capped(1.0).rates(canvas, start).reveal) == pytest.approx(0.6)


def test_the_loop_visits_its_rates():
    loop = Loop(0.02, begin=0.55, end=0.05, visible=0.9)
    t = torch.tensor([1.0, 0.775, 0.55, 0.3, 0.05, 0.025, 0.0]).double()
    expected = [1, 1 - 0.45, 0.1, 0.1, 0.1, 0.05, 0]
    assert loop.mask_prob(t).tolist() == pytest.approx(expected)
    # The network is conditioned on the time of its own schedule at which so much is masked.
    canvas = Canvas.from_rows([[None]], MASK, MASK)
    for schedule in (Polynomial(2.0), Cosine()):
        clock = clock_of(schedule, t[3], t[4], canvas, MASK)
        assert float(schedule.mask_prob(loop.time(clock))) == pytest.approx(0.1)


# --- whole chains ---


@pytest.mark.parametrize(
    "rule",
    [Capped(0.2), Rescaled(0.3), LeastConfident(), Loop(0.3), NextRate(), ForwardBackward()],
)
@pytest.mark.parametrize("schedule", [Polynomial(), Cosine()])
def test_every_step_ends_with_the_mask_rate_of_its_time(rule, schedule):
    grid = time_grid(12)
    frames = run(ORACLE, Remask(rule), PROMPTED * 8000, grid, schedule=schedule)
    editable = frames[0].canvas.editable[0]
    hidden = 0
    for s, frame in zip(grid[1:-1], frames[1:-1], strict=True):
        rate = rule.mask_prob(s) if isinstance(rule, Loop) else schedule.mask_prob(s)
        assert_mean(frame.canvas.masked[:, editable].double().mean(1), float(rate))
        hidden += int(frame.remasked.sum())
    assert hidden > 8000
    assert not frames[-1].remasked.any()


@pytest.mark.parametrize(
    "rule",
    [Capped(0.3), Rescaled(0.5), Loop(0.4, 0.7, 0.3, 0.6), NextRate(), ForwardBackward()],
)
@pytest.mark.parametrize("oracle", [golden(), random_joint(3, 3, seed=5)])
def test_the_law_is_that_of_all_paths_summed_up(rule, oracle):
    grid, schedule = time_grid(6), Polynomial()
    canvas = Canvas.from_rows(blank(oracle), oracle.mask_token_id, 0)
    steps = []
    for i, (t, s) in enumerate(pairwise(grid)):
        clock = clock_of(schedule, t, s, canvas, oracle.mask_token_id, last=i == 5)
        steps.append(tuple(rule.rates(canvas, clock)))
    law = law_of_steps(oracle, steps)
    frames = run(oracle, Remask(rule), blank(oracle, 20_000), grid)
    assert sum(int(frame.remasked.sum()) for frame in frames) > 1000
    assert_law(counts_of(frames[-1].canvas.ids, oracle.vocab_size), law)


def test_hiding_again_mends_what_many_tokens_a_step_broke():
    """With exact predictions a loop at few masks draws the law towards the truth."""
    oracle, grid = random_joint(3, 3, seed=5), time_grid(40)
    canvas = Canvas.from_rows(blank(oracle), 3, 0)
    clocks = [clock_of(Polynomial(), t, s, canvas, 3, bool(s == 0)) for t, s in pairwise(grid)]
    lost = []
    for rule in (Loop(0.0, 0.9, 0.1, 0.7), Loop(0.05, 0.9, 0.1, 0.7)):
        law = law_of_steps(oracle, [tuple(rule.rates(canvas, clock)) for clock in clocks])
        lost.append(divergence(oracle.probs, law))
    assert 0 < lost[1] < lost[0] / 5


@pytest.mark.parametrize("rule", [Capped(0.0), Rescaled(0.0)])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_without_hiding_it_is_ancestral_draw_for_draw(rule, schedule):
    rows = PROMPTED * 30
    plain = run(ORACLE, RandomOrder(), rows, time_grid(20), schedule=schedule)
    remasked = run(ORACLE, Remask(rule), rows, time_grid(20), schedule=schedule)
    for one, other in zip(plain, remasked, strict=True):
        assert torch.equal(one.canvas.ids, other.canvas.ids)
        assert torch.equal(one.time, other.time)


@pytest.mark.parametrize("rule", [Capped(0.5), Rescaled(0.5)])
def test_a_full_canvas_is_not_the_end_while_tokens_may_be_remasked(rule):
    """Each of 20 rows of 2 tokens is by itself, so that no other one keeps the sampler going."""
    again = 0
    for seed in range(20):
        frames = run(golden(), Remask(rule), blank(golden()), time_grid(40), seed=seed)
        full = [not frame.canvas.masked.any() for frame in frames]
        assert full[-1]
        again += not all(full[full.index(True) :])
    assert again >= 10


def test_after_the_loop_a_full_canvas_is_the_end():
    """Of 100 steps the last 5 lie after it; a row that is full then is not queried again."""
    frames = run(ORACLE, Remask(Loop(0.5)), [[None, *[1] * 11]] * 3, time_grid(100), seed=2)
    assert 90 < len(frames) - 1 <= 95
    assert sum(int(frame.remasked.sum()) for frame in frames) > 10
    # Nothing that may change, and nothing to wait for.
    assert len(run(ORACLE, Remask(Capped(0.5)), [[1] * 12], time_grid(100))) == 1


def test_the_least_sure_are_masked_most():
    frames = run(ORACLE, Remask(LeastConfident()), [[None] * 12] * 4000, time_grid(12), Draw())
    sure, unsure = [], []
    for before, frame in pairwise(frames):
        visible = before.canvas.editable & ~before.canvas.masked
        chance = frame.remasked.double()
        sure.append(chance[visible & (before.confidence > 0.7)])
        unsure.append(chance[visible & (before.confidence < 0.3)])
    assert torch.cat(unsure).mean() > 1.3 * torch.cat(sure).mean()


def test_numbers_out_of_range_are_refused():
    for rule in (Capped, Rescaled, Loop):
        for eta in (-0.1, 1.1, math.nan):
            with pytest.raises(UserError, match="eta"):
                rule(eta)
    with pytest.raises(UserError, match="begin"):
        Loop(begin=0.1, end=0.2)
