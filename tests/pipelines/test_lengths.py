"""The length of a blank is drawn from its posterior given the rest of the text."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from checks import SCHEDULES, Recorder, assert_law, chain
from unmask import Unmasker
from unmask.diffusion.formulation import AnyOrderFormulation, MaskedFormulation
from unmask.diffusion.processes.absorbing import AbsorbingProcess
from unmask.diffusion.schedules.continuous import Cosine
from unmask.errors import UserError
from unmask.evaluation.oracles.joint import MarkovOracle
from unmask.models.checkpoint import Card
from unmask.pipelines import rerank
from unmask.pipelines.layout_options import LENGTH_RULES
from unmask.pipelines.prompts import Rows
from unmask.pipelines.request import GenerationRequest
from unmask.sampling.canvas import Canvas

TEMPLATE = [0, 2, None, 1, 1, 0]
LONGEST = 6


def independent() -> MarkovOracle:
    """Independent tokens, common and rare: the rest of a text says nothing about a length."""
    probs = torch.tensor([0.6, 0.3, 0.09, 0.01], dtype=torch.float64)
    return MarkovOracle(probs, probs.expand(4, 4))


def cycle() -> MarkovOracle:
    """A chain that mostly runs 0, 1, 2, 0, ..., so that two tokens tell how far apart they are."""
    rows = torch.tensor([[0.2, 0.7, 0.1], [0.1, 0.2, 0.7], [0.7, 0.1, 0.2]], dtype=torch.float64)
    return MarkovOracle(torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64), rows)


def method_of(oracle: MarkovOracle) -> MaskedFormulation:
    return MaskedFormulation(AbsorbingProcess(SCHEDULES["linear"], oracle.mask_token_id))


def rows_of(template: list[int | None], longest: int = LONGEST) -> list[list[int | None]]:
    """Return a template with 1, 2, ... tokens in its blank."""
    i = template.index(None)
    return [[*template[:i], *[None] * n, *template[i + 1 :]] for n in range(1, longest + 1)]


def plan_of(templates: list[list[int | None]], mask: int, samples: int = 1, seed: int = 0) -> Rows:
    rows, choices = [], []
    for template in templates:
        own = rows_of(template)
        choices += [list(range(len(rows), len(rows) + len(own)))] * samples
        rows += own
    seeds = (seed + torch.arange(samples)).repeat(len(templates))
    return Rows(Canvas.from_rows(rows, mask, mask), seeds, choices, [(0,)] * len(rows))


def nats_of(oracle, template: list[int | None], draws: int = 16, seed: int = 0) -> Tensor:
    plan = plan_of([template], oracle.mask_token_id, seed=seed)
    nats, nfe = rerank.given_nats(plan, 0, oracle, method_of(oracle), draws)
    assert nfe == draws
    return nats


def true_nats(oracle: MarkovOracle, row: list[int | None]) -> float:
    """Return -log p(given tokens at their places), by the chain rule with powers of the matrix."""
    known = [(i, token) for i, token in enumerate(row) if token is not None]
    place, token = known[0]
    marginal = oracle.initial @ torch.linalg.matrix_power(oracle.transition, place)
    log_prob = marginal[token].log()
    for (i, a), (j, b) in pairwise(known):
        log_prob += torch.linalg.matrix_power(oracle.transition, j - i)[a, b].log()
    return -float(log_prob)


@pytest.mark.parametrize("template", [[0, 0, None, 0, 1], [3, 3, None, 2, 3], [0, 3, None]])
def test_where_tokens_are_independent_all_lengths_are_as_likely(template):
    posterior = torch.softmax(-nats_of(independent(), template), 0)
    assert torch.allclose(posterior, torch.full_like(posterior, 1 / LONGEST), atol=1e-9)


@pytest.mark.parametrize("template", [TEMPLATE, [1, 0, None, 2, 2], [None, 2, 0], [0, None, 2]])
def test_the_posterior_of_a_chain_is_the_true_one(template):
    oracle = cycle()
    truth = torch.tensor([true_nats(oracle, row) for row in rows_of(template)]).double()
    expected = torch.softmax(-truth, 0)
    assert float(expected.max() - expected.min()) > 0.04, "this template tells nothing"
    found = torch.softmax(-nats_of(oracle, template, draws=4000), 0)
    assert float((found - expected).abs().max()) < 0.006
    # With few draws each seed estimates the same likelihood without a bias; false alarms 7e-6.
    few = torch.stack([nats_of(oracle, template, draws=3, seed=seed) for seed in range(300)])
    error = few.std(0) / len(few) ** 0.5
    assert bool(((few.mean(0) - truth).abs() < 4.5 * error + 1e-9).all())


def test_lengths_of_two_blanks_are_judged_together():
    oracle = cycle()
    sizes = [(n, m) for n in range(1, 4) for m in range(1, 4)]
    rows = [[2, *[None] * n, 0, *[None] * m, 1] for n, m in sizes]
    canvas = Canvas.from_rows(rows, oracle.mask_token_id, 0)
    plan = Rows(canvas, torch.zeros(1, dtype=torch.int64), [list(range(len(rows)))], sizes)
    nats, _ = rerank.given_nats(plan, 0, oracle, method_of(oracle), 1000)
    truth = torch.tensor([true_nats(oracle, row) for row in rows]).double()
    gap = torch.softmax(-nats, 0) - torch.softmax(-truth, 0)
    assert float(gap.abs().max()) < 0.005


class InOrder(MarkovOracle):
    """Exact conditionals of every order of a chain."""

    def conditionals(self, x0, rank, at, valid=None):
        logits = []
        for row, column in at.nonzero().tolist():
            seen = rank[row] < rank[row, column]
            xt = x0[row].where(seen, torch.tensor(self.mask_token_id))[None]
            known = None if valid is None else valid[row][None]
            logits.append(self(xt, torch.ones(1), valid=known)[0, column])
        return torch.stack(logits)

    def session(self, cached=True):
        return self


def test_a_network_that_knows_every_order_needs_one_draw():
    oracle = InOrder(cycle().initial, cycle().transition)
    plan = plan_of([TEMPLATE, [None, 2, 0]], oracle.mask_token_id)
    nats, nfe = rerank.given_nats(
        plan, 0, oracle, AnyOrderFormulation(method_of(oracle).process), 1
    )
    rows = rows_of(TEMPLATE) + rows_of([None, 2, 0])
    truth = torch.tensor([true_nats(oracle, row) for row in rows]).double()
    assert nfe == 1
    assert torch.allclose(nats, truth, atol=1e-6)


def test_every_length_sees_the_same_masks_and_the_time_that_they_are_of():
    oracle, start = chain(), 1
    recorder = Recorder(oracle)
    recorder.mask_token_id = mask = oracle.mask_token_id
    template = [2, *TEMPLATE]
    plan = plan_of([template], mask, seed=3)
    process = AbsorbingProcess(Cosine(), mask)
    rerank.given_nats(plan, start, recorder, MaskedFormulation(process))
    given = plan.canvas.given(start)
    assert bool(given[:, 0].sum() == 0)
    counts = []
    for xt, t, at in recorder.calls:
        assert bool((xt[plan.canvas.masked] == mask).all()), "a token of the blank is visible"
        assert bool((xt[:, 0] == 2).all()), "the start symbol is masked"
        assert bool((at <= given).all())
        patterns = at[given].view(LONGEST, -1)
        assert bool((patterns == patterns[0]).all())
        counts.append(int(patterns[0].sum()))
        share = (xt == mask)[:, start:].logical_and(plan.canvas.valid[:, start:]).sum(1)
        share = share / plan.canvas.valid[:, start:].sum(1)
        assert torch.allclose(process.schedule.mask_prob(t), share.double(), atol=1e-6)
    assert sorted(set(counts)) == list(range(1, 6)), "every number of given tokens is masked"
    assert len({xt[0].ne(mask).sum() for xt, _, _ in recorder.calls}) > 1


def test_an_estimate_does_not_depend_on_its_batch_or_the_number_of_samples(monkeypatch):
    oracle = chain()
    templates = [TEMPLATE, [1, None, 0, 0, 2, 1, 2], [None, 2, 2]]
    plan = plan_of(templates, oracle.mask_token_id, samples=5, seed=2)
    together, _ = rerank.given_nats(plan, 0, oracle, method_of(oracle))
    alone = torch.cat([nats_of(oracle, template, seed=2) for template in templates])
    assert torch.allclose(together, alone, atol=1e-9)
    kept = rerank.choose_rows(plan, together, "sample")
    for number, template in enumerate(templates):
        own = plan_of([template], oracle.mask_token_id, samples=3, seed=2)
        rows = rerank.choose_rows(own, alone[number * LONGEST :][:LONGEST], "sample")
        assert [row - number * LONGEST for row in kept[5 * number :][:3]] == rows
    # A few rows at a time, as where they are many.
    monkeypatch.setattr(rerank, "MAX_LOGITS", 50)
    pieces, _ = rerank.given_nats(plan, 0, oracle, method_of(oracle))
    assert torch.allclose(together, pieces, atol=1e-9)


def test_lengths_are_chosen_as_often_as_they_are_likely():
    oracle, count = chain(), 20_000
    nats = nats_of(oracle, TEMPLATE)
    plan = plan_of([TEMPLATE], oracle.mask_token_id, samples=count)
    rows = torch.tensor(rerank.choose_rows(plan, nats, "sample"))
    assert_law(rows.bincount(minlength=LONGEST), torch.softmax(-nats, 0))
    best = rerank.choose_rows(plan, nats, "likeliest")
    assert set(best) == {int(nats.argmin())}


@pytest.mark.parametrize("rule", LENGTH_RULES)
def test_without_anything_given_every_length_is_as_frequent(rule):
    oracle = independent()
    plan = plan_of([[None]], oracle.mask_token_id, samples=6000)
    recorder = Recorder(oracle)
    nats, nfe = rerank.given_nats(plan, 0, recorder, method_of(oracle))
    assert nfe == 0 == len(recorder.calls)
    rows = torch.tensor(rerank.choose_rows(plan, nats, rule))
    assert_law(rows.bincount(minlength=LONGEST), torch.full((LONGEST,), 1 / LONGEST))


def test_a_tie_but_for_rounding_is_broken_by_the_seed():
    plan = plan_of([[0, None]], 4, samples=6000)
    nats = torch.tensor([700.0, 699.0, 699.00003, 704.0, 699.00001, 705.0]).double()
    rows = torch.tensor(rerank.choose_rows(plan, nats, "likeliest"))
    law = torch.tensor([0, 1, 1, 0, 1, 0]) / 3
    assert_law(rows.bincount(minlength=LONGEST), law)


def test_a_token_that_is_never_predicted_is_context():
    """An unknown word has probability 0 and would make every length impossible."""
    oracle = chain()
    recorder = Recorder(oracle)
    recorder.data_ids = torch.tensor([0, 1])
    plan = plan_of([TEMPLATE], oracle.mask_token_id)
    rerank.given_nats(plan, 0, recorder, method_of(oracle))
    assert all(bool((xt[:, 1] == 2).all()) for xt, _, _ in recorder.calls)


def test_what_cannot_be_chosen_is_refused(zoo):
    writer = Unmasker.from_pretrained(str(zoo / "bert"))
    uniform = Unmasker(writer.model, writer.codec, Card(process="uniform"))
    with pytest.raises(UserError, match="lengths is not supported for uniform-noise models"):
        uniform.infill("The [MASK:1-3].", steps=1)
    with pytest.raises(UserError, match="choose one of likeliest, sample"):
        GenerationRequest(("The [MASK:1-3].",), choose_length="best")
    with pytest.raises(UserError, match="no blank has a range"):
        writer.infill("The [MASK:3].", choose_length="sample")
