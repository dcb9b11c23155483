"""What a sampler writes has the law it should have; the exact denoiser makes that checkable."""

import math
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from checks import assert_law, assert_mean, chain, generator, golden, random_joint
from laws import ancestral_law, blank, counts_of, divergence, run
from unmask.diffusion.denoiser import DenoiserWrapper
from unmask.diffusion.processes.absorbing import AbsorbingProcess
from unmask.diffusion.rng import RowRng
from unmask.diffusion.schedules.continuous import Cosine, Polynomial, Schedule
from unmask.diffusion.schedules.grids import given_grid, time_grid
from unmask.evaluation.oracles.joint import JointOracle
from unmask.sampling.canvas import Canvas, Frame
from unmask.sampling.policies.base import Move, Policy
from unmask.sampling.policies.fixed_order import RandomOrder
from unmask.sampling.sampler import sample
from unmask.sampling.samplers.registry import SAMPLERS, make_sampler
from unmask.sampling.token_sampling import Draw


def written(
    oracle: JointOracle,
    rows: int,
    grid: Tensor,
    policy=None,
    schedule: Schedule | None = None,
) -> list[Frame]:
    return run(oracle, policy or RandomOrder(), blank(oracle, rows), grid, schedule=schedule)


@dataclass(frozen=True)
class OneAtATime(Policy):
    """Reveals one masked position a step, in random order: a policy of a user's own."""

    def candidates(self, canvas, clock, rng):
        order = rng.uniform("order", 0, canvas.ids.shape[1]).masked_fill(~canvas.masked, 2)
        return (order == order.amin(1, keepdim=True)) & canvas.masked

    def choose(self, canvas, candidates, prediction, clock, rng):
        return Move(candidates)


def test_one_token_a_step_has_exactly_the_law_of_the_data():
    oracle = random_joint()
    frames = written(oracle, 20_000, time_grid(4), OneAtATime())
    assert [int(f.revealed.sum(1).unique()) for f in frames[1:]] == [1] * 4
    assert_law(counts_of(frames[-1].canvas.ids, 3), oracle.probs)


def test_ancestral_in_one_step_draws_from_the_marginals():
    frames = written(golden(), 20_000, time_grid(1))
    law = torch.tensor([[0.42, 0.28], [0.18, 0.12]])
    assert_law(counts_of(frames[-1].canvas.ids, 2), law)
    process = AbsorbingProcess(Polynomial(), 2)
    assert ancestral_law(golden(), process, time_grid(1)).tolist() == pytest.approx(
        law.flatten().tolist()
    )


@pytest.mark.parametrize(
    ("steps", "schedule", "kind"),
    [(2, Polynomial(), "uniform"), (4, Cosine(), "uniform"), (3, Polynomial(2.0), "cosine")],
)
def test_ancestral_has_the_law_of_its_steps(steps, schedule, kind):
    oracle, grid = random_joint(), time_grid(steps, kind)
    frames = written(oracle, 15_000, grid, schedule=schedule)
    process = AbsorbingProcess(schedule, oracle.mask_token_id)
    assert_law(counts_of(frames[-1].canvas.ids, 3), ancestral_law(oracle, process, grid))


@pytest.mark.parametrize("times", [[1, 0], [1, 0.9, 0], [1, 0.97, 0.4, 0.39, 0.1, 0]])
def test_ancestral_has_the_law_of_any_grid(times):
    oracle, grid = random_joint(), given_grid(times)
    frames = written(oracle, 15_000, grid)
    assert len(frames) == len(times)
    process = AbsorbingProcess(Polynomial(), oracle.mask_token_id)
    assert_law(counts_of(frames[-1].canvas.ids, 3), ancestral_law(oracle, process, grid))


def test_the_same_times_are_the_same_grid_whoever_gives_them():
    for kind in ("uniform", "cosine"):
        grid = time_grid(7, kind)
        assert torch.equal(given_grid(grid.tolist()), grid)


def test_ancestral_in_many_steps_has_nearly_the_law_of_the_data():
    frames = written(golden(), 15_000, time_grid(64))
    process = AbsorbingProcess(Polynomial(), 2)
    law = ancestral_law(golden(), process, time_grid(64))
    assert_law(counts_of(frames[-1].canvas.ids, 2), law)
    kl = [
        divergence(golden().probs, ancestral_law(golden(), process, time_grid(n))) for n in (1, 64)
    ]
    assert kl[0] == pytest.approx(0.063269, abs=1e-6)
    assert kl[1] < kl[0] / 64
    # 15,000 samples would not tell this law from the true one.
    assert_law(counts_of(frames[-1].canvas.ids, 2), golden().probs)


@pytest.mark.parametrize("schedule", [Polynomial(), Cosine()])
def test_the_network_is_conditioned_on_the_time_of_the_canvas(schedule):
    """The time of each frame is the one before the step: its mask rate is that of the canvas."""
    frames = written(random_joint(2, 8), 2000, time_grid(6), schedule=schedule)
    for before, frame in pairwise(frames):
        rate = schedule.mask_prob(frame.time)
        assert len(rate.unique()) == 1
        share = before.canvas.masked.double().mean(1)
        if rate[0] == 1:
            assert (share == 1).all()
        else:
            assert_mean(share, rate[0].item())


