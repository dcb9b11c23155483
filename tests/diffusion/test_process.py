"""The forward process: rates, what it must not touch, and its posterior as a distribution."""

from itertools import combinations, pairwise

import pytest
import torch
from scipy.stats import beta

from checks import SCHEDULES, assert_law, assert_mean, generator
from unmask.diffusion.processes.absorbing import AbsorbingProcess, bert_replacement
from unmask.diffusion.schedules.grids import time_grid

MASK = 9


def every_row(count: int, length: int) -> torch.Tensor:
    return torch.ones(count, length, dtype=torch.bool)


@pytest.mark.parametrize("name", SCHEDULES)
def test_corrupt_masks_at_the_mask_rate(name):
    process = AbsorbingProcess(SCHEDULES[name], MASK)
    x0 = torch.randint(9, (20_000, 3), generator=generator(0))
    # The geometric schedule is nearly clean until late.
    t = torch.tensor([0.9 if name == "geometric" else 0.4], dtype=torch.float64)
    noised = process.corrupt(x0, t.expand(20_000), every_row(20_000, 3), generator(1))
    for column in range(3):
        rate = process.schedule.mask_prob(t).item()
        assert_mean(noised.masked[:, column], rate)
    assert torch.equal(noised.ids, torch.where(noised.masked, MASK, x0))


def test_tokens_are_masked_independently():
    process = AbsorbingProcess(SCHEDULES["linear"], MASK)
    t = torch.full((40_000,), 0.3)
    x0 = torch.zeros(40_000, 3, dtype=torch.int64)
    masked = process.corrupt(x0, t, every_row(40_000, 3), generator(2)).masked
    pattern = (masked * torch.tensor([4, 2, 1])).sum(1)
    probs = torch.tensor(
        [0.3 ** bin(i).count("1") * 0.7 ** (3 - bin(i).count("1")) for i in range(8)]
    )
    assert_law(pattern.bincount(minlength=8), probs)


def test_each_row_has_its_own_time():
    process = AbsorbingProcess(SCHEDULES["linear"], MASK)
    t = torch.tensor([1e-9, 1.0], dtype=torch.float64)
    masked = process.corrupt(torch.zeros(2, 500).long(), t, every_row(2, 500), generator(3)).masked
    assert masked.sum(1).tolist() == [0, 500]


@pytest.mark.parametrize("exact", [False, True])
def test_given_tokens_are_never_masked(exact):
    process = AbsorbingProcess(SCHEDULES["linear"], MASK)
    editable = torch.rand(200, 10, generator=generator(4)) < 0.5
    x0 = torch.randint(9, (200, 10), generator=generator(5))
    if exact:
        noised, _ = process.corrupt_exactly(x0, editable.sum(1), editable, generator(6))
    else:
        noised = process.corrupt(x0, torch.ones(200), editable, generator(6))
    assert torch.equal(noised.masked, editable)
    assert torch.equal(noised.ids[~editable], x0[~editable])


def test_corrupt_exactly_masks_that_many():
    process = AbsorbingProcess(SCHEDULES["linear"], MASK)
    editable = torch.rand(300, 12, generator=generator(7)) < 0.7
    count = (editable.sum(1) * torch.rand(300, generator=generator(8))).long()
    noised, _ = process.corrupt_exactly(torch.zeros(300, 12).long(), count, editable, generator(9))
    assert torch.equal(noised.masked.sum(1), count)
    assert not (noised.masked & ~editable).any()


@pytest.mark.parametrize("name", ["linear", "cosine", "log-linear"])
def test_corrupt_exactly_draws_the_time_of_its_count(name):
    """Given k of L masks the mask rate has the law Beta(k, L - k + 1), whichever they are."""
    process = AbsorbingProcess(SCHEDULES[name], MASK)
    editable = every_row(30_000, 6)
    editable[:, 1] = False
    x0, count = torch.zeros(30_000, 6, dtype=torch.int64), torch.full((30_000,), 2)
    noised, t = process.corrupt_exactly(x0, count, editable, generator(11))
    rate = process.schedule.mask_prob(t) / process.schedule.mask_prob(torch.ones(1).double())
    cells = torch.linspace(0, 1, 11, dtype=torch.float64)
    law = torch.tensor(beta.cdf(cells, 2, 4)).diff()
    for rows in (noised.masked[:, 0], ~noised.masked[:, 0]):
        counts = torch.bucketize(rate[rows], cells[1:-1]).bincount(minlength=10)
        assert_law(counts[:8], law[:8] / law[:8].sum())
    nothing, t = process.corrupt_exactly(x0, 0 * count, editable, generator(12))
    assert not nothing.masked.any()
    assert t.max() < 1e-12


def test_corrupt_exactly_takes_every_subset_equally_often():
    process = AbsorbingProcess(SCHEDULES["linear"], MASK)
    editable = every_row(30_000, 5)
    editable[:, 1] = False
    count = torch.full((30_000,), 2)
    x0 = torch.zeros(30_000, 5, dtype=torch.int64)
    masked = process.corrupt_exactly(x0, count, editable, generator(10))[0].masked
    pattern = (masked * 2 ** torch.arange(5)).sum(1)
    subsets = [2**i + 2**j for i, j in combinations([0, 2, 3, 4], 2)]
    counts = pattern.bincount(minlength=32)
    assert counts[subsets].sum() == 30_000
    assert_law(counts[subsets], torch.full((6,), 1 / 6))


