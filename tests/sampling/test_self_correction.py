"""Hiding what is doubted: the count of every step, what stays, and that it ends."""

from itertools import pairwise

import pytest
import torch

from checks import assert_law, random_joint
from laws import LeaveOneOut, blank, counts_of, run
from unmask.diffusion.processes.absorbing import AbsorbingProcess
from unmask.diffusion.rng import RowRng
from unmask.diffusion.schedules.continuous import Cosine, Polynomial
from unmask.diffusion.schedules.grids import time_grid
from unmask.errors import UserError
from unmask.evaluation.oracles.joint import JointOracle
from unmask.sampling.canvas import Canvas
from unmask.sampling.policies.confidence import MostConfident, Threshold
from unmask.sampling.policies.fixed_order import LeftToRight, RandomOrder, RandomQuota
from unmask.sampling.policies.self_correction import Edited, Planned
from unmask.sampling.sampler import sample
from unmask.sampling.token_sampling import Draw

JOINT = random_joint(2, 10).probs ** 3
ORACLE = LeaveOneOut(JointOracle(JOINT / JOINT.sum()))
PROMPTED = [[1, None, None, 0, None, None, None, 1, None, None]]


def own_probability(frame) -> torch.Tensor:
    """Return what the critic thinks of every visible token of a frame, shape (B, L)."""
    logits = ORACLE(frame.canvas.ids, frame.time)
    return logits.exp().gather(2, frame.canvas.ids.clamp_max(1)[..., None])[..., 0].float()


# --- planned ---


@pytest.mark.parametrize("steps", [1, 2, 5, 7, 10, 16])
@pytest.mark.parametrize("eta", [0.0, 1.0, 3.0])
def test_after_each_step_so_many_are_masks_as_the_plan_says(steps, eta):
    """floor(N (1 - kappa)) with kappa = (i + 1) / T; the prompt is no part of N."""
    frames = run(ORACLE, Planned(eta), PROMPTED * 30, time_grid(steps))
    for i, frame in enumerate(frames[1:]):
        kappa = (i + 1) / steps
        assert (frame.canvas.masked.sum(1) == int(7 * (1 - kappa) + 1e-9)).all()
        assert (frame.canvas.ids[:, [0, 3, 7]] == torch.tensor([1, 0, 1])).all()


def test_the_plan_follows_the_schedule():
    schedule = Cosine()
    frames = run(ORACLE, Planned(), [[None] * 10] * 20, time_grid(6), schedule=schedule)
    for s, frame in zip(time_grid(6)[1:], frames[1:], strict=False):
        expected = int(10 * float(schedule.mask_prob(s)) + 1e-9)
        assert (frame.canvas.masked.sum(1) == expected).all()


@pytest.mark.parametrize("steps", [1, 2, 5, 10])
def test_without_weight_on_the_old_it_is_an_order_by_confidence(steps):
    """Where the steps divide N both have the same quota; then draw for draw."""
    rows = [[None] * 10] * 40
    for draw in (Draw(), Draw(greedy=True), Draw(top_k=1)):
        plan = run(ORACLE, Planned(0.0), rows, time_grid(steps), draw)
        order = run(ORACLE, MostConfident("confidence"), rows, time_grid(steps), draw)
        for one, other in zip(plan, order, strict=True):
            assert torch.equal(one.canvas.ids, other.canvas.ids)
            assert not one.remasked.any()


def test_in_one_step_it_draws_from_the_marginals():
    oracle = random_joint(2, 3)
    frames = run(LeaveOneOut(oracle), Planned(), blank(oracle, 15_000), time_grid(1))
    marginals = [oracle.probs.sum([j for j in range(3) if j != i]) for i in range(3)]
    law = torch.einsum("a,b,c->abc", *marginals)
    assert_law(counts_of(frames[-1].canvas.ids, 2), law)


@pytest.mark.parametrize("eta", [0.5, 1.0, 2.0])
def test_the_most_likely_of_all_are_kept(eta):
    """Old tokens by what the critic says of them, new ones by their probability when written."""
    frames = run(ORACLE, Planned(eta), PROMPTED * 60, time_grid(7))
    revised = 0
    for before, frame in pairwise(frames):
        old = before.canvas.editable & ~before.canvas.masked
        score = eta * own_probability(before).log()
        hidden_old = score.masked_fill(~frame.remasked, -99).amax(1)
        kept_old = score.masked_fill(~old | frame.remasked, 99).amin(1)
        # The draw is unfiltered, so what a token had when written is the network's own.
        new = frame.confidence.log().masked_fill(~frame.revealed, 99).amin(1)
        assert (hidden_old <= torch.minimum(kept_old, new) + 1e-5).all()
        revised += int(frame.remasked.sum())
        assert torch.equal(
            frame.canvas.ids[old & ~frame.remasked], before.canvas.ids[old & ~frame.remasked]
        )
    assert revised > 0


