"""What every sampler must do: end without masks, keep what is given, stop in time, mind its row.

How many tokens each reveals, and which, is in the tests of its kind.
"""

from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch

import laws
from checks import Recorder, random_joint
from laws import LeaveOneOut
from unmask.diffusion.rng import RowRng
from unmask.diffusion.schedules.continuous import Cosine, Geometric, Polynomial, Schedule
from unmask.sampling.canvas import Frame
from unmask.sampling.policies.base import Policy
from unmask.sampling.policies.fixed_order import RandomOrder
from unmask.sampling.samplers.base import Sampler
from unmask.sampling.samplers.registry import SAMPLERS, make_sampler
from unmask.sampling.token_sampling import Draw

ORACLE = random_joint(2, 12)
# Of a token that is visible it says what it would say of a mask: there is something to revise.
CRITIC = LeaveOneOut(random_joint(2, 8))
MASK = ORACLE.mask_token_id
PROMPTED = [[1, None, None, 0, None, None, None, 1, None, None, None, None]]
BLANK = [[None] * 12]
# Rows that finish one after the other, and one that is finished.
MIXED = [[None] * 8, [0, None, 1, None, 0, 0, 1, 1], [1, 1, None, None, None, 0, None, 1], [0] * 8]


def run(
    sampler: Sampler,
    rows: list[list[int | None]],
    schedule: Schedule | None = None,
    seed: int = 0,
    oracle=ORACLE,
) -> list[Frame]:
    grid = sampler.times(max(sum(token is None for token in row) for row in rows))
    return laws.run(oracle, sampler.policy, rows, grid, sampler.drawing, schedule, seed)


@dataclass(frozen=True)
class Restless(Policy):
    """The same policy, but every row is always queried and the steps never end early."""

    inner: Policy

    @property
    def reads(self):
        return self.inner.reads

    def time(self, canvas, clock, rng):
        return self.inner.time(canvas, clock, rng)

    def settled(self, canvas, clock):
        return torch.zeros_like(canvas.masked[:, 0])

    def candidates(self, canvas, clock, rng):
        everywhere = self.inner.candidates(canvas, clock, rng).clone()
        everywhere[:, 0] = True
        return everywhere

    def choose(self, canvas, candidates, prediction, clock, rng):
        wanted = self.inner.candidates(canvas, clock, rng)
        unlikely = torch.full_like(prediction.probability, -torch.inf)
        prediction = prediction._replace(
            probability=torch.where(wanted, prediction.probability, unlikely),
            measured=torch.where(wanted, prediction.measured, unlikely),
        )
        return self.inner.choose(canvas, wanted, prediction, clock, rng)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("schedule", [Polynomial(), Cosine(), Geometric(), Geometric(0.1, 5.0)])
def test_every_sampler_ends_without_masks_and_keeps_what_was_given(name, schedule):
    for steps in (1, 5, None):
        if steps is None and name in laws.CHAINS:
            continue
        sampler = make_sampler(name, steps=steps)
        frames = run(sampler, MIXED * 3, schedule, oracle=CRITIC)
        given = torch.tensor([[i is not None for i in row] for row in MIXED * 3])
        first = frames[0].canvas
        assert not frames[-1].canvas.masked.any()
        assert (frames[-1].canvas.ids < MASK).all()
        for frame in frames:
            assert torch.equal(frame.canvas.ids[given], first.ids[given])
            assert not frame.revealed[given].any()
            assert not frame.remasked[given].any()
            assert torch.equal(frame.canvas.ids == MASK, frame.canvas.masked)
            assert torch.equal(frame.confidence.isnan(), frame.canvas.masked | given)


ORDERS = [name for name, kind in SAMPLERS.items() if not kind().policy.revises]


@pytest.mark.parametrize("name", ORDERS)
def test_what_is_revealed_stays(name):
    frames = run(make_sampler(name, steps=6), BLANK * 20)
    for before, after in pairwise(frames):
        kept = ~before.canvas.masked
        assert torch.equal(before.canvas.ids[kept], after.canvas.ids[kept])
        assert torch.equal(after.revealed, before.canvas.masked & ~after.canvas.masked)


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name not in ORDERS])
def test_the_others_do_change_their_mind(name):
    """On a network that judges visible tokens; otherwise the tests below would show nothing."""
    frames = run(make_sampler(name, steps=16, **LIVELY.get(name, {})), MIXED * 5, oracle=CRITIC)
    remasked = sum(int(frame.remasked.sum()) for frame in frames)
    assert remasked > 0, f"add options with which {name!r} masks tokens again to LIVELY"


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_policy_is_blind_if_no_drawn_token_decides_what_is_revealed(name):
    """Two draws of the first step, of the same network: the same positions, if it is blind."""
    sampler = make_sampler(name)
    grid = make_sampler(name, steps=4).times(12)
    one, other = (
        laws.run(ORACLE, sampler.policy, BLANK * 40, grid, draw)[1]
        for draw in (Draw(temperature=0), Draw(temperature=1000))
    )
    assert not torch.equal(one.canvas.ids, other.canvas.ids)
    same = torch.equal(one.revealed, other.revealed)
    assert sampler.policy.blind == (same and not sampler.policy.revises)


@pytest.mark.parametrize("name", SAMPLERS)
def test_steps_are_honoured(name):
    frames = run(make_sampler(name, steps=4), BLANK * 8)
    assert len(frames) <= 5
    assert frames[-1].nfe <= 4
    assert frames[0].nfe == 0
    assert [frame.step for frame in frames] == list(range(len(frames)))
    if name in ("refine", "maskgit", "random", "p2"):
        assert frames[-1].nfe == 4


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_full_canvas_needs_no_call(name):
    (frame,) = run(make_sampler(name), [[0, 1] * 6])
    assert frame.nfe == 0


