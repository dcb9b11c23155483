"""The exact denoisers are exact: against sums written out by hand, and against each other."""

import math

import pytest
import torch

from checks import chain, generator, golden, random_joint
from unmask.errors import UserError
from unmask.evaluation.oracles.joint import JointOracle, MarkovOracle


def test_conditionals_equal_sums_over_all_sequences():
    oracle = random_joint()
    sequences, probs = oracle.sequences(), oracle.probs.flatten()
    x = torch.randint(4, (60, 4), generator=generator(0))  # 3 is [MASK]
    logits = oracle(x, torch.ones(60))
    for row, prediction in zip(x, logits, strict=True):
        fits = ((row == 3) | (sequences == row)).all(1)
        for i in range(4):
            for v in range(3):
                expected = probs[fits & (sequences[:, i] == v)].sum() / probs[fits].sum()
                assert prediction[i, v].exp().item() == pytest.approx(expected.item(), abs=1e-12)


def test_golden_entropy_and_log_prob():
    oracle = golden()
    assert oracle.entropy() == pytest.approx(1.220607, abs=1e-6)
    assert oracle.log_prob(torch.tensor([[0, 1]])).item() == pytest.approx(math.log(0.2))


def test_forward_backward_equals_enumeration():
    markov = chain()
    joint = markov.joint(5)
    x = torch.randint(4, (200, 5), generator=generator(1))
    assert torch.allclose(markov(x, torch.ones(200)), joint(x, torch.ones(200)), atol=1e-12)
    assert torch.allclose(markov.log_prob(joint.sequences()), joint.log_prob(joint.sequences()))
    assert markov.entropy(5) == pytest.approx(joint.entropy(), abs=1e-12)


def test_a_long_chain_does_not_underflow():
    x = torch.full((1, 5000), 3)
    x[0, 2500] = 1
    logits = chain()(x, torch.ones(1))
    assert torch.allclose(logits.exp().sum(-1), torch.ones(1, 5000).double())
    # One step after a known state the guess is its row of the transition matrix.
    assert torch.allclose(logits[0, 2501].exp(), chain().transition[1])


@pytest.mark.parametrize("oracle", [chain(), chain().joint(4)])
def test_protocol(oracle):
    """``at`` picks rows of the full answer, padding says nothing, visible tokens are certain."""
    x = torch.tensor([[0, 3, 1, 3], [3, 3, 2, 0]])
    full = oracle(x, torch.ones(2))
    at = torch.tensor([[False, True, False, True], [True, False, True, False]])
    assert torch.equal(oracle(x, torch.ones(2), at=at), full[at])
    assert full[0, 0].tolist() == [0, -math.inf, -math.inf]
    valid = torch.tensor([[True] * 3 + [False]] * 2)
    padded = oracle(x.masked_fill(~valid, 99), torch.ones(2), valid=valid)
    assert torch.allclose(padded, oracle(x.masked_fill(~valid, 3), torch.ones(2)))


def test_an_impossible_context_gives_a_uniform_guess():
    oracle = JointOracle(torch.tensor([[0.5, 0.5], [0.0, 0.0]]))
    prediction = oracle(torch.tensor([[1, 2]]), torch.ones(1))[0]
    assert prediction[1].exp().tolist() == pytest.approx([0.5, 0.5])
    assert prediction[0].exp().tolist() == [0, 1]


def test_what_is_no_distribution_is_refused():
    with pytest.raises(UserError, match="add up to 1"):
        JointOracle(torch.ones(2, 2))
    with pytest.raises(UserError, match="shape"):
        JointOracle(torch.ones(2, 3) / 6)
    with pytest.raises(UserError, match="add up to 1"):
        MarkovOracle(torch.tensor([0.5, 0.5]), torch.ones(2, 2))
    with pytest.raises(UserError, match="square"):
        MarkovOracle(torch.tensor([0.5, 0.5]), torch.ones(3, 2) / 2)
    with pytest.raises(UserError, match="positions"):
        golden()(torch.tensor([[0, 1, 2]]), torch.ones(1))
