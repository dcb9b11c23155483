"""Orders by confidence: how many are revealed, which, and what that costs in nats."""

import itertools
import math
from itertools import pairwise

import pytest
import torch

from checks import assert_law, generator, random_joint
from laws import blank, divergence, law_of_path, run
from unmask.diffusion.processes.absorbing import AbsorbingProcess
from unmask.diffusion.rng import RowRng
from unmask.diffusion.schedules.continuous import Polynomial
from unmask.diffusion.schedules.grids import time_grid
from unmask.errors import UserError
from unmask.evaluation.oracles.joint import JointOracle
from unmask.sampling.canvas import Canvas
from unmask.sampling.policies.base import Clock, Past, Prediction
from unmask.sampling.policies.confidence import EntropyBound, Factor, MostConfident, Threshold
from unmask.sampling.policies.confidence_scores import METRICS, confidence_score
from unmask.sampling.samplers.base import Custom, Sampler
from unmask.sampling.samplers.registry import make_sampler
from unmask.sampling.token_sampling import Draw

ORACLE = random_joint(2, 12)
MASK = ORACLE.mask_token_id
PROMPTED = [[1, None, None, 0, None, None, None, 1, None, None, None, None]]
BLANK = [[None] * 12]


def frames_of(sampler: Sampler, rows):
    masks = max(sum(i is None for i in row) for row in rows)
    return run(ORACLE, sampler.policy, rows, sampler.times(masks), sampler.draw)


def sharp(seed: int, power: float = 6.0) -> JointOracle:
    """A joint in which a few sequences hold most of the mass."""
    rng = torch.rand((3,) * 4, dtype=torch.float64, generator=generator(seed))
    weights = (-rng.log()) ** power + 1e-6
    return JointOracle(weights / weights.sum())


# --- the order's temperature ---


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_a_random_order_takes_positions_in_proportion_to_how_sure_they_are(temperature):
    """Two of four, drawn without replacement: 20,000 rows against the law, position by position."""
    sure = torch.tensor([0.5, 0.2, 0.35, 0.4])
    canvas = Canvas.from_rows([[None] * 4] * 20_000, MASK, MASK)
    process = AbsorbingProcess(Polynomial(), MASK)
    time = torch.tensor([1.0, 0.5]).double()
    clock = Clock(0, time[0], time[1], process, last=False, past=Past.of(canvas))
    policy = MostConfident(alg_temperature=temperature)
    each = sure.expand(20_000, 4)
    prediction = Prediction(torch.zeros_like(canvas.ids), each, each)
    rng = RowRng(torch.arange(20_000))
    taken = policy.choose(canvas, canvas.masked, prediction, clock, rng).reveal
    assert (taken.sum(1) == 2).all()
    weight = (sure.double() / temperature).exp()
    law = torch.zeros(4, 4, dtype=torch.float64)
    for i, j in itertools.permutations(range(4), 2):
        low, high = sorted((i, j))
        law[low, high] += weight[i] / weight.sum() * weight[j] / (weight.sum() - weight[i])
    pair = taken.nonzero()[:, 1].view(-1, 2)
    counts = (pair[:, 0] * 4 + pair[:, 1]).bincount(minlength=16)
    possible = law.flatten() > 0
    assert not counts[~possible].any()
    assert_law(counts[possible], law.flatten()[possible])


def test_without_a_temperature_the_order_is_the_surest_first():
    rows = PROMPTED * 20
    plain = frames_of(Custom(MostConfident(), steps=4), rows)
    for same in (0.0, 1e-9):
        policy = MostConfident(alg_temperature=same)
        for one, other in zip(plain, frames_of(Custom(policy, steps=4), rows), strict=True):
            assert torch.equal(one.canvas.ids, other.canvas.ids)
    other = frames_of(Custom(MostConfident(alg_temperature=1.0), steps=4), rows)
    assert not torch.equal(plain[1].revealed, other[1].revealed)
    assert torch.equal(plain[1].revealed.sum(1), other[1].revealed.sum(1))


# --- the quota ---