def test_a_sampler_stops_when_nothing_is_left_to_write():
    frames = run(make_sampler("ancestral", steps=1000), [[None, None, *[0] * 10]])
    assert not frames[-1].canvas.masked.any()
    assert frames[-2].canvas.masked.any()
    assert frames[-1].nfe <= 2


# Numbers with which a sampler changes its mind, and with which it is known when it is done.
REMASK = ("remdm-cap", "remdm-rescale", "remdm-loop")
LIVELY = {name: {"eta": 0.4} for name in REMASK} | {"threshold-edit": {"edit_threshold": 0.6}}
KNOWN = {name: {} for name in [*ORDERS, "remdm-conf", "p2"]}
KNOWN |= {name: {"eta": 0.0} for name in REMASK}


def seen(recorder: Recorder) -> set[tuple[tuple[int, ...], float]]:
    """Return the queried rows, each with the time of the call."""
    return {
        (tuple(row), time)
        for xt, t, at in recorder.calls
        for row, time, asked in zip(xt.tolist(), t.tolist(), at.any(1).tolist(), strict=True)
        if asked
    }


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize(("steps", "options"), [(3, LIVELY), (20, LIVELY), (40, KNOWN)])
def test_leaving_rows_out_and_stopping_early_change_nothing(name, steps, options):
    """The same frames as when every row is queried in every step until the last."""
    sampler = make_sampler(name, steps=steps, **options.get(name, {}))
    grid, patient = sampler.times(8), Restless(sampler.policy)
    asked, whole = Recorder(CRITIC), Recorder(CRITIC)
    asked.mask_token_id = whole.mask_token_id = CRITIC.mask_token_id
    rows = MIXED * 4
    frames = laws.run(asked, sampler.policy, rows, grid, sampler.drawing)
    reference = laws.run(whole, patient, rows, grid, sampler.drawing)
    assert len(reference) == steps + 1
    for one, other in zip(frames, reference, strict=False):
        for field in ("ids", "masked"):
            assert torch.equal(getattr(one.canvas, field), getattr(other.canvas, field))
        assert torch.equal(one.revealed, other.revealed)
        assert torch.equal(one.remasked, other.remasked)
        assert torch.equal(one.confidence.nan_to_num(-1), other.confidence.nan_to_num(-1))
        assert torch.equal(one.time, other.time)
    for frame in reference[len(frames) :]:
        assert torch.equal(frame.canvas.ids, frames[-1].canvas.ids)
        assert not (frame.revealed | frame.remasked).any()
    # Whoever remembers rows from call to call finds them where they were.
    assert all(len(xt) == len(rows) for xt, _, _ in (*asked.calls, *whole.calls))
    assert seen(asked) <= seen(whole)
    sizes = [int(at.any(1).sum()) for _, _, at in asked.calls]
    # The row without blanks is never queried.
    assert max(sizes) <= 3 * len(rows) // 4
    if options is KNOWN and name in KNOWN:
        # The last frame is not an idle one, and the rows did not finish together.
        assert (frames[-1].revealed | frames[-1].remasked).any()
        assert min(sizes) < max(sizes)


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_same_seed_writes_the_same(name):
    sampler = make_sampler(name, steps=6)
    first, again = run(sampler, BLANK * 6), run(sampler, BLANK * 6)
    other = run(sampler, BLANK * 6, seed=100)
    assert torch.equal(first[-1].canvas.ids, again[-1].canvas.ids)
    # The greedy sampler has one answer; the others have a different one for other seeds.
    greedy = sampler.draw.greedy
    assert torch.equal(first[-1].canvas.ids, other[-1].canvas.ids) == greedy


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_row_does_not_depend_on_its_batch(name):
    sampler = make_sampler(name, steps=12)
    together = run(sampler, MIXED, oracle=CRITIC)
    for i, row in enumerate(MIXED):
        # Alone on the same grid, which in the batch is that of the fullest row.
        alone = laws.run(CRITIC, sampler.policy, [row], sampler.times(8), sampler.drawing, None, i)
        assert torch.equal(alone[-1].canvas.ids[0], together[-1].canvas.ids[i])
        for one, all_rows in zip(alone, together, strict=False):
            assert torch.equal(one.canvas.ids[0], all_rows.canvas.ids[i])
            assert torch.equal(one.remasked[0], all_rows.remasked[i])


def test_random_order_asks_only_for_what_it_reveals():
    recorder = Recorder(ORACLE)
    recorder.mask_token_id = MASK
    laws.run(recorder, RandomOrder(), BLANK * 500, make_sampler("ancestral", steps=8).times(12))
    assert sum(int(at.sum()) for _, _, at in recorder.calls) == 500 * 12


def test_noise_of_orders_is_that_of_the_row():
    """Rows with the same seed write the same, wherever they stand in the batch."""
    rng = RowRng(torch.tensor([5, 9, 5]))
    assert torch.equal(rng.uniform("hitting", 0, 12)[0], rng.uniform("hitting", 0, 12)[2])
    sampler = make_sampler("first-hitting")
    first = run(sampler, BLANK * 3, seed=4)[-1].canvas.ids
    second = run(sampler, BLANK * 3, seed=5)[-1].canvas.ids
    assert torch.equal(first[1:], second[:2])
