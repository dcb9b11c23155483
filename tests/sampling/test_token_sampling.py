"""Which token: the law of every filter, the far tail, and the ends of the interval of noise."""

import math

import pytest
import torch
from transformers import (
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from checks import assert_law, assert_mean, generator
from unmask.errors import UserError
from unmask.sampling.token_sampling import Draw

PROBS = torch.tensor([0.15, 0.5, 0.05, 0.3], dtype=torch.float64)
LAWS = {
    "plain": (Draw(), [0.15, 0.5, 0.05, 0.3]),
    "temperature 2": (Draw(temperature=2.0), (PROBS**0.5 / (PROBS**0.5).sum()).tolist()),
    "temperature 1/2": (Draw(temperature=0.5), (PROBS**2 / (PROBS**2).sum()).tolist()),
    "top-k 2": (Draw(top_k=2), [0, 0.625, 0, 0.375]),
    "top-k beyond V": (Draw(top_k=99), [0.15, 0.5, 0.05, 0.3]),
    # The token that crosses p is kept: .5 alone does not reach .6.
    "top-p crossing": (Draw(top_p=0.6), [0, 0.625, 0, 0.375]),
    "top-p first token": (Draw(top_p=0.4), [0, 1, 0, 0]),
    "top-p tiny": (Draw(top_p=1e-9), [0, 1, 0, 0]),
    "top-p .9": (Draw(top_p=0.9), [0.15 / 0.95, 0.5 / 0.95, 0, 0.3 / 0.95]),
    # After top-k 3 the best two hold .842: they reach .82, which of the whole they would not.
    "top-k then top-p": (Draw(top_k=3, top_p=0.82), [0, 0.625, 0, 0.375]),
    # Temperature comes first: at 2 the best two hold only .66.
    "temperature then top-p": (
        Draw(temperature=2.0, top_p=0.7),
        [0.15**0.5 / 1.642, 0.5**0.5 / 1.642, 0, 0.3**0.5 / 1.642],
    ),
    # The other convention: .5 and .3 together are still below .85, the third crosses it.
    "top-p dropped": (Draw(top_p=0.85, top_p_crossing="drop"), [0, 0.625, 0, 0.375]),
    "top-p dropped but for the first": (Draw(top_p=0.4, top_p_crossing="drop"), [0, 1, 0, 0]),
    # After top-k 3 the best two hold .842, of the whole only .8.
    "top-k then top-p dropped": (
        Draw(top_k=3, top_p=0.83, top_p_crossing="drop"),
        [0, 1, 0, 0],
    ),
    "min-p": (Draw(min_p=0.5), [0, 0.625, 0, 0.375]),
    "min-p 1": (Draw(min_p=1.0), [0, 1, 0, 0]),
    "temperature then min-p": (
        Draw(temperature=2.0, min_p=0.5),
        [0.15**0.5 / 1.642, 0.5**0.5 / 1.642, 0, 0.3**0.5 / 1.642],
    ),
    "top-k then min-p": (Draw(top_k=3, min_p=0.7), [0, 1, 0, 0]),
    # Top-p counts what min-p drops: of .8 alone, .6 would be held by the first token.
    "top-p before min-p": (Draw(top_p=0.6, min_p=0.5), [0, 0.625, 0, 0.375]),
    "top-p looser than min-p": (Draw(top_p=0.9, min_p=0.5), [0, 0.625, 0, 0.375]),
}


def uniform(count: int, seed: int) -> torch.Tensor:
    return torch.rand(count, dtype=torch.float64, generator=generator(seed))


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_law(name, dtype):
    draw, law = LAWS[name]
    probs = torch.tensor(law, dtype=torch.float64)
    logits = (PROBS.log() + 3).to(dtype)
    if dtype == torch.bfloat16:  # Rounded logits are another law; 4 tokens show that they are read.
        assert_rounded_close(draw, logits, probs)
        return
    tokens, probability = draw(logits.expand(4000, 4), uniform(4000, 0))
    assert_law(tokens.bincount(minlength=4), probs / probs.sum())
    assert torch.allclose(probability.double(), (probs / probs.sum())[tokens], atol=2e-4)


def assert_rounded_close(draw, logits, probs):
    tokens, probability = draw(logits.expand(300, 4), uniform(300, 1))
    assert (probability.double() - (probs / probs.sum())[tokens]).abs().max() < 0.02
    assert set(tokens.tolist()) == set(probs.nonzero()[:, 0].tolist())


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"greedy": True, "temperature": 2.0}])
def test_greedy_takes_the_most_likely_and_reports_its_probability(options):
    tokens, probability = Draw(**options)(PROBS.log().expand(9, 4), uniform(9, 2))
    assert (tokens == 1).all()
    flat = PROBS ** (1 / (options["temperature"] or 1))
    assert probability.tolist() == pytest.approx([(flat / flat.sum())[1].item()] * 9, rel=1e-6)


