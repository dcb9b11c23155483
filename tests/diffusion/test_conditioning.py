"""What the bound must not depend on: padding, the prompt's cost; and what the network is told."""

import pytest
import torch

from checks import (
    SCHEDULES,
    Recorder,
    assert_mean,
    chain,
    draw_rows,
    generator,
    random_joint,
)
from unmask.diffusion.objectives.masked import (
    continuous_nelbo,
    discrete_nelbo,
    exact_k_nelbo,
    masked_mean,
)
from unmask.diffusion.processes.absorbing import AbsorbingProcess
from unmask.diffusion.schedules.grids import stratified_times

PAD = 77


def padded(x0: torch.Tensor, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return x0 with padding at the right, and which positions are valid."""
    pad = torch.full((len(x0), columns), PAD)
    valid = torch.ones(len(x0), x0.shape[1] + columns, dtype=torch.bool)
    valid[:, x0.shape[1] :] = False
    return torch.cat([x0, pad], 1), valid


@pytest.mark.parametrize("estimate", [continuous_nelbo, exact_k_nelbo])
def test_padding_changes_nothing_where_all_is_masked(estimate):
    """At t = 1 no chance is left, so the values must be equal and not only alike."""
    markov = chain()
    process = AbsorbingProcess(SCHEDULES["linear"], 3)
    x0 = draw_rows(markov.joint(5), 50, 0)
    t = torch.ones(50, dtype=torch.float64)
    plain = estimate(markov, process, x0, t, torch.ones_like(x0).bool(), generator(1))
    rows, valid = padded(x0, 4)
    wide = estimate(markov, process, rows, t, valid, generator(1), valid)
    assert torch.allclose(plain.nats, wide.nats, rtol=1e-12)
    assert torch.equal(plain.tokens, wide.tokens)


@pytest.mark.parametrize("estimate", [continuous_nelbo, exact_k_nelbo])
def test_the_bound_of_a_padded_row_is_its_likelihood(estimate):
    """L / k means the tokens of the row, not the columns of the batch."""
    markov = chain()
    x = torch.tensor([[0, 0, 1, 2]])
    rows, valid = padded(x.expand(30_000, -1), 6)
    t = stratified_times(30_000, generator(2))
    process = AbsorbingProcess(SCHEDULES["quadratic"], 3)
    loss = estimate(markov, process, rows, t, valid, generator(3), valid)
    assert_mean(loss.nats, -markov.log_prob(x).item())
    assert loss.per_token.item() == pytest.approx(loss.nats.mean().item() / 4)


@pytest.mark.parametrize("estimate", [continuous_nelbo, exact_k_nelbo])
def test_the_bound_is_on_the_editable_tokens_given_the_rest(estimate):
    oracle = random_joint()
    x = torch.tensor([[2, 0, 1, 1]])
    editable = torch.tensor([[False, True, False, True]])
    same_prompt = (oracle.sequences()[:, [0, 2]] == x[:, [0, 2]]).all(1)
    prompt = oracle.probs.flatten()[same_prompt].sum().log()
    expected = (prompt - oracle.log_prob(x)[0]).item()
    recorder = Recorder(oracle)
    process = AbsorbingProcess(SCHEDULES["quadratic"], 3)
    t = stratified_times(20_000, generator(4))
    rows, where = x.expand(20_000, -1), editable.expand(20_000, -1)
    loss = estimate(recorder, process, rows, t, where, generator(5))
    assert_mean(loss.nats, expected)
    assert (loss.tokens == 2).all()
    ((xt, _, at),) = recorder.calls
    assert torch.equal(xt[:, [0, 2]], rows[:, [0, 2]])
    assert not at[:, [0, 2]].any()


def assert_time_fits(recorder: Recorder, process: AbsorbingProcess) -> None:
    """Compare masks per row with the time that the network was told; false alarms 7e-6."""
    ((_, t, at),) = recorder.calls
    rate = process.schedule.mask_prob(t.double())
    length = at.shape[1]
    excess = (at.sum(1) - length * rate).sum()
    spread = (length * rate * (1 - rate)).sum().sqrt()
    # And with weights that tell a reversed or shifted time even if the mean is right.
    slope = ((at.sum(1) - length * rate) * (t - t.mean())).sum()
    slope_spread = (length * rate * (1 - rate) * (t - t.mean()).square()).sum().sqrt()
    assert abs(excess) < 4.5 * spread
    assert abs(slope) < 4.5 * slope_spread


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_network_is_conditioned_on_the_time_of_its_masks(name):
    process = AbsorbingProcess(SCHEDULES[name], 3)
    x0 = draw_rows(chain().joint(8), 4000, 6)
    everywhere = torch.ones_like(x0).bool()
    t = stratified_times(4000, generator(7))
    recorder = Recorder(chain())
    continuous_nelbo(recorder, process, x0, t, everywhere, generator(8))
    assert_time_fits(recorder, process)
    recorder = Recorder(chain())
    discrete_nelbo(recorder, process, x0, t, 4, everywhere, generator(9))
    assert_time_fits(recorder, process)
    assert recorder.calls[0][1].unique().tolist() == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("name", ["linear", "quadratic", "cosine"])
def test_exact_k_tells_a_time_of_its_count(name):
    process = AbsorbingProcess(SCHEDULES[name], 3)
    x0 = draw_rows(chain().joint(8), 400, 10)
    recorder = Recorder(chain())
    t = stratified_times(400, generator(11))
    exact_k_nelbo(recorder, process, x0, t, torch.ones_like(x0).bool(), generator(12))
    ((_, told, at),) = recorder.calls
    # The mask rate at which exactly k of L tokens are masked is k / (L + 1) on average.
    mask_rate = process.schedule.mask_prob(told)
    means = [mask_rate[at.sum(1) == k].mean() for k in range(1, 9)]
    assert torch.stack(means).tolist() == pytest.approx([k / 9 for k in range(1, 9)], abs=0.1)
    # Every k from 1 to L equally often.
    assert at.sum(1).bincount(minlength=9).tolist() == [0] + [50] * 8


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("mask_rate", [0.15, 1.0])
def test_masked_mean_tells_the_time_of_its_rate(name, mask_rate):
    process = AbsorbingProcess(SCHEDULES[name], 3)
    recorder = Recorder(chain())
    x0 = draw_rows(chain().joint(6), 10, 13)
    masked_mean(recorder, process, x0, mask_rate, torch.ones_like(x0).bool(), generator(14))
    ((_, t, _),) = recorder.calls
    # The log-linear schedule has no time at which everything is masked.
    most = process.schedule.mask_prob(torch.ones(1).double()).item()
    expected = [min(mask_rate, most)] * 10
    assert process.schedule.mask_prob(t).tolist() == pytest.approx(expected, abs=1e-8)
    assert ((t >= 0) & (t <= 1)).all()


def test_masked_mean_by_berts_rule_asks_about_unmasked_tokens_too():
    recorder = Recorder(chain())
    process = AbsorbingProcess(SCHEDULES["linear"], 3)
    x0 = draw_rows(chain().joint(6), 20_000, 15)
    everywhere = torch.ones_like(x0).bool()
    masked_mean(recorder, process, x0, 0.5, everywhere, generator(16), eighty_ten_ten=True)
    ((xt, _, at),) = recorder.calls
    assert_mean(at.flatten(), 0.5)
    assert_mean(xt[at] == 3, 0.8)
    # A random id is the true one in a third of the cases here.
    assert_mean((xt[at] != 3) & (xt[at] != x0[at]), 0.1 * (1 - (1 / 3)))
    assert torch.equal(xt[~at], x0[~at])