@pytest.mark.parametrize("steps", [1, 2, 5, 7, 12])
@pytest.mark.parametrize("kind", ["uniform", "cosine"])
def test_the_quota_is_the_ceiling_of_its_share(steps, kind):
    """Step by step remaining * u(s, t), rounded up; all that is left in the last step."""
    frames = frames_of(Custom(MostConfident(), steps=steps, grid=kind), BLANK)
    grid, left = time_grid(steps, kind).tolist(), 12
    for frame, (t, s) in zip(frames[1:], pairwise(grid), strict=False):
        expected = math.ceil(left * (t - s) / t - 1e-9)
        assert int(frame.revealed.sum()) == expected
        left -= expected
    assert left == 0
    assert sum(int(frame.revealed.sum()) for frame in frames) == 12


def test_the_quota_of_equal_steps_is_equal():
    for frame in frames_of(Custom(MostConfident(), steps=4), BLANK * 3)[1:]:
        assert frame.revealed.sum(1).tolist() == [3, 3, 3]


@pytest.mark.parametrize("name", ["drawn", *METRICS])
@pytest.mark.parametrize("draw", [{"greedy": True}, {}, {"temperature": 0.3}])
def test_the_quota_takes_the_surest(name, draw):
    """By the network's own distribution at temperature 1, whatever the draw; by the draw's own."""
    frames = frames_of(Custom(MostConfident(name), steps=6, **draw), BLANK * 10)
    process = AbsorbingProcess(Polynomial(), MASK)
    for before, frame in pairwise(frames):
        time = process.time_of(before.canvas.masked, before.canvas.editable)
        assert torch.equal(frame.time, time)
        probs = ORACLE(before.canvas.ids, time).exp()
        if name in ("drawn", "confidence"):
            # What was drawn where nothing was revealed is not on the canvas; the greedy is known.
            if not draw.get("greedy"):
                continue
            sure = probs.amax(2)
        elif name == "margin":
            sure = (probs[..., 0] - probs[..., 1]).abs()
        else:
            sure = torch.xlogy(probs, probs).sum(2)
        chosen = sure.masked_fill(~frame.revealed, 2).amin(1)
        passed_over = sure.masked_fill(frame.revealed | ~before.canvas.masked, -9).amax(1)
        assert (chosen >= passed_over - 1e-6).all()


def test_own_confidence_does_not_change_with_the_draw():
    """A filter that leaves one token makes every draw certain; the network is no surer by that."""
    oracle = JointOracle(torch.tensor([[0.55], [0.45]]).double() * torch.tensor([0.9, 0.1]))
    for name, place in (("drawn", 0), ("confidence", 1), ("margin", 1), ("entropy", 1)):
        first = run(oracle, MostConfident(name), [[None] * 2], time_grid(2), Draw(top_p=0.5))[1]
        assert first.confidence[0, place].item() == pytest.approx(1)
        assert first.revealed[0].tolist() == [place == 0, place == 1]


# --- the threshold ---


def test_threshold_zero_reveals_everything_at_once():
    frames = frames_of(make_sampler("threshold", threshold=0.0), PROMPTED * 3)
    assert len(frames) == 2
    assert frames[-1].nfe == 1


def test_threshold_above_one_takes_one_pass_a_token():
    frames = frames_of(make_sampler("threshold", threshold=1.1), PROMPTED * 3)
    assert frames[-1].nfe == sum(i is None for i in PROMPTED[0])
    for frame in frames[1:]:
        assert (frame.revealed.sum(1) == 1).all()


def test_threshold_in_between_reveals_all_above_it_or_the_surest():
    frames = frames_of(make_sampler("threshold", threshold=0.62, temperature=1.0), BLANK * 10)
    several = False
    for before, frame in pairwise(frames):
        prediction = ORACLE(before.canvas.ids, frame.time).exp().amax(2).float()
        above = (prediction >= 0.62) & before.canvas.masked
        alone = before.canvas.masked.any(1) & ~above.any(1)
        assert torch.equal(frame.revealed[~alone], above[~alone])
        assert (frame.revealed[alone].sum(1) == 1).all()
        several |= bool((frame.revealed.sum(1) > 1).any())
    assert several
    assert frames[-1].nfe < 12


def test_a_confident_row_finishes_in_the_steps_it_was_given():
    frames = frames_of(make_sampler("threshold", threshold=1.1, steps=3), BLANK)
    assert [int(frame.revealed.sum()) for frame in frames[1:]] == [4, 4, 4]