def test_many_tokens_by_inversion():
    """A vocabulary of many blocks whose last block is not full."""
    probs = torch.rand(1000, dtype=torch.float64, generator=generator(3)).square()
    probs[300:700] = 0
    probs /= probs.sum()
    tokens, _ = Draw()(probs.log().expand(20_000, 1000), uniform(20_000, 4))
    counts = tokens.bincount(minlength=1000)
    assert counts[300:700].sum() == 0
    # Cells of fifty, so that each expects enough.
    assert_law(counts.view(20, 50).sum(1), probs.view(20, 50).sum(1))


def test_top_p_reaches_past_its_first_256_tokens():
    logits = torch.zeros(1500, 2000)
    tokens, probability = Draw(top_p=0.5)(logits, uniform(1500, 5))
    assert torch.allclose(probability, torch.tensor(1e-3), rtol=2e-3)
    assert 700 < len(tokens.unique()) <= 1001


FILTERS = [
    {"top_p": 0.3},
    {"top_p": 0.9},
    {"top_p": 0.9, "top_p_crossing": "drop"},
    {"top_p": 0.02, "top_p_crossing": "drop"},
    {"min_p": 0.1},
    {"top_p": 0.7, "min_p": 0.02},
    {"top_p": 0.7, "min_p": 0.02, "top_p_crossing": "drop"},
    {"top_k": 40, "top_p": 0.7},
    {"top_k": 40, "top_p": 0.7, "top_p_crossing": "drop"},
    {"top_k": 40, "top_p": 0.95, "min_p": 0.05, "temperature": 1.3},
]


def survivors(logits, temperature=1.0, top_k=None, top_p=1.0, min_p=0.0, top_p_crossing="keep"):
    """Return which tokens the definitions keep, one row at a time, and whether a row is clear-cut.

    A row is not if float32 could tell another story: something lies within 1e-5 of its limit.
    """
    kept, clear = torch.zeros_like(logits, dtype=torch.bool), []
    for row, values in enumerate(logits.double() / temperature):
        order = values.argsort(descending=True)[:top_k].tolist()
        p = torch.softmax(values[order], 0).tolist()
        total, margins = 0.0, [1.0]
        for place, token in enumerate(order):
            reached = total + p[place] if top_p_crossing == "drop" else total
            inside = reached <= top_p if top_p_crossing == "drop" else reached < top_p
            margins += [abs(reached - top_p)] * (top_p < 1)
            margins += [abs(p[place] - min_p * p[0]) / p[0]] * (min_p > 0)
            kept[row, token] = (inside or place == 0) and p[place] >= min_p * p[0]
            total += p[place]
        clear.append(min(margins) > 1e-5)
    return kept, torch.tensor(clear)


@pytest.mark.parametrize("size", [60, 128, 700, 5000])
@pytest.mark.parametrize("options", FILTERS, ids=str)
def test_filters_keep_what_their_definitions_keep(options, size):
    logits = 2 * torch.randn(60, size, generator=generator(30))
    kept, clear = survivors(logits, **options)
    assert clear.sum() > 30
    logits, kept = logits[clear], kept[clear]
    law = torch.softmax(logits.double() / options.get("temperature", 1), 1) * kept
    law = law / law.sum(1, keepdim=True)
    for u in (1e-9, 0.3, 0.8, 1 - 1e-9):
        tokens, probability = Draw(**options)(logits, torch.full((len(logits),), u).double())
        # The mass of all survivors stands in this number, so that one too many would show.
        expected = law.gather(1, tokens[:, None])[:, 0]
        assert torch.allclose(probability.double(), expected, rtol=1e-5)
        if "top_k" not in options:  # There the tokens are searched in the order of their ids.
            below = law.cumsum(1).gather(1, tokens[:, None])[:, 0]
            assert ((below > u - 1e-6) & (below - expected < u + 1e-6)).all()


@pytest.mark.parametrize("options", [o for o in FILTERS if "top_p_crossing" not in o], ids=str)
def test_filters_keep_what_transformers_keeps(options):
    """The same order, and the convention that keeps the token that crosses p."""
    logits = 2 * torch.randn(60, 700, generator=generator(31))
    _, clear = survivors(logits, **options)
    logits = logits[clear]
    filtered = TemperatureLogitsWarper(options.get("temperature", 1.0))(None, logits)
    if "top_k" in options:
        filtered = TopKLogitsWarper(options["top_k"])(None, filtered)
    if "top_p" in options:
        filtered = TopPLogitsWarper(options["top_p"])(None, filtered)
    if "min_p" in options:
        filtered = MinPLogitsWarper(options["min_p"])(None, filtered)
    tokens, probability = Draw(**options)(logits, uniform(len(logits), 32))
    expected = torch.softmax(filtered, 1).gather(1, tokens[:, None])[:, 0]
    assert torch.allclose(probability, expected, rtol=1e-4)


