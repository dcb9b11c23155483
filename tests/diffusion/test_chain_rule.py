"""Likelihoods in a fixed order: the chain rule of a joint, and the law of the sampler itself."""

import itertools

import pytest
import torch
from torch import Tensor

from checks import Recorder, TimeTold, assert_law, chain, generator, golden, random_joint
from laws import blank, counts_of, run
from test_any_order import network, rows
from unmask.diffusion.formulation import (
    AnyOrderFormulation,
    BlockFormulation,
    MaskedFormulation,
    UniformFormulation,
)
from unmask.diffusion.objectives import chain_rule
from unmask.diffusion.objectives.any_order import order_token_nats, random_ranks
from unmask.diffusion.objectives.chain_rule import (
    block_token_nats,
    left_to_right_ranks,
    pseudo_token_nats,
    sequential_token_nats,
)
from unmask.diffusion.processes.absorbing import AbsorbingProcess
from unmask.diffusion.processes.absorbing_per_token import PerTokenProcess
from unmask.diffusion.processes.uniform import UniformProcess
from unmask.diffusion.schedules.continuous import Cosine, Polynomial
from unmask.diffusion.schedules.grids import time_grid
from unmask.diffusion.schedules.per_token import LearnedExponents
from unmask.errors import UserError
from unmask.evaluation.oracles.block import BlockOracle
from unmask.sampling.policies.fixed_order import LeftToRight


def process_of(joint, schedule=None) -> AbsorbingProcess:
    return AbsorbingProcess(schedule or Polynomial(), joint.mask_token_id)


def everywhere(x0: Tensor) -> Tensor:
    return torch.ones_like(x0, dtype=torch.bool)


def test_left_to_right_begins_with_what_is_given_and_ends_with_padding():
    editable = torch.tensor([[0, 1, 1, 0, 1, 0], [1, 1, 1, 1, 1, 1]]).bool()
    valid = torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1]]).bool()
    rank = left_to_right_ranks(editable, valid)
    assert rank.tolist() == [[0, 2, 3, 1, 4, 5], [0, 1, 2, 3, 4, 5]]
    assert left_to_right_ranks(editable).tolist() == [[0, 3, 4, 1, 5, 2], [0, 1, 2, 3, 4, 5]]


@pytest.mark.parametrize("joint", [golden(), random_joint(3, 4)], ids=["golden", "random"])
def test_the_likelihood_is_that_of_the_joint_in_every_order(joint):
    x0 = joint.sequences()
    for order in itertools.permutations(range(joint.length)):
        rank = torch.tensor(order).expand_as(x0)
        nats = sequential_token_nats(joint, process_of(joint), x0, rank, everywhere(x0))
        assert torch.allclose(nats.sum(1), -joint.log_prob(x0), atol=1e-9)


def test_every_token_of_a_chain_costs_its_transition():
    oracle = chain()
    x0 = torch.randint(3, (5, 9), generator=generator(0))
    rank = left_to_right_ranks(everywhere(x0))
    nats = sequential_token_nats(oracle, process_of(oracle), x0, rank, everywhere(x0))
    expected = -oracle.transition[x0[:, :-1], x0[:, 1:]].log()
    assert torch.allclose(nats[:, 1:], expected, atol=1e-9)
    assert torch.allclose(nats[:, 0], -oracle.initial[x0[:, 0]].log(), atol=1e-9)


def test_given_tokens_are_seen_and_padding_is_not(monkeypatch):
    joint = random_joint(3, 4)
    x0 = joint.sequences()
    editable, valid = everywhere(x0), everywhere(x0)
    editable[:, 2:], valid[:, 3] = False, False
    # Ranks of given tokens do not matter.
    rank = torch.tensor([1, 0, 3, 2]).expand_as(x0)
    whole = sequential_token_nats(joint, process_of(joint), x0, rank, editable, valid)
    assert not whole[:, 2:].any()
    pair = joint.probs.sum(3)
    given = -(pair / pair.sum((0, 1))).log()[x0[:, 0], x0[:, 1], x0[:, 2]]
    assert torch.allclose(whole.sum(1), given, atol=1e-9)
    monkeypatch.setattr(chain_rule, "PAIRS", 7)
    in_pieces = sequential_token_nats(joint, process_of(joint), x0, rank, editable, valid)
    assert torch.allclose(in_pieces, whole, atol=1e-12)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
@pytest.mark.parametrize("tokenwise", [False, True])
def test_of_any_network_it_is_a_distribution(order, tokenwise):
    """One whose predictions contradict each other, and depend on the time."""
    joint = random_joint(3, 3)
    process = process_of(joint, Cosine())
    if tokenwise:
        process = PerTokenProcess(LearnedExponents(3, 2.0), joint.mask_token_id)
    x0 = joint.sequences()
    rank = torch.tensor(order).expand_as(x0)
    nats = sequential_token_nats(TimeTold(joint), process, x0, rank, everywhere(x0)).sum(1)
    assert (-nats).exp().sum().item() == pytest.approx(1, abs=1e-9)
    assert (nats + joint.log_prob(x0)).abs().max() > 0.1
    pseudo = pseudo_token_nats(TimeTold(joint), process, x0, everywhere(x0)).sum(1)
    assert abs((-pseudo).exp().sum().item() - 1) > 0.05


