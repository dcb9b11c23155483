"""What must match does: drawn together with the exact law, whole after every kind of step."""

import itertools
import re
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from checks import assert_law, generator, random_joint
from laws import counts_of
from test_sampler import OneAtATime
from unmask.diffusion.denoiser import Denoiser
from unmask.diffusion.processes.absorbing import AbsorbingProcess
from unmask.diffusion.processes.absorbing_per_token import PerTokenProcess
from unmask.diffusion.processes.uniform import UniformProcess
from unmask.diffusion.rng import RowRng
from unmask.diffusion.schedules.continuous import Polynomial
from unmask.diffusion.schedules.grids import time_grid
from unmask.diffusion.schedules.per_token import spindle
from unmask.errors import UserError
from unmask.evaluation.oracles.joint import JointOracle
from unmask.sampling.canvas import Canvas, Frame
from unmask.sampling.constraints.matching import Allowed, Matching
from unmask.sampling.constraints.token_automaton import Automaton
from unmask.sampling.policies.base import Move, Policy
from unmask.sampling.policies.confidence import MostConfident, Threshold
from unmask.sampling.policies.fixed_order import ByToken, RandomOrder
from unmask.sampling.policies.remasking import Renoise
from unmask.sampling.policies.self_correction import Edited
from unmask.sampling.policies.transition import TransitionReverse
from unmask.sampling.sampler import sample
from unmask.sampling.samplers.registry import SAMPLERS
from unmask.sampling.token_sampling import Draw

# Id 3 has no text, id 4 ends a text.
TEXTS = {0: "a", 1: "b", 2: "ab"}
SIZE, END, MASK, LENGTH = 5, 4, 5, 4
PATTERN = "(ab)*b?|b+a"


def text(ids) -> str | None:
    """Return the text of ids up to an end symbol, None if there is none."""
    ids = list(ids)
    ids = ids[: ids.index(END)] if END in ids else ids
    return "".join(TEXTS[i] for i in ids) if set(ids) <= set(TEXTS) else None


def fits(pattern: str, ids, ends: bool = True) -> bool:
    written = text(ids)
    return (ends or END not in ids) and written is not None and bool(re.fullmatch(pattern, written))


def all_rows(length: int = LENGTH) -> Tensor:
    return torch.cartesian_prod(*[torch.arange(SIZE)] * length).view(-1, length)


def automaton(pattern: str = PATTERN) -> Automaton:
    return Automaton.from_regex(pattern, TEXTS, SIZE)


def blank(rows: int, row=(None,) * LENGTH) -> Canvas:
    return Canvas.from_rows([list(row)] * rows, MASK, pad_token_id=0)


def product(seed: int = 0, scale: float = 1.5) -> Tensor:
    """Return logits of independent predictions, shape (LENGTH, SIZE)."""
    return scale * torch.randn(LENGTH, SIZE, dtype=torch.float64, generator=generator(seed))


def law_of(logits: Tensor, possible: Tensor) -> Tensor:
    """Return the law of independent predictions given that a row is possible, by enumeration."""
    rows = all_rows(len(logits))
    weight = logits.log_softmax(1)[torch.arange(len(logits)), rows].sum(1).exp() * possible
    return weight / weight.sum()


def fitting(pattern: str = PATTERN, ends: bool = True) -> Tensor:
    return torch.tensor([fits(pattern, row, ends) for row in all_rows().tolist()])


def drawn(matching: Matching, draw: Draw, logits: Tensor, canvas: Canvas, wanted=None, seed=3):
    """Draw on every row of a canvas at once; return the rows, and the probabilities."""
    asked = canvas.masked
    wanted = asked if wanted is None else wanted
    u = torch.rand(canvas.ids.shape, dtype=torch.float64, generator=generator(seed))
    predictions = logits.expand(len(canvas.ids), -1, -1)[asked]
    found = matching.draw(draw, predictions, asked, wanted, canvas.ids, u)
    chance = torch.full(canvas.ids.shape, float("nan"))
    ids = canvas.ids.masked_scatter(wanted, found.tokens)
    return ids, chance.masked_scatter(wanted, found.probability)


def assert_rows(ids: Tensor, law: Tensor) -> None:
    """Fail unless rows have a law; what would be seen less than 5 times is left out."""
    counts = counts_of(ids, SIZE)
    assert counts[law == 0].sum() == 0, "something impossible was drawn"
    seen = law * len(ids) >= 5
    assert law[seen].sum() > 0.97
    assert_law(counts[seen], law[seen] / law[seen].sum())


# --- the joint draw ---