def test_more_weight_on_the_old_masks_more():
    def hidden(eta):
        frames = run(ORACLE, Planned(eta), [[None] * 10] * 200, time_grid(10))
        return sum(int(frame.remasked.sum()) for frame in frames)

    counts = [hidden(eta) for eta in (0.0, 0.5, 1.0, 2.0, 8.0)]
    assert counts[0] == 0
    assert counts == sorted(counts)
    assert counts[1] < counts[-1]


def test_an_impossible_old_token_is_masked_first():
    """Two texts, 0000 and 1111; a canvas that begins with one wrong token of its own."""
    probs = torch.zeros((2,) * 4, dtype=torch.float64)
    probs[0, 0, 0, 0] = probs[1, 1, 1, 1] = 0.5
    oracle = LeaveOneOut(JointOracle(probs))
    ids = torch.tensor([[0, 0, 1, 0]])
    everywhere = torch.ones_like(ids, dtype=torch.bool)
    canvas = Canvas(ids, ~everywhere, everywhere, everywhere)
    process, rng = AbsorbingProcess(Polynomial(), 2), RowRng(torch.tensor([3]))
    for policy in (Planned(), Edited(RandomQuota(1), 0.01)):
        frames = list(sample(oracle, process, canvas, policy, Draw(), time_grid(4), rng))
        assert frames[1].remasked[0, 2]
        if isinstance(policy, Edited):
            assert frames[-1].canvas.ids.tolist() == [[0, 0, 0, 0]]


# --- edited ---


@pytest.mark.parametrize("times", [1, 2, 3])
def test_each_position_is_masked_at_most_so_often_and_it_ends(times):
    policy = Edited(MostConfident("confidence", 1, Threshold(0.7)), 0.45, times)
    grid = time_grid(policy.most_steps(7))
    frames = run(ORACLE, policy, PROMPTED * 100, grid)
    hidden = torch.stack([frame.remasked for frame in frames]).sum(0)
    assert hidden.max() == times
    # It stopped by itself, and not because the grid was over.
    assert len(frames) < len(grid)
    # Tokens that may still be masked are likely enough.
    open_ = frames[-1].canvas.editable & (hidden < times)
    assert (own_probability(frames[-1])[open_] >= 0.45).all()


def test_exactly_what_is_doubted_is_masked():
    policy = Edited(LeftToRight(), 0.4, 2)
    frames = run(ORACLE, policy, PROMPTED * 100, time_grid(policy.most_steps(7)))
    count = torch.zeros_like(frames[0].canvas.ids)
    for before, frame in pairwise(frames):
        visible = before.canvas.editable & ~before.canvas.masked
        doubtful = visible & (own_probability(before) < 0.4) & (count < 2)
        assert torch.equal(frame.remasked, doubtful)
        count += frame.remasked
    assert count.sum() > 100


@pytest.mark.parametrize("order", [RandomOrder(), RandomQuota(2), MostConfident("confidence")])
def test_what_is_never_doubted_is_the_order_itself(order):
    """With a probability of 0 as the limit, draw for draw, and the extra calls only at the end."""
    rows = PROMPTED * 20
    plain = run(ORACLE, order, rows, time_grid(8))
    edited = run(ORACLE, Edited(order, 0.0), rows, time_grid(8))
    for one, other in zip(plain, edited, strict=False):
        assert torch.equal(one.canvas.ids, other.canvas.ids)
    assert torch.equal(plain[-1].canvas.ids, edited[-1].canvas.ids)


def test_on_a_network_that_only_copies_nothing_is_edited():
    copying = random_joint(2, 10)
    frames = run(copying, Edited(RandomQuota(), 1.0), PROMPTED * 20, time_grid(30))
    assert not any(bool(frame.remasked.any()) for frame in frames)


def test_what_does_not_go_together_is_refused():
    with pytest.raises(UserError, match="'margin'"):
        Edited(MostConfident("margin"))
    with pytest.raises(UserError, match="edit_threshold"):
        Edited(RandomOrder(), 1.5)
    with pytest.raises(UserError, match="times must be at least 1"):
        Edited(RandomOrder(), 0.5, 0)
    with pytest.raises(UserError, match="eta"):
        Planned(-1.0)