def test_the_last_step_leaves_no_mask_even_at_one_token_a_step():
    """A policy without a pace on a grid that is too short for it."""
    policy = MostConfident(tokens_per_step=1, rule=Threshold(1.1))
    frames = frames_of(Custom(policy, steps=3), BLANK)
    assert [int(frame.revealed.sum()) for frame in frames[1:]] == [1, 1, 10]


# --- the factor ---


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0, 2.5, math.inf])
def test_the_factor_counts_as_its_definition_says(factor):
    ordered = torch.rand(200, 8, generator=generator(2)).sqrt().sort(1, descending=True).values
    ordered[50:, 5:] = -math.inf
    found = Factor(factor).count(ordered)
    for row, count in zip(ordered.double().tolist(), found.tolist(), strict=True):
        masks = [c for c in row if c >= 0]
        fits = [n for n, c in enumerate(masks, 1) if (n + 1) * (1 - c) < factor]
        assert count == max(fits, default=0)


def jointly_likeliest(oracle: JointOracle, factor: float) -> tuple[int, int]:
    """Return in how many canvases several tokens pass, and how many are jointly most likely.

    For every canvas: the most likely token of each position that the rule allows, against the
    most likely combination of these positions given what is visible, summed from the joint.
    """
    several = right = 0
    size = oracle.vocab_size
    for canvas in itertools.product(range(size + 1), repeat=oracle.length):
        masked = [i for i, token in enumerate(canvas) if token == size]
        prediction = oracle(torch.tensor([canvas]), torch.ones(1))[0].exp()
        order = sorted(masked, key=lambda i: -float(prediction[i].max()))
        ordered = torch.tensor([[float(prediction[i].max()) for i in order]])
        count = int(Factor(factor).count(ordered)) if masked else 0
        if count < 2:
            continue
        chosen = sorted(order[:count])
        place = tuple(slice(None) if i in masked else token for i, token in enumerate(canvas))
        rest = [k for k, i in enumerate(masked) if i not in chosen]
        joint = oracle.probs[place]
        joint = joint.sum(rest) if rest else joint
        several += 1
        best = [int(prediction[i].argmax()) for i in chosen]
        right += bool(joint[tuple(best)] == joint.max())
    return several, right


def test_with_a_factor_of_one_greedy_tokens_are_the_most_likely_together():
    """Theorem 1 of Fast-dLLM, for exact conditionals."""
    found = [jointly_likeliest(sharp(seed), 1.0) for seed in range(4)]
    assert sum(several for several, _ in found) > 100
    assert all(several == right for several, right in found)
    # The bound is no formality: with three times as much doubt it fails.
    found = [jointly_likeliest(sharp(seed, 1.0), 3.0) for seed in range(4)]
    assert sum(several - right for several, right in found) > 10


def test_the_factor_reveals_at_least_one():
    frames = frames_of(make_sampler("fast-dllm-factor", factor=0.0), BLANK * 3)
    assert frames[-1].nfe == 12


# --- the entropy bound ---


def test_no_entropy_allowed_is_one_token_and_all_that_is_certain():
    """Tokens 2 and 4 repeat the one before them; the two pairs are independent coins."""
    probs = torch.zeros((2,) * 4, dtype=torch.float64)
    for a, b in itertools.product((0, 1), repeat=2):
        probs[a, a, b, b] = 0.25
    oracle = JointOracle(probs)
    policy = MostConfident("entropy", 1, EntropyBound(0.0))
    frames = run(oracle, policy, [[None] * 4] * 50, time_grid(4))
    counts = [frame.revealed.sum(1).unique().tolist() for frame in frames[1:]]
    # A coin; what it makes certain and the other coin; what that makes certain.
    assert counts == [[1], [2], [1]]
    assert divergence(oracle.probs, law_of_path(oracle, policy)[0]) < 1e-12
    # Three certain tokens and a coin.
    rows = [[0, None, 1, None]] * 5
    assert run(oracle, policy, rows, time_grid(4))[-1].nfe == 1


def test_any_entropy_allowed_is_one_step():
    policy = MostConfident("entropy", 1, EntropyBound(math.inf))
    assert frames_of(Custom(policy), PROMPTED * 4)[-1].nfe == 1


