"""How many tokens each policy reveals and hides, when it stops, and what it must never touch."""

import math
from itertools import pairwise

import pytest
import torch

from checks import assert_mean, generator, random_joint
from unmask.canvas import Canvas, Frame
from unmask.confidence import MostConfident, Threshold
from unmask.draw import Draw
from unmask.noise import Noise
from unmask.orders import RandomOrder
from unmask.presets import PRESETS, Preset, make_preset
from unmask.process import AbsorbingProcess
from unmask.remasking import Renoise
from unmask.sampler import sample
from unmask.schedule import Cosine, Geometric, Polynomial, Schedule, time_grid

ORACLE = random_joint(2, 12)
MASK = ORACLE.mask_token_id
PROMPTED = [[1, None, None, 0, None, None, None, 1, None, None, None, None]]
BLANK = [[None] * 12]


def run(
    preset: Preset, rows: list[list[int | None]], schedule: Schedule | None = None, seed: int = 0
) -> list[Frame]:
    canvas = Canvas.from_rows(rows, MASK, MASK)
    grid = preset.times(int(canvas.masked.sum(1).max()))
    seeds = torch.arange(len(rows)) + seed
    process = AbsorbingProcess(schedule or Polynomial(), MASK)
    return list(sample(ORACLE, process, canvas, preset.policy, preset.drawing, grid, Noise(seeds)))


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("schedule", [Polynomial(), Cosine(), Geometric(), Geometric(0.1, 5.0)])
def test_every_sampler_ends_without_masks_and_keeps_what_was_given(name, schedule):
    preset = make_preset(name, steps=5)
    frames = run(preset, PROMPTED * 20, schedule)
    given = torch.tensor([i is not None for i in PROMPTED[0]])
    first = frames[0].canvas
    assert not frames[-1].canvas.masked.any()
    assert (frames[-1].canvas.ids < MASK).all()
    for frame in frames:
        assert torch.equal(frame.canvas.ids[:, given], first.ids[:, given])
        assert not frame.revealed[:, given].any()
        assert not frame.remasked[:, given].any()
        assert torch.equal(frame.canvas.ids == MASK, frame.canvas.masked)


@pytest.mark.parametrize("name", ["ancestral", "confidence", "schedule-confidence"])
def test_what_is_revealed_stays(name):
    frames = run(make_preset(name, steps=6), BLANK * 20)
    for before, after in pairwise(frames):
        kept = ~before.canvas.masked
        assert torch.equal(before.canvas.ids[kept], after.canvas.ids[kept])
        assert torch.equal(after.revealed, before.canvas.masked & ~after.canvas.masked)


@pytest.mark.parametrize("name", PRESETS)
def test_steps_are_honoured(name):
    frames = run(make_preset(name, steps=4), BLANK * 8)
    assert len(frames) <= 5
    assert frames[-1].nfe <= 4
    assert frames[0].nfe == 0
    assert [frame.step for frame in frames] == list(range(len(frames)))
    if name in ("refine", "schedule-confidence"):
        assert frames[-1].nfe == 4


@pytest.mark.parametrize("steps", [1, 2, 5, 7, 12])
@pytest.mark.parametrize("kind", ["uniform", "cosine"])
def test_the_quota_is_the_ceiling_of_its_share(steps, kind):
    """Step by step remaining * u(s, t), rounded up; all that is left in the last step."""
    preset = Preset(MostConfident(), Draw(), steps, kind)
    frames = run(preset, BLANK)
    grid, left = time_grid(steps, kind).tolist(), 12
    for frame, (t, s) in zip(frames[1:], pairwise(grid), strict=False):
        expected = math.ceil(left * (t - s) / t - 1e-9)
        assert int(frame.revealed.sum()) == expected
        left -= expected
    assert left == 0
    assert sum(int(frame.revealed.sum()) for frame in frames) == 12


def test_the_quota_of_equal_steps_is_equal():
    frames = run(Preset(MostConfident(), Draw(), 4), BLANK * 3)
    for frame in frames[1:]:
        assert frame.revealed.sum(1).tolist() == [3, 3, 3]


def test_the_quota_takes_the_surest():
    frames = run(Preset(MostConfident(), Draw(greedy=True), 6), BLANK * 4)
    process = AbsorbingProcess(Polynomial(), MASK)
    for before, frame in pairwise(frames):
        time = process.time_of(before.canvas.masked, before.canvas.editable)
        assert torch.equal(frame.time, time)
        guess = ORACLE(before.canvas.ids, time).exp().amax(2)
        chosen = guess.masked_fill(~frame.revealed, 2).amin(1)
        passed_over = guess.masked_fill(frame.revealed | ~before.canvas.masked, -1).amax(1)
        assert (chosen >= passed_over).all()


def test_threshold_zero_reveals_everything_at_once():
    frames = run(make_preset("confidence", threshold=0.0), PROMPTED * 3)
    assert len(frames) == 2
    assert frames[-1].nfe == 1