@pytest.mark.parametrize("pattern", [PATTERN, "a+b*", "(a|b)*", "b{2}(ab)?"])
def test_the_joint_draw_has_the_law_of_the_predictions_given_a_match(pattern):
    canvas, logits = blank(20_000), product()
    ids, chance = drawn(Matching(canvas, [automaton(pattern)], END), Draw(), logits, canvas)
    law = law_of(logits, fitting(pattern))
    assert_rows(ids, law)
    # The probability that is reported is the marginal of the token, given the match.
    rows = all_rows()
    for place, token in itertools.product(range(LENGTH), range(SIZE)):
        marginal = float(law[rows[:, place] == token].sum())
        reported = chance[:, place][ids[:, place] == token]
        assert torch.allclose(reported, torch.tensor(marginal), rtol=1e-4, atol=1e-6)


def test_what_is_drawn_but_not_wanted_has_the_same_law():
    """Written tokens have their marginal, whichever of the others are written with them."""
    canvas, logits = blank(20_000), product(1)
    wanted = torch.zeros_like(canvas.masked)
    wanted[:, [1, 3]] = True
    ids, _ = drawn(Matching(canvas, [automaton()], END), Draw(), logits, canvas, wanted)
    assert (ids[:, [0, 2]] == MASK).all()
    law = law_of(logits, fitting()).view((SIZE,) * LENGTH).sum((0, 2))
    assert_rows(ids[:, [1, 3]], law.flatten())


def test_temperature_sharpens_the_predictions_and_not_the_match():
    canvas, logits = blank(20_000), product(2)
    ids, _ = drawn(Matching(canvas, [automaton()], None), Draw(temperature=0.5), logits, canvas)
    assert_rows(ids, law_of(2 * logits, fitting(ends=False)))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("draw", [Draw(temperature=0), Draw(temperature=0.8, greedy=True)])
def test_greedy_takes_the_most_likely_matching_text(draw, seed):
    canvas, logits = blank(1), product(seed)
    ids, chance = drawn(Matching(canvas, [automaton()], END), draw, logits, canvas)
    law = law_of(logits, fitting())
    assert ids[0].tolist() == all_rows()[law.argmax()].tolist()
    law = law_of(logits / (draw.temperature or 1), fitting())
    rows = all_rows()
    expected = [float(law[rows[:, i] == ids[0, i]].sum()) for i in range(LENGTH)]
    assert chance[0].tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("draw", [Draw(top_k=1), Draw(top_k=2), Draw(top_p=0.3)])
def test_filters_leave_something_that_matches(draw):
    for seed in range(20):
        canvas = blank(50)
        matching = Matching(canvas, [automaton("(aab|bab)+|bb?")], END)
        ids, _ = drawn(matching, draw, product(seed, 4.0), canvas)
        assert all(fits("(aab|bab)+|bb?", row) for row in ids.tolist())


def test_tokens_that_stand_are_matched_with():
    canvas = blank(20_000)
    canvas = canvas.reveal(torch.tensor([False, True, False, False]), torch.ones_like(canvas.ids))
    logits = product(4)
    ids, _ = drawn(Matching(blank(20_000), [automaton()], END), Draw(), logits, canvas)
    stands = fitting() & (all_rows()[:, 1] == 1)
    assert_rows(ids, law_of(logits, stands))


def test_what_a_network_finds_next_to_impossible_is_still_written():
    logits = torch.zeros(LENGTH, SIZE, dtype=torch.float64)
    logits[:, 1] = -5000
    canvas = blank(40)
    for draw in (Draw(), Draw(temperature=0.1), Draw(temperature=0)):
        ids, _ = drawn(Matching(canvas, [automaton("b+")], None), draw, logits, canvas)
        assert (ids == 1).all()


def test_blanks_of_one_row_are_read_on_their_own():
    row = [None, None, 3, None, 3, None, None, None]
    canvas = blank(300, row)
    patterns = ["ab", "b|ab", "a+b"]
    matching = Matching(canvas, [automaton(p) for p in patterns], None)
    logits = torch.zeros(300, 8, SIZE)
    ids, _ = drawn(matching, Draw(), logits, canvas)
    places = [slice(0, 2), slice(3, 4), slice(5, 8)]
    for found in ids.tolist():
        assert [found[2], found[4]] == [3, 3]
        pairs = zip(patterns, places, strict=True)
        assert all(fits(p, found[place], ends=False) for p, place in pairs)
    # All ways to match are found: "ab" is read in two tokens, "a+b" as a, a, b and a, ab.
    assert {tuple(found[3:4]) for found in ids.tolist()} == {(1,), (2,)}