def test_the_entropy_bound_counts_as_its_definition_says():
    entropy = (torch.rand(200, 8, generator=generator(3)) ** 3).sort(1).values
    entropy[100:, 6:] = math.inf
    for gamma in (0.0, 0.1, 0.5, 3.0):
        found = EntropyBound(gamma).count(-entropy)
        for row, count in zip(entropy.double().tolist(), found.tolist(), strict=True):
            masks = [h for h in row if h < math.inf]
            sizes = range(1, len(masks) + 1)
            longest = max(n for n in sizes if sum(masks[:n]) - max(masks[:n]) <= gamma)
            # Places after the last mask may be counted too: nothing stands there.
            assert min(count, len(masks)) == longest


@pytest.mark.parametrize("seed", range(3))
def test_the_divergence_is_at_most_gamma_a_step(seed):
    """By enumeration, and with fewer calls the more is allowed."""
    oracle = sharp(seed, 3.0)
    truth, before = oracle.probs.flatten(), math.inf
    lost = []
    for gamma in (0.0, 0.05, 0.1, 0.3, 0.6, 1.0, 2.0, math.inf):
        law, calls = law_of_path(oracle, MostConfident("entropy", 1, EntropyBound(gamma)))
        expected_calls = float(truth @ calls)
        assert float(law.sum()) == pytest.approx(1, abs=1e-12)
        lost.append(divergence(truth, law))
        assert lost[-1] <= gamma * expected_calls + 1e-12
        assert expected_calls <= before + 1e-12
        before = expected_calls
    assert before == pytest.approx(1)
    assert lost[0] < 1e-12
    # All at once is the product of the marginals.
    marginals = [oracle.probs.sum([j for j in range(4) if j != i]) for i in range(4)]
    product = torch.einsum("a,b,c,d->abcd", *marginals)
    assert lost[-1] == pytest.approx(divergence(truth, product), abs=1e-12)
    assert lost[-1] > 0.1


@pytest.mark.parametrize("name", ["margin", "entropy"])
def test_any_order_that_goes_by_what_is_visible_has_the_law_of_the_data(name):
    """One token a step in an order of the network's choosing is exact as well."""
    oracle = random_joint()
    law, calls = law_of_path(oracle, MostConfident(name, 1))
    assert torch.allclose(law, oracle.probs.flatten(), rtol=1e-12)
    assert (calls == 4).all()


# --- what does not go together ---


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("entropy", Threshold(0.5)),
        ("entropy", Factor()),
        ("margin", Factor()),
        ("drawn", EntropyBound()),
        ("confidence", EntropyBound()),
    ],
)
def test_a_rule_is_refused_with_a_measure_that_it_is_not_made_for(name, rule):
    with pytest.raises(UserError, match="ranks predictions by"):
        MostConfident(name, 1, rule)


def test_numbers_out_of_range_are_refused():
    for wrong in (-1.0, math.nan):
        for rule in (Threshold, Factor, EntropyBound):
            with pytest.raises(UserError, match="at least 0"):
                rule(wrong)
    with pytest.raises(UserError, match="'margin'"):
        MostConfident("margn")


def test_every_order_writes_the_only_text_there_is():
    probs = torch.zeros((3,) * 5, dtype=torch.float64)
    probs[2, 0, 1, 1, 2] = 1
    oracle = JointOracle(probs)
    rules = {"drawn": Threshold(), "confidence": Factor(), "entropy": EntropyBound()}
    for name, rule in rules.items():
        frames = run(oracle, MostConfident(name, 1, rule), blank(oracle, 4), time_grid(5))
        assert (frames[-1].canvas.ids == torch.tensor([2, 0, 1, 1, 2])).all()
        # Everything is certain at once.
        assert frames[-1].nfe == 1


def test_the_measure_that_a_policy_reads_is_that_of_its_prediction():
    """What is revealed at a threshold of the margin has that margin, by the definition."""
    frames = frames_of(Custom(MostConfident("margin", 1, Threshold(0.4))), BLANK * 20)
    for before, frame in pairwise(frames):
        logits = ORACLE(before.canvas.ids, frame.time)
        flat = confidence_score(
            "margin", logits.view(-1, 2), torch.zeros(logits[..., 0].numel()).long()
        )
        above = (flat.view(20, 12) >= 0.4) & before.canvas.masked
        several = above.any(1)
        assert torch.equal(frame.revealed[several], above[several])
