"""The chain of order 2: its conditionals are sums over all sequences."""

import pytest
import torch

from checks import assert_law, generator
from unmask.errors import UserError
from unmask.evaluation.oracles.markov import SecondOrderOracle


def chain(size: int = 3, seed: int = 0) -> SecondOrderOracle:
    rng = 0.1 + torch.rand(size**2 + size**3, generator=generator(seed), dtype=torch.float64)
    initial, transition = rng[: size**2].view(size, size), rng[size**2 :].view(size, size, size)
    return SecondOrderOracle(initial / initial.sum(), transition / transition.sum(2, keepdim=True))


@pytest.mark.parametrize(("size", "length"), [(3, 2), (3, 3), (3, 5), (2, 8)])
def test_conditionals_are_those_of_the_enumerated_joint(size, length):
    oracle = chain(size)
    joint = oracle.joint(length)
    xt = torch.cartesian_prod(*[torch.arange(size + 1)] * length)
    exact, found = joint(xt, torch.ones(1)), oracle(xt, torch.ones(1))
    assert torch.allclose(found.exp(), exact.exp(), atol=1e-9)
    x0 = joint.sequences()
    assert torch.allclose(oracle.log_prob(x0), joint.log_prob(x0), atol=1e-9)
    assert oracle.entropy(length) == pytest.approx(joint.entropy(), abs=1e-9)
    at = torch.rand(xt.shape, generator=generator(1)) < 0.4
    assert torch.equal(oracle(xt, torch.ones(1), at=at), found[at])


def test_padding_says_nothing():
    oracle = chain()
    xt = torch.tensor([[0, 3, 2, 3, 1, 0]])
    valid = torch.tensor([[1, 1, 1, 1, 0, 0]]).bool()
    short = oracle(xt[:, :4], torch.ones(1))
    assert torch.allclose(oracle(xt, torch.ones(1), valid=valid)[:, :4], short)


def test_sequences_have_the_law_of_the_chain():
    oracle = chain()
    rows = oracle.sequences(20_000, 4, generator(2))
    code = rows @ torch.tensor([27, 9, 3, 1])
    assert_law(torch.bincount(code, minlength=81), oracle.joint(4).probs)


def test_a_long_text_gives_back_the_chain_it_came_from():
    oracle = chain(2)
    ids = oracle.sequences(1, 60_000, generator(3))[0]
    found = SecondOrderOracle.from_ids(ids, 2)
    assert torch.allclose(found.transition, oracle.transition, atol=0.02)
    assert oracle.entropy(200) / 200 == pytest.approx(found.entropy(200) / 200, abs=0.01)


def test_what_is_no_chain_is_refused():
    with pytest.raises(UserError, match="need the shapes"):
        SecondOrderOracle(torch.full((2, 2), 0.25), torch.full((2, 2), 0.5))
    with pytest.raises(UserError, match="at least two tokens"):
        chain()(torch.tensor([[3]]), torch.ones(1))
