"""Answers that are kept are those that the network would give, and are asked for once."""

from dataclasses import replace

import pytest
import torch

from checks import chain, generator
from unmask import Unmasker
from unmask.diffusion.denoiser import DenoiserWrapper, calls_of, uses_time
from unmask.diffusion.processes.absorbing_per_token import PerTokenProcess
from unmask.diffusion.rng import RowRng
from unmask.diffusion.schedules.grids import time_grid
from unmask.diffusion.schedules.per_token import spindle
from unmask.models.time_conditioning import attach
from unmask.sampling.canvas import Canvas
from unmask.sampling.memoize import Reused
from unmask.sampling.policies.fixed_order import ByToken
from unmask.sampling.sampler import sample
from unmask.sampling.token_sampling import Draw


class Asked(DenoiserWrapper):
    """An exact denoiser that notes how many positions of each row are queried."""

    def __init__(self) -> None:
        super().__init__(chain())
        self.__dict__["rows"] = []

    def __call__(self, xt, t, *, at=None, valid=None):
        self.rows.append(at.sum(1).tolist())
        return self.inner(xt, t, at=at, valid=valid)


def test_every_answer_is_that_of_the_network():
    """Rows, what is asked of them and what is valid change now and then, each by itself."""
    inner, rng = Asked(), generator(5)
    reused, mask = Reused(inner), chain().mask_token_id
    xt = torch.full((4, 9), mask)
    at = torch.ones_like(xt, dtype=torch.bool)
    valid = at.clone()
    kept = 0
    for _ in range(60):
        row, column = (int(torch.randint(n, (), generator=rng)) for n in (4, 9))
        which = int(torch.randint(5, (), generator=rng))
        xt, at, valid = xt.clone(), at.clone(), valid.clone()
        if which == 0:
            xt[row, column] = int(torch.randint(mask + 1, (), generator=rng))
        if which == 1:
            at[row, column] ^= True
        if which == 2:
            valid[row, column] ^= True
        wanted = reused(xt, torch.ones(4), at=at, valid=valid)
        assert torch.equal(wanted, inner.inner(xt, torch.ones(4), at=at, valid=valid))
        kept += reused.network_calls == 0
    assert 15 < kept < 40
    # Of the rows only those that have changed are queried, all positions of them.
    assert all(sum(n > 0 for n in rows) == 1 for rows in inner.rows[1:])


def test_another_batch_or_a_question_about_everything():
    reused, t = Reused(chain()), torch.ones(2)
    xt = torch.full((2, 5), chain().mask_token_id)
    everything = reused(xt, t)
    assert everything.shape == (2, 5, chain().vocab_size)
    assert torch.equal(reused(xt, t), everything)
    assert calls_of(reused) == 0
    assert reused(xt[:1, :3], t[:1]).shape == (1, 3, chain().vocab_size)
    assert calls_of(reused) == 1


def test_a_sampler_writes_the_same_with_fewer_calls():
    """In 200 steps each of 8 tokens is written once, so most steps change nothing."""
    exact = chain()
    schedule = spindle(torch.arange(1, exact.vocab_size + 1), exact.vocab_size, exact.data_ids)
    process = PerTokenProcess(schedule, exact.mask_token_id)
    canvas = Canvas.from_rows([[None] * 8] * 3, exact.mask_token_id, exact.mask_token_id)

    def frames(denoiser):
        rng, grid = RowRng(torch.arange(3)), time_grid(200)
        return list(sample(denoiser, process, canvas, ByToken(), Draw(), grid, rng))

    plain, reused = frames(exact), frames(Reused(exact))
    for one, other in zip(plain, reused, strict=True):
        assert torch.equal(one.canvas.ids, other.canvas.ids)
        assert torch.equal(one.confidence.nan_to_num(), other.confidence.nan_to_num())
    # A row that has just been finished is not queried either.
    open_rows = [frame.revealed.any(1) & frame.canvas.masked.any(1) for frame in plain[:-1]]
    assert reused[-1].nfe == 1 + sum(bool(rows.any()) for rows in open_rows) <= 1 + 3 * 8
    assert plain[-1].nfe == len(open_rows) > 100


@pytest.mark.parametrize("cache", ["exact", "off"])
def test_only_a_model_that_needs_it_keeps_answers(zoo, cache):
    writer = Unmasker.from_pretrained(str(zoo / "bert"), "cpu", "torch", cache)
    by_word = {"name": "spindle", "strength": 0.3}
    counts = torch.arange(writer.denoiser.vocab_size)
    card = replace(writer.card, schedule=by_word)
    spindled = Unmasker(writer.model, writer.codec, card, counts, cache=cache)
    calls = {w: w.generate("", length=6, steps=90, seed=1).nfe for w in (writer, spindled)}
    assert calls[writer] <= 6
    assert calls[spindled] <= 7 if cache == "exact" else calls[spindled] > 20
    assert not uses_time(spindled.denoiser)
    attach(writer.model, "adaln")
    told = Unmasker(writer.model, writer.codec, card, counts, cache=cache)
    assert uses_time(told.denoiser)
    assert told.generate("", length=6, steps=90, seed=1).nfe > 20