def test_threshold_above_one_takes_one_pass_a_token():
    frames = run(make_preset("confidence", threshold=1.1), PROMPTED * 3)
    masks = sum(i is None for i in PROMPTED[0])
    assert frames[-1].nfe == masks
    for frame in frames[1:]:
        assert (frame.revealed.sum(1) == 1).all()


def test_threshold_in_between_reveals_all_above_it_or_the_surest():
    frames = run(make_preset("confidence", threshold=0.62, temperature=1.0), BLANK * 10)
    several = False
    for before, frame in pairwise(frames):
        guess = ORACLE(before.canvas.ids, frame.time).exp().amax(2).float()
        above = (guess >= 0.62) & before.canvas.masked
        unfinished = before.canvas.masked.any(1)
        alone = unfinished & ~above.any(1)
        assert torch.equal(frame.revealed[~alone], above[~alone])
        assert (frame.revealed[alone].sum(1) == 1).all()
        several |= bool((frame.revealed.sum(1) > 1).any())
    assert several
    assert frames[-1].nfe < 12


def test_a_confident_row_finishes_in_the_steps_it_was_given():
    frames = run(make_preset("confidence", threshold=1.1, steps=3), BLANK)
    assert [int(frame.revealed.sum()) for frame in frames[1:]] == [4, 4, 4]


def test_the_last_step_leaves_no_mask_even_at_one_token_a_step():
    """A policy without a pace on a grid that is too short for it."""
    frames = run(Preset(MostConfident(tokens_per_step=1, rule=Threshold(1.1)), Draw(), 3), BLANK)
    assert [int(frame.revealed.sum()) for frame in frames[1:]] == [1, 1, 10]


def test_a_full_canvas_needs_no_call():
    full = [[0, 1] * 6]
    for name in ("ancestral", "confidence", "schedule-confidence"):
        (frame,) = run(make_preset(name), full)
        assert frame.nfe == 0


def test_a_sampler_stops_when_nothing_is_left_to_write():
    frames = run(make_preset("ancestral", steps=1000), [[None, None, *[0] * 10]])
    assert not frames[-1].canvas.masked.any()
    assert frames[-2].canvas.masked.any()
    assert frames[-1].nfe <= 2


@pytest.mark.parametrize("schedule", [Polynomial(), Cosine()])
def test_refine_enters_each_pass_with_the_mask_rate_of_its_time(schedule):
    preset = Preset(Renoise(), Draw(), 5)
    frames = run(preset, PROMPTED * 2500, schedule)
    editable = frames[0].canvas.editable
    for t, frame in zip(time_grid(5)[1:-1], frames[1:-1], strict=True):
        rate = schedule.mask_prob(t).item()
        assert_mean(frame.canvas.masked[editable], rate)
        assert torch.equal(frame.canvas.masked[~editable], editable[~editable])
    for frame, t in zip(frames[1:], time_grid(5), strict=False):
        assert (frame.time == t).all()


def test_refine_guesses_visible_tokens_anew():
    """What a pass keeps is its own guess of every editable token, also of those it could see."""
    preset = Preset(Renoise(), Draw(), 3)
    for before, frame in pairwise(run(preset, PROMPTED * 50)):
        assert torch.equal(frame.revealed, frame.canvas.editable & ~frame.canvas.masked)
        assert torch.equal(frame.remasked, frame.canvas.masked & ~before.canvas.masked)


@pytest.mark.parametrize("name", PRESETS)
def test_the_same_seed_writes_the_same(name):
    preset = make_preset(name, steps=6)
    first, again = run(preset, BLANK * 6), run(preset, BLANK * 6)
    other = run(preset, BLANK * 6, seed=100)
    assert torch.equal(first[-1].canvas.ids, again[-1].canvas.ids)
    # The greedy sampler has one answer; the others have a different one for other seeds.
    greedy = preset.draw.greedy
    assert torch.equal(first[-1].canvas.ids, other[-1].canvas.ids) == greedy


@pytest.mark.parametrize("name", PRESETS)
def test_a_row_does_not_depend_on_its_batch(name):
    preset = make_preset(name, steps=6)
    rows = BLANK + PROMPTED + [[0, None, *[1] * 10]] + BLANK
    together = run(preset, rows)[-1].canvas.ids
    for i, row in enumerate(rows):
        assert torch.equal(run(preset, [row], seed=i)[-1].canvas.ids[0], together[i])


def test_random_order_asks_only_for_what_it_reveals():
    canvas = Canvas.from_rows(BLANK * 500, MASK, MASK)
    process = AbsorbingProcess(Polynomial(), MASK)
    asked = 0

    class Counting(type(ORACLE)):
        def __call__(self, xt, t, *, at=None, valid=None):
            nonlocal asked
            asked += int(at.sum())
            return super().__call__(xt, t, at=at, valid=valid)

    noise = Noise(torch.randint(2**62, (500,), generator=generator(0)))
    grid = time_grid(8)
    list(sample(Counting(ORACLE.probs), process, canvas, RandomOrder(), Draw(), grid, noise))
    assert asked == 500 * 12