def test_rows_do_not_depend_on_their_batch():
    rows = [[None] * 3, [0, None, None, 3, None], [None] * 6]
    together = Canvas.from_rows(rows, MASK, 0)
    logits = torch.randn(3, 6, SIZE, generator=generator(5))
    ids, chance = drawn(Matching(together, [automaton("(a|b)*b")], END), Draw(), logits, together)
    u = torch.rand(3, 6, dtype=torch.float64, generator=generator(3))
    for i, row in enumerate(rows):
        canvas = Canvas.from_rows([row], MASK, 0)
        found = Matching(canvas, [automaton("(a|b)*b")], END).draw(
            Draw(),
            logits[i : i + 1, : len(row)][canvas.masked],
            canvas.masked,
            canvas.masked,
            canvas.ids,
            u[i : i + 1, : len(row)],
        )
        mine = together.masked[i]
        assert torch.equal(found.tokens, ids[i][mine])
        assert torch.allclose(found.probability, chance[i][mine])


# --- what is possible, and what is refused ---


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize("pattern", [PATTERN, "a{3,4}", "(ab){5,6}", "a{9}", "ba"])
def test_possible_says_which_lengths_can_match(pattern, ends):
    rows = [[None] * n for n in range(1, 7)]
    canvas = Canvas.from_rows(rows, MASK, 0)
    sets = torch.ones(2, SIZE, dtype=torch.bool)
    sets[1, 0] = False
    for which in (0, 1):
        matching = Matching(canvas, [automaton(pattern)], END if ends else None)
        found = matching.possible(sets, torch.full_like(canvas.ids, which))
        expected = [
            any(
                fits(pattern, ids, ends) and not (which and 0 in ids)
                for ids in itertools.product(range(SIZE), repeat=len(row))
            )
            for row in rows
        ]
        assert found.tolist() == expected


def test_nothing_in_the_vocabulary_matches():
    with pytest.raises(UserError, match="no text of this model's tokens"):
        automaton("c+")
    with pytest.raises(UserError, match="no text of this model's tokens"):
        automaton(r"[^\s\S]")


def test_a_network_that_rules_out_every_match_is_told_so():
    canvas = blank(1)
    logits = torch.zeros(LENGTH, SIZE)
    logits[2, :3] = -torch.inf
    with pytest.raises(UserError, match="nothing that the network allows"):
        drawn(Matching(canvas, [automaton("(a|b){4,8}")], None), Draw(), logits, canvas)


def test_as_many_expressions_as_blanks():
    with pytest.raises(UserError, match="differ in number, 2 and 1"):
        Matching(blank(1), [automaton(), automaton()], END)


# --- without banned phrases ---


PHRASES = [
    [(0, 1)],
    [(1, 1), (2, 2)],
    [(0, 1, 1, 0), (1, 1)],
    [(0, 1, 0), (1, 0)],
    [(2, 2, 1), (0, 0, 0, 0)],
    [(3, 0)],
]


def spells(phrases, ids: list[int]) -> bool:
    """Return whether one of the phrases stands before the end symbol."""
    read = ids[: ids.index(END)] if END in ids else ids
    ends = range(len(read) + 1)
    return any(tuple(read[i:j]) in phrases for i in ends for j in ends)


@pytest.mark.parametrize("phrases", PHRASES, ids=str)
@pytest.mark.parametrize("pattern", [PATTERN, "(a|b)*"])
def test_an_automaton_without_phrases_accepts_what_holds_none(pattern, phrases):
    for ends in (True, False):
        reader = automaton(pattern).without(phrases)
        reader = reader.up_to(END) if ends else reader
        assert (reader.next[0] == 0).all()
        for length in (1, 2, 3, 4, 5):
            for ids in itertools.product(range(SIZE), repeat=length):
                state = 1
                for i in ids:
                    state = int(reader.next[state, reader.of_token[i]])
                expected = fits(pattern, ids, ends) and not spells(phrases, list(ids))
                assert bool(reader.accepting[state]) == expected, ids


def test_the_joint_draw_has_the_law_of_a_match_without_phrases():
    canvas, logits, phrases = blank(20_000), product(9), [(0, 1), (2, 2, 2)]
    matching = Matching(canvas, [automaton("(a|b)*").without(phrases)], END)
    ids, _ = drawn(matching, Draw(), logits, canvas)
    held = torch.tensor([spells(phrases, row) for row in all_rows().tolist()])
    assert_rows(ids, law_of(logits, fitting("(a|b)*") & ~held))