@pytest.mark.parametrize("size", [4, 400])
def test_both_conventions_agree_where_the_mass_hits_p(size):
    """Equal tokens, of which the first ones count as likelier: half of them hold 1/2 exactly."""
    logits = torch.zeros(3000, size)
    for crossing, more in (("keep", 1), ("drop", 0)):
        for p, count in ((0.5, size // 2), (0.5 + 0.4 / size, size // 2 + more)):
            draw = Draw(top_p=p, top_p_crossing=crossing)
            tokens, probability = draw(logits, uniform(3000, 33))
            assert int(tokens.max()) == count - 1
            assert torch.allclose(probability, torch.tensor(1 / count))


@pytest.mark.parametrize("first", [True, False])
def test_the_far_tail_is_drawn_as_often_as_it_should_be(first):
    """100,000 tokens of probability 0.3 / 2^24 each, against one that has all the rest.

    float32 noise has no value small enough for them, and a float32 cumulative sum does not move
    when one is added. Only u where the tail lies is spent: 0.2 % of the interval.
    """
    each, size = 0.3 * 2.0**-24, 100_000
    logits = torch.full((size + 1,), math.log(each))
    dominant = 0 if first else size
    logits[dominant] = 0.0
    share = size * each / (1 + size * each)
    u = uniform(1000, 6) * 0.002
    u = 1 - u if first else u
    tokens, probability = Draw()(logits.expand(1000, -1), u)
    tail = tokens != dominant
    assert_mean(tail, share / 0.002)
    assert torch.allclose(probability[tail], torch.tensor(each / (1 + size * each)).float())
    # And evenly: each tenth of the tail alike.
    tenth = ((tokens[tail] - int(first)) // (size // 10)).bincount(minlength=10)
    assert_law(tenth, torch.full((10,), 0.1))


def test_neighbouring_noise_draws_neighbouring_tokens_of_the_tail():
    """The tail lies where u is nearly 1, and a u of float32 would skip three tokens in four."""
    each, size = 0.25 * 2.0**-24, 100_000
    logits = torch.full((1, size + 1), math.log(each))
    logits[:, 0] = 0.0
    u = (1 + (50_000 + torch.arange(300).double()) * each) / (1 + size * each)
    tokens, _ = Draw()(logits.expand(300, -1), u)
    assert (tokens.diff() == 1).all()


EXTREMES = [2.0**-54, 2.0**-53, 1e-12, 0.5, 1 - 1e-12, 1 - 2.0**-52, 1 - 2.0**-53]


DRAWS = [Draw(), Draw(top_k=40), Draw(top_p=0.9999), Draw(temperature=3), Draw(min_p=1e-4)]
DRAWS += [Draw(top_p=0.9999, top_p_crossing="drop")]


@pytest.mark.parametrize("draw", DRAWS)
def test_forbidden_tokens_are_never_drawn(draw):
    """Blocks of -inf at both ends and holes between, at the ends of the interval of noise."""
    logits = 6 * torch.randn(400, 1000, generator=generator(7))
    logits[:, :200] = -math.inf
    logits[:, 700:] = -math.inf
    logits[torch.rand(400, 1000, generator=generator(8)) < 0.5] = -math.inf
    for value in EXTREMES:
        tokens, probability = draw(logits, torch.full((400,), value, dtype=torch.float64))
        assert torch.isfinite(logits.gather(1, tokens[:, None])).all(), value
        assert (probability > 0).all()


def test_forbidden_tokens_are_never_drawn_at_the_edge_of_a_block():
    """U that hits the boundary between two blocks, give or take the last digits of a float64."""
    logits = 3 * torch.randn(200, 512, generator=generator(9))
    holes = torch.zeros(4, 128, dtype=torch.bool)
    holes[:, :30] = True
    holes[:, 90:] = True
    logits[:, holes.flatten()] = -math.inf
    mass = torch.softmax(logits.double(), 1).view(200, 4, 128).sum(2)
    for block in range(3):
        edge = mass.cumsum(1)[:, block]
        for nudge in torch.arange(-20, 21) * 2.0**-53:
            tokens, _ = Draw()(logits, edge + nudge)
            assert torch.isfinite(logits.gather(1, tokens[:, None])).all()


@pytest.mark.parametrize("draw", [*DRAWS, Draw(top_k=5), Draw(top_p=0.8), Draw(temperature=0)])
def test_a_row_does_not_depend_on_its_batch(draw):
    logits = 2 * torch.randn(150, 700, generator=generator(10))
    u = uniform(150, 11)
    together = draw(logits, u)
    for rows in (slice(0, 1), slice(37, 101), slice(149, 150)):
        apart = draw(logits[rows], u[rows])
        assert torch.equal(apart.tokens, together.tokens[rows])
        assert torch.allclose(apart.probability, together.probability[rows], rtol=1e-6)
    empty = draw(logits[:0], u[:0])
    assert (empty.tokens.shape, empty.tokens.dtype) == ((0,), torch.int64)


@pytest.mark.parametrize("size", [60, 5003])
def test_top_k_among_equal_tokens(size):
    """Rounded logits: each of the equal ones has its share, in the order of their ids.

    Which of them are in at the edge of k is left open.
    """
    logits = torch.randn(150, size, generator=generator(19)).mul(4).round()
    u, draw = uniform(150, 20), Draw(top_k=40)
    together = draw(logits, u).tokens
    for row in range(0, 150, 10):
        assert draw(logits[row : row + 1], u[row : row + 1]).tokens == together[row]
    order = logits.argsort(dim=1, descending=True, stable=True)[:, :40]
    law = logits.gather(1, order).double().softmax(1)
    for row in range(0, 150, 10):
        inside = logits[row, order[row]] > logits[row, order[row, -1]]
        assert inside.sum() > 5
        for rank, reached in enumerate((law[row].cumsum(0) - law[row] / 2)[inside]):
            assert draw(logits[row : row + 1], reached[None]).tokens == order[row, rank]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("size", "count"), [(9, 3), (64, 1), (99, 99), (5003, 40), (30_007, 50)])
def test_top_k_finds_the_largest(size, count, dtype):
    """In vocabularies of one group and of many, at their ends and with equal numbers."""
    logits = torch.randn(40, size, generator=generator(16)).to(dtype)
    logits[:10, -3:] += 9  # The last tokens may fill no group.
    logits[10:20, :3] += 9
    logits[20:30, max(1, count // 2) :] = -math.inf
    kept = torch.zeros(40, size, dtype=torch.bool)
    for u in (torch.arange(4 * count) + 0.5) / (4 * count):
        tokens, _ = Draw(temperature=1e6, top_k=count)(logits, u.double().expand(40))
        kept[torch.arange(40), tokens] = True
    finite = torch.isfinite(logits)
    assert torch.equal(kept.sum(1), finite.sum(1).clamp_max(count))
    least = logits.masked_fill(~kept, math.inf).amin(1, keepdim=True)
    assert kept[finite & (logits > least)].all()


@pytest.mark.parametrize(
    "draw",
    [*DRAWS, Draw(top_k=5), Draw(temperature=0), Draw(greedy=True), Draw(0.8, greedy=True)],
)
@pytest.mark.parametrize("size", [60, 5003])
def test_what_nothing_can_be_drawn_of_is_refused(draw, size):
    logits = torch.randn(30, size, generator=generator(17))
    for value in (math.nan, math.inf):
        for place in (0, size // 2, size - 1):
            broken = logits.clone()
            broken[21, place] = value
            with pytest.raises(UserError, match="NaN or infinity"):
                draw(broken, uniform(30, 18))
    logits[21] = -math.inf
    with pytest.raises(UserError, match="every token is excluded"):
        draw(logits, uniform(30, 18))


@pytest.mark.parametrize("name", LAWS)
def test_logits_are_only_read(name):
    for size in (300, 512):  # With and without padding to a whole number of blocks.
        logits = torch.randn(5, size, generator=generator(14))
        before = logits.clone()
        LAWS[name][0](logits, uniform(5, 15))
        assert torch.equal(logits, before)


def test_the_smallest_temperatures_are_greedy():
    logits = 30 * torch.randn(50, 300, generator=generator(12))
    for temperature in (1e-38, 1e-300):
        for draw in (Draw(temperature), Draw(temperature, top_k=9), Draw(temperature, top_p=0.9)):
            tokens, probability = draw(logits, uniform(50, 13))
            assert torch.equal(tokens, logits.argmax(1))
            assert (probability == 1).all()


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -1.0},
        {"temperature": math.nan},
        {"top_k": 0},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"temperature": 0.0, "top_k": 5},
        {"greedy": True, "top_p": 0.5},
        {"greedy": True, "min_p": 0.5},
        {"temperature": 0.0, "min_p": 0.5},
        {"min_p": -0.1},
        {"min_p": 1.1},
        {"min_p": math.nan},
        {"top_p_crossing": "drop"},
        {"top_p": 0.5, "top_p_crossing": "drp"},
    ],
)
def test_what_cannot_be_is_refused(options):
    with pytest.raises(UserError):
        Draw(**options)