def test_left_to_right_is_the_law_of_that_sampler():
    joint = random_joint(2, 3)
    told, x0 = TimeTold(joint), joint.sequences()
    canvas = blank(joint, 20_000)
    frames = run(told, LeftToRight(tokens_per_step=1), canvas, time_grid(3), schedule=Cosine())
    rank = left_to_right_ranks(everywhere(x0))
    nats = sequential_token_nats(told, process_of(joint, Cosine()), x0, rank, everywhere(x0))
    law = (-nats.sum(1)).exp().view(joint.probs.shape)
    assert_law(counts_of(frames[-1].canvas.ids, 2), law)


def test_the_time_is_that_of_the_masks():
    recorder = Recorder(random_joint(3, 4))
    x0 = recorder.inner.sequences()[:1]
    rank = torch.tensor([[2, 0, 3, 1]])
    process = process_of(recorder.inner, Cosine())
    sequential_token_nats(recorder, process, x0, rank, everywhere(x0))
    ((xt, t, at),) = recorder.calls
    masks = [[1, 0, 1, 0], [1, 1, 1, 1], [0, 0, 1, 0], [1, 0, 1, 1]]
    assert (xt == 3).long().tolist() == masks
    assert torch.equal(at, torch.eye(4).bool())
    shares = torch.tensor([0.5, 1.0, 0.25, 0.75]).double()
    assert torch.allclose(process.schedule.mask_prob(t), shares)


def test_the_pseudo_likelihood_is_every_token_given_all_others():
    joint = random_joint(3, 4)
    x0 = joint.sequences()
    editable = everywhere(x0)
    editable[:, 1] = False
    nats = pseudo_token_nats(joint, process_of(joint), x0, editable)
    assert not nats[:, 1].any()
    for place in (0, 2, 3):
        expected = -(joint.probs / joint.probs.sum(place, keepdim=True)).log().flatten()
        assert torch.allclose(nats[:, place], expected, atol=1e-9)


def test_one_call_gives_what_a_session_answers_token_by_token(zoo):
    denoiser = network(zoo, "bert")
    x0 = rows(denoiser)
    editable = everywhere(x0)
    editable[:, :2] = False
    rank = random_ranks(editable, None, generator(1))
    with torch.no_grad():
        nats = order_token_nats(denoiser, x0, rank, editable)
        session, t = denoiser.session(), torch.ones(len(x0))
        for turn in range(2, x0.shape[1]):
            at = rank == turn
            # What is given is written first, in its order.
            if turn == 2:
                for given in range(2):
                    session(x0.where(rank < given, 4), t, at=rank == given)
            logits = session(x0.where(rank < turn, 4), t, at=at)
            expected = -logits.log_softmax(1).gather(1, x0[at][:, None])[:, 0]
            assert torch.allclose(nats[at], expected, atol=1e-9)
    assert not nats[:, :2].any()


@pytest.mark.parametrize("block_length", [1, 2, 3, 4])
def test_block_after_block_in_any_order_within_them(block_length):
    joint = random_joint(3, 4)
    oracle, x0 = BlockOracle(joint, block_length), joint.sequences()
    for order in ((0, 1, 2, 3), (3, 1, 0, 2)):
        rank = torch.tensor(order).expand_as(x0)
        nats = block_token_nats(oracle, process_of(joint), block_length, x0, rank, everywhere(x0))
        assert nats.shape == x0.shape
        assert torch.allclose(nats.sum(1), -joint.log_prob(x0), atol=1e-9)
    editable = everywhere(x0)
    editable[:, 0] = False
    rank = left_to_right_ranks(editable)
    nats = block_token_nats(oracle, process_of(joint), block_length, x0, rank, editable)
    first = joint.probs.sum((1, 2, 3)).log()[x0[:, 0]]
    assert torch.allclose(nats.sum(1), first - joint.log_prob(x0), atol=1e-9)
    left_to_right = joint.probs.sum((2, 3))
    second = -(left_to_right / left_to_right.sum(1, keepdim=True)).log()[x0[:, 0], x0[:, 1]]
    assert torch.allclose(nats[:, 1], second, atol=1e-9)


def test_every_method_knows_its_own_chain_rule(zoo):
    joint = random_joint(3, 4)
    x0 = joint.sequences()
    batch = {"x0": x0, "rank": left_to_right_ranks(everywhere(x0)), "editable": everywhere(x0)}
    process = process_of(joint)
    for formulation, denoiser in (
        (MaskedFormulation(process), joint),
        (BlockFormulation(process, block_length=2), BlockOracle(joint, 2)),
    ):
        nats = formulation.token_nats(denoiser, **batch).sum(1)
        assert torch.allclose(nats, -joint.log_prob(x0), atol=1e-9)
    denoiser = network(zoo, "bert")
    text = rows(denoiser)
    batch = {"rank": left_to_right_ranks(everywhere(text)), "editable": everywhere(text)}
    with torch.no_grad():
        nats = AnyOrderFormulation(process).token_nats(denoiser, x0=text, **batch)
        assert torch.allclose(nats, order_token_nats(denoiser, text, **batch), atol=1e-12)
    uniform = UniformFormulation(UniformProcess(Polynomial(), torch.arange(3)))
    with pytest.raises(UserError, match="order is not supported for uniform-noise models"):
        uniform.token_nats(joint, x0=text, **batch)