def test_nothing_is_left_without_phrases():
    with pytest.raises(UserError, match="without what is banned"):
        automaton("(ab){2}").without([(0, 1), (2, 2), (2, 0)])


# --- in the sampler ---


@dataclass(frozen=True)
class Independent:
    """A denoiser whose tokens are independent, so that its predictions are exact."""

    logits: Tensor
    vocab_size: int = SIZE

    @property
    def data_ids(self) -> Tensor:
        return torch.arange(SIZE)

    def __call__(self, xt, t, *, at=None, valid=None):
        logits = self.logits.expand(len(xt), -1, -1)
        return logits.clone() if at is None else logits[at]


@dataclass(frozen=True)
class Rewriting(Policy):
    """Queries everything, redraws some, keeps and masks others, at random."""

    def settled(self, canvas, clock):
        return torch.zeros_like(canvas.masked[:, 0])

    def candidates(self, canvas, clock, rng):
        return canvas.editable

    def choose(self, canvas, candidates, prediction, clock, rng):
        length = canvas.ids.shape[1]
        score = rng.uniform("score", clock.step, length).masked_fill(~canvas.editable, -1)
        keep = (canvas.editable.sum(1) * (1 - clock.s)).ceil()[:, None]
        stay = score.argsort(1, descending=True).argsort(1) < keep
        rewrite = rng.uniform("rewrite", clock.step, length) < 0.3
        return Move(stay & (canvas.masked | rewrite), canvas.editable & ~stay)


def runs(
    denoiser: Denoiser, policy, rows: int, steps: int, pattern: str, draw=None, process=None
) -> list:
    canvas = blank(rows)
    process = process or AbsorbingProcess(Polynomial(), MASK)
    matching = Matching(canvas, [automaton(pattern)], END)
    rng = RowRng(torch.arange(rows))
    grid = time_grid(steps)
    return list(
        sample(denoiser, process, canvas, policy, draw or Draw(), grid, rng, matching=matching)
    )


@pytest.mark.parametrize("policy", [OneAtATime(), RandomOrder(), Renoise()])
def test_independent_tokens_are_drawn_from_their_law_given_the_match(policy):
    logits = product(6)
    frames = runs(Independent(logits), policy, 20_000, 4, PATTERN)
    assert_rows(frames[-1].canvas.ids, law_of(logits, fitting()))


def toy() -> JointOracle:
    return random_joint(SIZE, LENGTH, seed=11)


def one_at_a_time(oracle: JointOracle, possible: Tensor) -> Tensor:
    """Return the law of one token a step in random order, by enumeration of all orders."""
    rows = all_rows()
    law = torch.zeros(len(rows), dtype=torch.float64)
    orders = list(itertools.permutations(range(LENGTH)))
    for order in orders:
        chance = torch.ones(len(rows), dtype=torch.float64)
        seen = torch.full_like(rows, MASK)
        for place in order:
            # The product of the predictions given what is seen, restricted to what is possible.
            prediction = oracle(seen, torch.ones(len(rows)))  # (rows, LENGTH, SIZE)
            every = prediction[:, torch.arange(LENGTH), rows].sum(2).exp() * possible
            same = rows[:, place] == rows[:, None, place]
            chance *= (every * same).sum(1) / every.sum(1).clamp_min(1e-300)
            seen = seen.clone()
            seen[:, place] = rows[:, place]
        law += chance * possible / len(orders)
    return law


def test_dependent_tokens_are_drawn_from_the_products_of_their_predictions():
    """One token per step from exact predictions is near the data given the match, not the same."""
    oracle, possible = toy(), fitting()
    law = one_at_a_time(oracle, possible)
    assert float(law.sum()) == pytest.approx(1)
    frames = runs(oracle, OneAtATime(), 15_000, LENGTH, PATTERN)
    assert_rows(frames[-1].canvas.ids, law)
    truth = oracle.probs.flatten() * possible
    truth /= truth.sum()
    distance = float((law - truth).abs().sum() / 2)
    at_once = law_of(oracle(torch.full((1, LENGTH), MASK), torch.ones(1))[0], possible)
    assert 0.001 < distance < float((at_once - truth).abs().sum() / 2)


POLICIES = {name: kind().policy for name, kind in SAMPLERS.items()}
POLICIES |= {
    "threshold-edit": Edited(MostConfident("confidence", 1, Threshold(0.5)), edit_threshold=0.4),
    "rewriting": Rewriting(),
    "one at a time": OneAtATime(),
}