@pytest.mark.parametrize("name", SCHEDULES)
def test_reveal_prob_is_a_chance_and_certain_at_zero(name):
    process = AbsorbingProcess(SCHEDULES[name], MASK)
    t = torch.linspace(0.01, 1, 50, dtype=torch.float64)
    assert (process.reveal_prob(t, torch.zeros_like(t)) == 1).all()
    u = process.reveal_prob(t[1:], t[:-1])
    assert ((u > 0) & (u < 1)).all()
    # The log-SNR form that MD4's code uses, except where alpha is too near 1 to divide by.
    schedule = process.schedule
    alpha = schedule.alpha(t)
    gamma = torch.log(alpha) - torch.log(schedule.mask_prob(t))
    other = -torch.expm1(gamma[1:-1] - gamma[:-2]) * alpha[:-2]
    assert torch.allclose(u[:-1], other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", SCHEDULES)
def test_posterior_rows_are_distributions(name):
    process = AbsorbingProcess(SCHEDULES[name], 3)
    xt = torch.tensor([[0, 3, 3, 1]])
    x0 = torch.tensor([[0, 2, 1, 1]])
    for t, s in [(1.0, 0.0), (1.0, 0.5), (0.5, 0.25), (0.5, 0.0), (1e-6, 0.0)]:
        times = (torch.tensor([x], dtype=torch.float64) for x in (t, s))
        q = process.posterior(xt, x0, *times, vocab_size=4)
        assert (q >= 0).all()
        assert torch.allclose(q.sum(-1), torch.ones(1, 4).double(), atol=1e-12)
        assert q[0, 0, 0] == 1
        assert q[0, 3, 1] == 1
        assert q[0, 1, [0, 1]].sum() == 0
        assert q[0, 2, [0, 2]].sum() == 0


@pytest.mark.parametrize("name", SCHEDULES)
def test_posteriors_compose_to_the_forward_process(name):
    """From all masks down the grid, the law at every time is q(x_t | x_0), and x_0 at the end."""
    process = AbsorbingProcess(SCHEDULES[name], 3)
    x0, mask = torch.tensor([[2]]), torch.tensor([[3]])
    # A schedule may end a little above alpha(1) = 0: geometric at 2e-9, log-linear at 1e-3.
    visible = process.schedule.alpha(torch.ones(1).double()).item()
    law = torch.tensor([0, 0, visible, 1 - visible], dtype=torch.float64)
    for t, s in pairwise(time_grid(7)[:, None]):
        law = law @ torch.stack(
            [process.posterior(torch.tensor([[v]]), x0, t, s, 4)[0, 0] for v in range(4)]
        )
        hidden = process.schedule.mask_prob(s).item() if s > 0 else 0.0
        assert law[mask[0, 0]].item() == pytest.approx(hidden, abs=1e-12)
        assert law[2].item() == pytest.approx(1 - hidden, abs=1e-12)


def test_simulated_posterior_ends_in_x0():
    process = AbsorbingProcess(SCHEDULES["cosine"], 3)
    gen = generator(11)
    x0 = torch.randint(3, (5000, 4), generator=gen)
    xt = torch.full_like(x0, 3)
    for t, s in pairwise(time_grid(5)):
        q = process.posterior(xt, x0, t.expand(5000), s.expand(5000), 4)
        xt = torch.multinomial(q.view(-1, 4), 1, generator=gen).view(5000, 4)
        if s > 0:
            assert_mean((xt == 3).flatten(), process.schedule.mask_prob(s).item())
    assert torch.equal(xt, x0)


@pytest.mark.parametrize("name", SCHEDULES)
def test_time_of_a_canvas_has_its_masked_share(name):
    process = AbsorbingProcess(SCHEDULES[name], MASK)
    editable = every_row(5, 8)
    editable[:, 6:] = False
    masked = torch.arange(8) < torch.tensor([[0], [1], [3], [5], [6]])
    times = process.time_of(masked, editable)
    share = process.schedule.mask_prob(times)
    expected = torch.tensor([0, 1, 3, 5, 6]) / 6
    reached = expected.double().clamp_max(process.schedule.mask_prob(torch.ones(1).double()).item())
    assert share.tolist() == pytest.approx(reached.tolist(), abs=1.1e-5)
    assert times[0] == pytest.approx(0, abs=1e-12)
    assert times[4] == pytest.approx(1, abs=1e-12)


def test_eighty_ten_ten():
    x0 = torch.randint(4, (30_000, 4), generator=generator(12))
    selected = torch.rand(30_000, 4, generator=generator(13)) < 0.5
    random_ids = torch.arange(100, 110)
    xt = bert_replacement(x0, selected, MASK, random_ids, generator(14))
    assert torch.equal(xt[~selected], x0[~selected])
    new, old = xt[selected], x0[selected]
    assert_mean(new == MASK, 0.8)
    assert_mean(new >= 100, 0.1)
    assert_mean(new == old, 0.1)
    assert_law(new[new >= 100].bincount(minlength=110)[100:], torch.full((10,), 0.1))