def test_infilling_has_the_conditional_law():
    """Given tokens are conditioned on, wherever they stand."""
    oracle = random_joint()
    canvas = Canvas.from_rows([[None, 2, None, 0]] * 10_000, 3, 0)
    process = AbsorbingProcess(Polynomial(), 3)
    rng = RowRng(torch.arange(10_000))
    frames = list(sample(oracle, process, canvas, OneAtATime(), Draw(), time_grid(2), rng))
    ids = frames[-1].canvas.ids
    assert (ids[:, 1] == 2).all()
    assert (ids[:, 3] == 0).all()
    law = oracle.probs[:, 2, :, 0]
    assert_law(counts_of(ids[:, [0, 2]], 3), law / law.sum())


def test_confidence_is_the_probability_that_a_token_had_when_written():
    oracle = random_joint()
    frames = written(oracle, 200, time_grid(3))
    for before, frame in pairwise(frames):
        prediction = oracle(before.canvas.ids, frame.time).exp()
        expected = prediction.gather(2, frame.canvas.ids.clamp_max(2)[..., None])[..., 0]
        new = frame.revealed
        assert torch.allclose(frame.confidence[new].double(), expected[new], rtol=1e-5)
        assert torch.equal(frame.confidence.isnan(), frame.canvas.masked)


def test_calls_of_the_network_follow_their_formula():
    """A step that reveals nothing costs nothing: T (1 - (1 - 1/T)^N) calls on average."""
    oracle, steps, length = random_joint(2, 8), 16, 8
    process = AbsorbingProcess(Polynomial(), 2)
    calls = []
    for seed in range(150):
        rng, canvas = RowRng(torch.tensor([seed])), Canvas.from_rows([[None] * length], 2, 2)
        frames = list(sample(oracle, process, canvas, RandomOrder(), Draw(), time_grid(steps), rng))
        calls.append(frames[-1].nfe)
        assert calls[-1] == sum(bool(f.revealed.any()) for f in frames)
    assert_mean(torch.tensor(calls), steps * (1 - (1 - 1 / steps) ** length))


def test_damaged_weights_are_one_clear_sentence():
    class Damaged(JointOracle):
        def __call__(self, xt, t, *, at=None, valid=None):
            return super().__call__(xt, t, at=at, valid=valid) * math.nan

    process = AbsorbingProcess(Polynomial(), 2)
    frames = sample(
        Damaged(golden().probs),
        process,
        Canvas.from_rows([[None] * 2], 2, 2),
        RandomOrder(),
        Draw(),
        time_grid(1),
        RowRng(torch.zeros(1).long()),
    )
    next(frames)
    with pytest.raises(ValueError, match="damaged"):
        next(frames)


def test_rows_of_a_chain_do_not_depend_on_neighbours_or_padding():
    """A row alone, among others and next to longer rows is the same text."""
    markov = chain()
    process = AbsorbingProcess(Polynomial(), 3)
    rows = [[0, None, None, None], [None] * 9, [None, 2, None, None, 1, None]]
    seeds = torch.randint(2**62, (3,), generator=generator(0))
    grid = time_grid(5)
    together = sample(
        markov, process, Canvas.from_rows(rows, 3, 77), RandomOrder(), Draw(), grid, RowRng(seeds)
    )
    last = list(together)[-1].canvas
    assert (last.ids[~last.valid] == 77).all()
    for i, row in enumerate(rows):
        alone = sample(
            markov,
            process,
            Canvas.from_rows([row], 3, 77),
            RandomOrder(),
            Draw(),
            grid,
            RowRng(seeds[i : i + 1]),
        )
        assert list(alone)[-1].canvas.ids[0].tolist() == last.ids[i, : len(row)].tolist()


WRITING_ONLY = [name for name, kind in SAMPLERS.items() if not kind().policy.revises]


@pytest.mark.parametrize("name", WRITING_ONLY)
@pytest.mark.parametrize("steps", [3, 12, 40])
def test_no_row_is_queried_twice_while_it_stays_the_same(name, steps):
    """So memoising a network without time conditioning would gain nothing."""
    markov, sampler = chain(), make_sampler(name, steps=steps)
    asked: list[tuple[int, ...]] = []

    class Asked(DenoiserWrapper):
        mask_token_id = markov.mask_token_id

        def __call__(self, xt, t, *, at=None, valid=None):
            asked.extend((row, *xt[row].tolist()) for row in at.any(1).nonzero()[:, 0].tolist())
            return self.inner(xt, t, at=at, valid=valid)

    frames = run(Asked(markov), sampler.policy, [[None] * 14] * 9, sampler.times(14))
    assert not frames[-1].canvas.masked.any()
    assert len(asked) == len(set(asked)) > 9
