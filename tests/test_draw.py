"""Which token: the law of every filter, the far tail, and the ends of the interval of noise."""

import math

import pytest
import torch

from checks import assert_law, assert_mean, generator
from unmask.draw import Draw
from unmask.errors import UserError

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


def test_top_p_reaches_past_its_first_guess_of_256_tokens():
    logits = torch.zeros(1500, 2000)
    tokens, probability = Draw(top_p=0.5)(logits, uniform(1500, 5))
    assert torch.allclose(probability, torch.tensor(1e-3), rtol=2e-3)
    assert 700 < len(tokens.unique()) <= 1001


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


@pytest.mark.parametrize("draw", [Draw(), Draw(top_k=40), Draw(top_p=0.9999), Draw(temperature=3)])
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


@pytest.mark.parametrize("draw", [Draw(), Draw(top_k=5), Draw(top_p=0.8), Draw(temperature=0)])
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
    ],
)
def test_what_cannot_be_is_refused(options):
    with pytest.raises(UserError):
        Draw(**options)