@pytest.mark.parametrize("draw", [Draw(), Draw(temperature=0), Draw(top_k=2), Draw(top_p=0.5)])
@pytest.mark.parametrize("name", POLICIES)
def test_every_sampler_of_masks_can_always_be_completed(name, draw):
    assert_can_be_completed(runs(toy(), POLICIES[name], 60, 7, PATTERN, draw))


def test_a_network_that_doubts_what_it_sees_is_held_to_what_stays():
    assert_can_be_completed(runs(Independent(product(6)), Rewriting(), 60, 7, PATTERN))


def assert_can_be_completed(frames: list[Frame]) -> None:
    possible = {tuple(row) for row in all_rows()[fitting()].tolist()}
    for frame in frames:
        for ids, hidden in zip(
            frame.canvas.ids.tolist(), frame.canvas.masked.tolist(), strict=True
        ):
            assert any(
                all(h or i == j for i, j, h in zip(ids, row, hidden, strict=True))
                for row in possible
            )
    assert not frames[-1].canvas.masked.any()


def test_the_sampler_of_token_wise_schedules_keeps_the_match():
    schedule = spindle(torch.tensor([9, 4, 3, 1, 2]), SIZE, torch.arange(SIZE))
    process = PerTokenProcess(schedule, MASK)
    frames = runs(toy(), ByToken(), 100, 6, PATTERN, process=process)
    assert all(fits(PATTERN, row) for row in frames[-1].canvas.ids.tolist())


def test_a_process_without_masks_ends_in_a_match():
    process = UniformProcess(Polynomial(), torch.arange(SIZE))
    canvas = blank(200)
    rng = RowRng(torch.arange(200))
    started = canvas.reveal(canvas.masked, process.noise_ids(rng.uniform("start", 0, LENGTH)))
    matching = Matching(canvas, [automaton()], END)
    denoiser = Independent(product(8))
    frames = list(
        sample(
            denoiser,
            process,
            started,
            TransitionReverse(),
            Draw(),
            time_grid(5),
            rng,
            matching=matching,
        )
    )
    assert all(fits(PATTERN, row) for row in frames[-1].canvas.ids.tolist())


# --- a set for each position ---


def test_allowed_sets_condition_independent_tokens_exactly():
    logits = product(9)
    sets = torch.tensor([[1, 1, 1, 1, 1], [1, 0, 1, 0, 1], [0, 1, 0, 0, 0]], dtype=torch.bool)
    which = torch.tensor([0, 1, 2, 1])
    denoiser = Allowed(Independent(logits), sets, which.expand(20_000, -1))
    process, rng = AbsorbingProcess(Polynomial(), MASK), RowRng(torch.arange(20_000))
    frames = list(
        sample(denoiser, process, blank(20_000), RandomOrder(), Draw(), time_grid(3), rng)
    )
    rows = all_rows()
    assert_rows(frames[-1].canvas.ids, law_of(logits, sets[which, rows].all(1)))
    everywhere = denoiser(blank(20_000).ids, torch.ones(20_000))
    assert torch.equal(everywhere[0].isneginf(), ~sets[which])


def test_blanks_that_would_take_too_much_are_refused(monkeypatch):
    large = automaton("[ab]*a[ab]{3}")
    canvas = blank(3)
    Matching(canvas, [large], None)
    monkeypatch.setattr("unmask.sampling.constraints.token_automaton.MAX_STEPS", 10)
    with pytest.raises(UserError, match="blanks of up to"):
        Matching(canvas, [large], None)


def test_sums_over_a_few_rows_at_a_time_are_those_over_all(monkeypatch):
    here = automaton()
    weights = torch.randn(7, LENGTH, here.next.shape[1], generator=generator(0)).double()
    inside = torch.rand(7, LENGTH, generator=generator(1)) < 0.8
    whole = [here.backward(weights, inside, hard) for hard in (True, False)]
    whole.append(here.forward(weights, inside))
    monkeypatch.setattr("unmask.sampling.constraints.token_automaton._PIECE", 2 * len(here.next))
    parts = [here.backward(weights, inside, hard) for hard in (True, False)]
    parts.append(here.forward(weights, inside))
    assert all(torch.equal(one, other) for one, other in zip(whole, parts, strict=True))


def test_a_table_or_a_product_that_is_too_large_is_refused(monkeypatch):
    whole = automaton("[ab]*a[ab]{3}")
    monkeypatch.setattr("unmask.sampling.constraints.token_automaton.MAX_TABLE", 20)
    with pytest.raises(UserError, match="too much memory"):
        automaton("[ab]*a[ab]{3}")
    with pytest.raises(UserError, match="too many to ban"):
        whole.without([[1, 1]])
