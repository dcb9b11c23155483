"""Block diffusion: one token a block is the autoregressive model, one block a row masked diffusion.

In between, what is checked is who may know what, and that a cache changes nothing.
"""

import warnings
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MptConfig,
    Qwen3Config,
    XGLMConfig,
)

from checks import assert_law, assert_mean, draw_rows, generator, golden, random_joint
from enumeration import block_bound
from test_sampler import OneAtATime, counts_of
from unmask.diffusion.objectives.block import block_nelbo, block_times
from unmask.diffusion.objectives.masked import continuous_nelbo, discrete_nelbo, exact_k_nelbo
from unmask.diffusion.processes.absorbing import AbsorbingProcess
from unmask.diffusion.rng import RowRng
from unmask.diffusion.schedules.continuous import Polynomial
from unmask.diffusion.schedules.grids import stratified_times, time_grid
from unmask.errors import UserError
from unmask.evaluation.oracles.block import BlockOracle
from unmask.models.decoder import (
    DecoderDenoiser,
    blocks_mask,
    check_decoder,
    first_block,
    halves_mask,
)
from unmask.models.encoder import EncoderDenoiser
from unmask.sampling.blocks import sample_blocks
from unmask.sampling.canvas import Canvas
from unmask.sampling.policies.confidence import MostConfident, Threshold
from unmask.sampling.policies.fixed_order import RandomOrder
from unmask.sampling.policies.remasking import Renoise
from unmask.sampling.sampler import sample
from unmask.sampling.token_sampling import Draw

VOCAB, MASK = 12, 11
BODY = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "initializer_range": 0.3,
    "pad_token_id": None,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 24, "vocab_size": VOCAB}
CONFIGS = {
    "llama": LlamaConfig(**BODY),
    "gpt2": GPT2Config(**GPT2, initializer_range=0.3, bos_token_id=0, eos_token_id=0),
    "qwen3": Qwen3Config(**BODY, num_key_value_heads=2, head_dim=8),
    "gpt_neox": GPTNeoXConfig(**BODY),
}
PROCESS = AbsorbingProcess(Polynomial(), MASK)


def network(name: str, attention: str = "sdpa", seed: int = 0):
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(CONFIGS[name], attn_implementation=attention).eval()


def decoder(name: str, block_length: int, attention: str = "sdpa", **more) -> DecoderDenoiser:
    return DecoderDenoiser(network(name, attention), [MASK], MASK, block_length, **more)


def rows(count: int, length: int, seed: int = 0) -> Tensor:
    return torch.randint(1, MASK, (count, length), generator=generator(seed))


def noised(x0: Tensor, seed: int = 1) -> tuple[Tensor, Tensor]:
    masked = torch.rand(x0.shape, generator=generator(seed)) < 0.6
    return x0.masked_fill(masked, MASK), masked


# --- who sees whom ---


def test_the_mask_of_both_halves_written_out():
    # Four noised tokens, then the same four clean; blocks of two.
    expected = """
        11.. ....
        11.. ....
        ..11 11..
        ..11 11..
        .... 11..
        .... 11..
        .... 1111
        .... 1111
    """
    drawn = [line.replace(" ", "") for line in expected.split("\n") if line.strip()]
    seen = torch.tensor([[c == "1" for c in line] for line in drawn])
    assert torch.equal(halves_mask(4, 2), seen)


def test_the_mask_of_writing_written_out():
    # Positions 2 to 5 are read, 0 and 1 were read before; blocks of two.
    expected = ["1111..", "1111..", "111111", "111111"]
    seen = torch.tensor([[c == "1" for c in line] for line in expected])
    assert torch.equal(blocks_mask(2, 6, 2), seen)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_block_depends_on_itself_and_on_the_clean_blocks_before_it(name, attention):
    length, size = 12, 3
    network = decoder(name, size, attention)
    x0 = rows(1, length)
    xt, _ = noised(x0)
    with torch.no_grad():
        before = network(xt, x0)[..., :MASK]
        for block in range(4):
            columns = slice(block * size, (block + 1) * size)
            other = x0.clone()
            other[:, columns] = x0[:, columns] % (MASK - 1) + 1
            gap = (network(xt, other)[..., :MASK] - before).abs().amax((0, 2)).view(4, size).amax(1)
            assert (gap[: block + 1] == 0).all()
            assert (gap[block + 1 :] > 1e-3).all()
            other = xt.clone()
            other[:, columns] = x0[:, columns] % (MASK - 1) + 1
            gap = (network(other, x0)[..., :MASK] - before).abs().amax((0, 2)).view(4, size)
            assert (gap[torch.arange(4) != block] == 0).all()
            assert (gap[block] > 1e-3).all(), "within a block attention goes both ways"


@pytest.mark.parametrize("name", CONFIGS)
def test_the_clean_half_never_depends_on_the_noised_one(name):
    length, size = 8, 2
    network = decoder(name, size)
    x0 = rows(1, length)
    place = torch.arange(length).repeat(2)
    clean = (torch.arange(2 * length) >= length)[None]

    def second_half(xt: Tensor) -> Tensor:
        both = torch.cat([xt, x0], 1)
        return network.logits(both, halves_mask(length, size), place, clean)

    with torch.no_grad():
        one, other = (second_half(noised(x0, seed)[0]) for seed in (1, 2))
        assert torch.equal(one, other)


def test_what_lies_after_the_end_of_a_text_does_not_matter():
    network = decoder("llama", 4)
    x0 = rows(3, 10)
    xt, masked = noised(x0)
    valid = torch.arange(10) < torch.tensor([10, 7, 5])[:, None]
    with torch.no_grad():
        every = network(xt, x0, valid=valid)
        for row, count in enumerate([10, 7, 5]):
            alone = network(xt[row : row + 1, :count], x0[row : row + 1, :count])
            assert (every[row, :count] - alone[0])[:, :MASK].abs().max() < 1e-5
        asked = network(xt, x0, at=masked & valid, valid=valid)
        assert (asked - every[masked & valid])[:, :MASK].abs().max() < 1e-5
        assert torch.isneginf(asked[:, MASK]).all()


# --- the cache ---


def read_through(network: DecoderDenoiser, xt: Tensor, x0: Tensor) -> Tensor:
    """Return the logits of every block, each asked for twice, from one context."""
    context, parts = network.context(), []
    for first in range(0, xt.shape[1], network.block_length):
        columns = slice(first, first + network.block_length)
        # A first look at the block, noised otherwise, must leave no trace.
        context(x0[:, columns].flip(0), torch.ones(len(xt)))
        parts.append(context(xt[:, columns], torch.ones(len(xt))))
        context.append(x0[:, columns])
    return torch.cat(parts, 1)


@pytest.mark.parametrize("length", [12, 11])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", CONFIGS)
def test_the_cache_gives_what_all_blocks_at_once_give(name, attention, length):
    network = decoder(name, 4, attention)
    x0 = rows(3, length)
    xt, _ = noised(x0)
    with torch.no_grad():
        at_once = network(xt, x0)[..., :MASK]
    assert (read_through(network, xt, x0)[..., :MASK] - at_once).abs().max() < 1e-4
    assert at_once.std() > 0.1


def test_the_oldest_block_that_is_seen():
    # Four blocks fit: the present one and up to three before it.
    assert [first_block(n, 4) for n in range(9)] == [0, 0, 0, 0, 2, 2, 4, 4, 6]
    assert [first_block(n, 3) for n in range(8)] == [0, 0, 0, 2, 2, 4, 4, 6]
    assert [first_block(n, 2) for n in range(4)] == [0, 0, 1, 2]
    assert first_block(1000, None) == 0
    for window in range(2, 9):
        kept = [n - first_block(n, window) for n in range(window, 50)]
        assert min(kept) == window // 2
        assert max(kept) < window


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_after_the_window_the_network_sees_the_newer_blocks_from_the_start_symbol_on(name):
    network = decoder(name, 3, start=1, window=12)
    x0 = rows(2, 30)
    xt, _ = noised(x0)
    through = read_through(network, xt, x0)
    for block in range(10):
        first = 3 * first_block(block, 4)
        seen, hidden = x0[:, first : 3 * block + 3].clone(), xt[:, first : 3 * block + 3].clone()
        if first:
            seen[:, 0] = hidden[:, 0] = x0[:, 0]
        with torch.no_grad():
            fresh = network(hidden, seen)[:, -3:]
        now = through[:, 3 * block : 3 * block + 3]
        assert (now - fresh)[..., :MASK].abs().max() < 1e-4, block


# --- both ends: one token, one block ---


@pytest.mark.parametrize("name", CONFIGS)
def test_blocks_of_one_token_are_the_autoregressive_model(name):
    model = network(name)
    x0 = rows(4, 9)
    everywhere = torch.ones_like(x0, dtype=torch.bool)
    expected = torch.zeros(4)
    with torch.no_grad():
        for i in range(9):
            # The model's own causal order: what stands before, then a mask that predicts itself.
            ids = torch.cat([x0[:, :i], torch.full((4, 1), MASK)], 1)
            logits = model(input_ids=ids).logits[:, -1, :MASK]
            expected -= logits.log_softmax(-1).gather(1, x0[:, i, None])[:, 0]
        blocks = DecoderDenoiser(model, [MASK], MASK, 1)
        for seed in (0, 1):
            t = stratified_times(4, generator(seed))
            loss = block_nelbo(
                blocks, partial(exact_k_nelbo, process=PROCESS), 1, x0, t, everywhere, generator(0)
            )
            assert (loss.nats - expected).abs().max() < 1e-4
            # Trained at t = 1 alone, blocks of one token have the autoregressive loss exactly.
            loss = block_nelbo(
                blocks,
                partial(continuous_nelbo, process=PROCESS),
                1,
                x0,
                t,
                everywhere,
                generator(0),
                interval=(1.0, 1.0),
            )
            assert (loss.nats - expected).abs().max() < 1e-4
            assert loss.tokens.tolist() == [9] * 4


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3"])
def test_one_block_is_masked_diffusion_with_the_same_network(name):
    model = network(name)
    blocks = DecoderDenoiser(model, [MASK], MASK, 9)
    # Transformers' own way to let a decoder look both ways.
    both_ways = network(name)
    both_ways.config.is_causal = False
    encoder = EncoderDenoiser(both_ways, [MASK])
    x0 = rows(4, 9)
    editable = torch.rand(x0.shape, generator=generator(5)) < 0.8
    with torch.no_grad():
        for nelbo in (continuous_nelbo, exact_k_nelbo, partial(discrete_nelbo, num_steps=4)):
            bound = partial(nelbo, process=PROCESS)
            t = stratified_times(4, generator(1))
            ordinary = bound(encoder, x0=x0, t=t, editable=editable, generator=generator(2))
            as_block = block_nelbo(blocks, bound, 9, x0, t, editable, generator(2))
            assert (as_block.nats - ordinary.nats).abs().max() < 1e-4
            assert torch.equal(as_block.tokens, ordinary.tokens)
            assert ordinary.nats.min() > 0


# --- the bound ---


@pytest.mark.parametrize("block_length", [1, 2])
def test_with_exact_predictions_the_bound_is_the_entropy_of_the_golden_toy(block_length):
    oracle = BlockOracle(golden(), block_length)
    assert block_bound(oracle, golden(), block_length) == pytest.approx(1.220607, abs=1e-6)


@pytest.mark.parametrize("block_length", [1, 2, 3, 4])
def test_the_bound_of_every_block_length_is_the_entropy(block_length):
    joint = random_joint()
    oracle = BlockOracle(joint, block_length)
    assert block_bound(oracle, joint, block_length) == pytest.approx(joint.entropy(), abs=1e-9)
    process = AbsorbingProcess(Polynomial(), joint.mask_token_id)
    x0 = draw_rows(joint, 20_000, seed=3)
    everywhere = torch.ones_like(x0, dtype=torch.bool)
    for nelbo in (exact_k_nelbo, continuous_nelbo):
        rng = generator(5)
        t = stratified_times(len(x0), rng)
        bound = partial(nelbo, process=process)
        loss = block_nelbo(oracle, bound, block_length, x0, t, everywhere, rng)
        assert_mean(loss.nats, joint.entropy())
        if block_length == 1 and nelbo is exact_k_nelbo:
            assert (loss.nats + joint.log_prob(x0)).abs().max() < 1e-9


@pytest.mark.parametrize(
    ("block_length", "num_steps", "expected"),
    [(2, 1, 1.283876), (2, 2, 1.252242), (1, 1, 1.220607), (1, 5, 1.220607)],
)
def test_the_bound_of_a_sampler_with_so_many_steps_a_block(block_length, num_steps, expected):
    joint = golden()
    process = AbsorbingProcess(Polynomial(), joint.mask_token_id)
    x0 = draw_rows(joint, 40_000, seed=3)
    rng = generator(4)
    bound = partial(discrete_nelbo, process=process, num_steps=num_steps)
    loss = block_nelbo(
        BlockOracle(joint, block_length),
        bound,
        block_length,
        x0,
        stratified_times(len(x0), rng),
        torch.ones_like(x0, dtype=torch.bool),
        rng,
    )
    assert_mean(loss.nats, expected)


def test_an_interval_gives_the_mean_of_the_integrand_over_it():
    # With the exact predictions of the toy the integrand is (1 - m) 1.157338 + m 1.283876.
    joint = golden()
    process = AbsorbingProcess(Polynomial(), joint.mask_token_id)
    x0 = draw_rows(joint, 60_000, seed=3)
    for low, high in ((0.6, 1.0), (0.3, 0.5)):
        rng = generator(4)
        loss = block_nelbo(
            BlockOracle(joint, 2),
            partial(continuous_nelbo, process=process),
            2,
            x0,
            stratified_times(len(x0), rng),
            torch.ones_like(x0, dtype=torch.bool),
            rng,
            interval=(low, high),
        )
        middle = (low + high) / 2
        assert_mean(loss.nats, (1 - middle) * 1.157338 + middle * 1.283876)


def test_given_tokens_and_padding_are_no_part_of_the_bound():
    joint = random_joint()
    oracle = BlockOracle(joint, 2)
    process = AbsorbingProcess(Polynomial(), joint.mask_token_id)
    x0 = draw_rows(joint, 500, seed=3)
    given = torch.tensor([False, False, True, True]).expand_as(x0)
    bound = partial(exact_k_nelbo, process=process)

    def nats(x0, editable, valid=None, draws=40):
        rng = generator(4)
        times = [stratified_times(len(x0), rng) for _ in range(draws)]
        losses = [block_nelbo(oracle, bound, 2, x0, t, editable, rng, valid) for t in times]
        assert losses[0].tokens.tolist() == editable.sum(1).tolist()
        return torch.stack([loss.nats for loss in losses]).mean()

    # -log p(x_3, x_4 | x_1, x_2), and -log p(x_1, x_2, x_3) with the fourth as padding.
    pair = joint.probs.sum((2, 3))[x0[:, 0], x0[:, 1]].log()
    expected = (pair - joint.log_prob(x0)).mean()
    assert nats(x0, given) == pytest.approx(expected.item(), rel=0.01)
    valid = torch.tensor([True, True, True, False]).expand_as(x0)
    three = -joint.probs.sum(3)[x0[:, 0], x0[:, 1], x0[:, 2]].log().mean()
    padded = x0.masked_fill(~valid, 0)
    assert nats(padded, valid, valid) == pytest.approx(three.item(), rel=0.01)


def test_times_lie_one_in_each_stratum_of_batch_and_blocks():
    rng = generator(0)
    for _ in range(50):
        t = stratified_times(6, rng)
        times = block_times(t, 5, rng)
        offset = t.min() / 5
        strata = torch.floor((times - offset) * 30 + 1e-6).long()
        assert sorted(strata.flatten().tolist()) == list(range(30))
        within = torch.floor(times * 5 - 1e-9).long()
        assert (within.sort(1).values == torch.arange(5)).all()
    assert torch.equal(block_times(t, 1, rng)[:, 0], t)


def test_the_time_of_every_single_block_is_uniform():
    # Laid out along the row without a permutation, block b would only ever see its own stratum.
    rng = generator(0)
    times = torch.stack([block_times(stratified_times(3, rng), 4, rng) for _ in range(4000)])
    for row in range(3):
        for block in range(4):
            cell = torch.floor(times[:, row, block] * 16).long().clamp_max(15)
            assert_law(cell.bincount(minlength=16), torch.full((16,), 1 / 16))


# --- writing ---


def blank(count: int, length: int, oracle) -> Canvas:
    mask = oracle.mask_token_id
    return Canvas.from_rows([[None] * length] * count, mask, mask)


def written(
    oracle, count: int, length: int, block_length: int, policy, steps: int, end=None, first_seed=0
):
    process = AbsorbingProcess(Polynomial(), oracle.mask_token_id)

    context = oracle.context()

    def write(canvas, rng):
        return sample(context, process, canvas, policy, Draw(), time_grid(steps), rng)

    canvas = blank(count, length, oracle)
    rng = RowRng(torch.arange(first_seed, first_seed + count))
    return list(sample_blocks(context, canvas, rng, block_length, write, end))


@pytest.mark.parametrize(("block_length", "steps"), [(1, 1), (2, 2), (3, 3), (4, 4)])
def test_one_token_a_step_has_exactly_the_law_of_the_data(block_length, steps):
    joint = random_joint()
    frames = written(BlockOracle(joint, block_length), 20_000, 4, block_length, OneAtATime(), steps)
    assert frames[-1].nfe == 4
    assert [frame.step for frame in frames] == list(range(5))
    assert_law(counts_of(frames[-1].canvas.ids, 3), joint.probs)


def test_one_step_a_block_draws_the_blocks_right_and_the_tokens_in_them_apart():
    joint = random_joint()
    frames = written(BlockOracle(joint, 2), 20_000, 4, 2, RandomOrder(), 1)
    assert frames[-1].nfe == 2
    first = joint.probs.sum((2, 3))
    apart = first.sum(1)[:, None] * first.sum(0)
    then = joint.probs / first[..., None, None]
    law = apart[..., None, None] * then.sum(3)[..., None] * then.sum(2)[:, :, None]
    assert_law(counts_of(frames[-1].canvas.ids, 3), law)
    with pytest.raises(AssertionError, match="chi-square"):
        assert_law(counts_of(frames[-1].canvas.ids, 3), joint.probs)


def test_a_text_ends_where_its_end_symbol_was_written():
    joint, end = random_joint(), 2
    frames = written(BlockOracle(joint, 2), 20_000, 4, 2, OneAtATime(), 2, end=end)
    canvas = frames[-1].canvas
    assert not canvas.masked.any()
    size = canvas.valid.sum(1)
    for length in range(1, 5):
        rows = canvas.ids[size == length, :length]
        ended = (rows == end).any(1)
        assert not (rows[:, :-1] == end).any()
        assert ended.all() or length == 4
    # The law of what stands before the end, summed from that of the whole.
    code = torch.where(canvas.valid, canvas.ids, 0) * 4 ** torch.arange(4)
    whole = joint.sequences()
    stop = ((whole == end).cumsum(1) - (whole == end).long()) > 0
    codes = (whole.masked_fill(stop, 0) * 4 ** torch.arange(4)).sum(1)
    law = torch.zeros(256, dtype=torch.float64).index_add(0, codes, joint.probs.flatten())
    assert_law(code.sum(1).bincount(minlength=256), law)


def test_the_work_ends_when_all_texts_have_ended():
    oracle, end = BlockOracle(random_joint(), 1), 2
    ids = written(oracle, 100, 4, 1, RandomOrder(), 1)[-1].canvas.ids
    size = torch.where((ids == end).any(1), (ids == end).long().argmax(1) + 1, 4)
    for row in range(20):
        frames = written(oracle, 1, 4, 1, RandomOrder(), 1, end=end, first_seed=row)
        assert frames[-1].nfe == size[row]
        assert frames[-1].canvas.valid.sum() == size[row]
        assert not frames[-1].canvas.masked.any()
    assert set(size[:20].tolist()) == {1, 2, 3, 4}


def test_one_block_is_written_as_without_blocks():
    joint = random_joint()
    process = AbsorbingProcess(Polynomial(), joint.mask_token_id)
    for policy in (RandomOrder(), MostConfident(), Renoise()):
        canvas, rng = blank(50, 4, joint), RowRng(torch.arange(50))
        plain = list(sample(joint, process, canvas, policy, Draw(), time_grid(3), rng))
        blocks = written(BlockOracle(joint, 4), 50, 4, 4, policy, 3)
        for one, other in zip(plain, blocks, strict=True):
            assert torch.equal(one.canvas.ids, other.canvas.ids)
            assert torch.equal(one.canvas.masked, other.canvas.masked)
            assert torch.equal(one.revealed, other.revealed)
            assert torch.equal(one.confidence.nan_to_num(9), other.confidence.nan_to_num(9))
            assert one.nfe == other.nfe


class Recomputing:
    """A context without a cache: everything is read again in every call."""

    def __init__(self, network: DecoderDenoiser) -> None:
        self.network, self.blocks = network, []
        self.vocab_size, self.data_ids = network.vocab_size, network.data_ids

    def append(self, block):
        self.blocks.append(block)

    def keep(self, rows):
        pass

    def __call__(self, xt, t, *, at=None, valid=None):
        network, present = self.network, len(self.blocks)
        kept = self.blocks[first_block(present, network.window_blocks) :]
        before = torch.cat([xt[:, :0], *kept], 1)
        if len(kept) < present:
            before[:, : network.start] = self.blocks[0][:, : network.start]
        row = torch.cat([before, network.whole(xt, valid)], 1)
        logits = network(row, row)[:, before.shape[1] :][:, : xt.shape[1]]
        return logits if at is None else logits[at]


class Uncached(DecoderDenoiser):
    def context(self, cached=True):
        return Recomputing(self)


# The third is longer than the window; in the last one stands an end symbol, which ends nothing.
PROMPTS = [[0, 3, 5], [0], [0, *range(1, 10), *range(1, 10), 1, 2], [0, 4, 10, 4, 4, 4]]


def texts(network: DecoderDenoiser, prompts, length: int, policy, steps: int, end=None, first=0):
    rows = [[*prompt, *[None] * length] for prompt in prompts]
    canvas = Canvas.from_rows(rows, MASK, MASK)

    context = network.context()

    def write(canvas, rng):
        return sample(context, PROCESS, canvas, policy, Draw(), time_grid(steps), rng)

    rng = RowRng(torch.arange(first, first + len(prompts)))
    frames = list(sample_blocks(context, canvas, rng, network.block_length, write, end))
    last = frames[-1].canvas
    return frames, [last.ids[i, last.valid[i]].tolist() for i in range(len(prompts))]


@pytest.mark.parametrize(
    "policy", [RandomOrder(), MostConfident(tokens_per_step=1, rule=Threshold(0.5)), Renoise()]
)
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_writing_with_and_without_a_cache_alone_and_in_a_batch(name, policy):
    options = {"start": 1, "window": 16}
    cached = decoder(name, 4, **options)
    uncached = Uncached(cached.model, [MASK], MASK, 4, **options)
    # Beyond the positions of the gpt2, so that the window has to move several times.
    frames, together = texts(cached, PROMPTS, 40, policy, 3, end=10)
    assert texts(uncached, PROMPTS, 40, policy, 3, end=10)[1] == together
    for i, prompt in enumerate(PROMPTS):
        assert texts(cached, [prompt], 40, policy, 3, end=10, first=i)[1] == [together[i]]
        assert together[i][: len(prompt)] == prompt
        assert 10 not in together[i][len(prompt) : -1]
        assert together[i][-1] == 10 or len(together[i]) == len(prompt) + 40
    assert len({len(text) for text in together}) > 1
    for before, after in pairwise(frames):
        first, stop = after.block
        changed = (before.canvas.ids != after.canvas.ids).any(0).nonzero()[:, 0]
        assert ((changed >= first) & (changed < stop)).all()
        assert not after.canvas.masked[:, :first].any()


def test_rows_that_have_ended_are_not_shown_again():
    network = decoder("llama", 4, start=1, window=16)
    shown = []
    network.bare.base_model.register_forward_pre_hook(
        lambda _module, _args, named: shown.append(named["input_ids"].shape[0]), with_kwargs=True
    )
    rows = [prompt for prompt in PROMPTS for _ in range(3)]
    frames, together = texts(network, rows, 40, RandomOrder(), 3, end=10)
    # How many rows a block has left is known when it begins; its first call also reads the last.
    left = [int(frame.canvas.masked.any(1).sum()) for frame in frames]
    assert shown[0] == len(rows)
    assert min(shown) < len(rows)
    assert shown == sorted(shown, reverse=True)
    assert min(shown) == min(count for count in left if count)
    for i, row in enumerate(rows):
        assert texts(network, [row], 40, RandomOrder(), 3, end=10, first=i)[1] == [together[i]]


def test_calls_are_counted_as_the_network_sees_them():
    network = decoder("llama", 4)
    calls = []
    network.bare.base_model.register_forward_hook(lambda *_: calls.append(1))
    frames, _ = texts(network, PROMPTS[:2], 14, RandomOrder(), 3)
    assert frames[-1].nfe == len(calls)
    widths = []
    network.bare.base_model.register_forward_pre_hook(
        lambda _module, _args, named: widths.append(named["input_ids"].shape[1]), with_kwargs=True
    )
    texts(network, PROMPTS[:1], 13, MostConfident(), 2)
    # 3 given tokens, then 1, 4, 4 and 4 to write; a finished block is read with the next one.
    assert widths == [4, 8, 4, 8, 4, 8, 4]


# --- which networks ---


def test_networks_that_do_not_follow_a_mask_are_refused():
    small = {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": VOCAB}
    refused = [
        MambaConfig(**small),
        BloomConfig(hidden_size=32, n_layer=2, n_head=4, vocab_size=VOCAB),
        MptConfig(d_model=32, n_layers=2, n_heads=4, vocab_size=VOCAB),
        # It takes a mask for one row, and not for two.
        XGLMConfig(d_model=32, num_layers=2, attention_heads=4, ffn_dim=64, vocab_size=VOCAB),
    ]
    for config in refused:
        torch.manual_seed(0)
        with pytest.raises(UserError, match=f"{config.model_type} model cannot be trained"):
            check_decoder(AutoModelForCausalLM.from_config(config))
    for name in CONFIGS:
        for attention in ("sdpa", "eager"):
            check_decoder(network(name, attention).train())


def test_a_network_without_positions_is_refused_by_that_name():
    bloom = BloomConfig(hidden_size=32, n_layer=2, n_head=4, vocab_size=VOCAB)
    with pytest.raises(UserError, match=r"bloom model .* it takes no position_ids"):
        check_decoder(AutoModelForCausalLM.from_config(bloom))


class Renamed(LlamaForCausalLM):
    """As a later release might be: its cache goes by a name that nobody knows yet."""

    def forward(self, input_ids, attention_mask, position_ids, use_cache, memory=None):
        raise AssertionError("never reached")


class Deprecated(LlamaForCausalLM):
    """As a later release might be: an argument is on its way out."""

    def forward(self, *args, attention_mask=None, position_ids=None, **options):
        warnings.warn("`position_ids` will be removed", FutureWarning, stacklevel=2)
        return super().forward(
            *args, attention_mask=attention_mask, position_ids=position_ids, **options
        )


def test_a_renamed_argument_is_no_property_of_the_architecture():
    with pytest.raises(TypeError, match="unexpected keyword argument 'past_key_values'"):
        check_decoder(Renamed(LlamaConfig(**BODY)))


def test_a_deprecation_is_no_property_of_the_architecture():
    model = Deprecated(LlamaConfig(**BODY))
    with warnings.catch_warnings(action="error"), pytest.raises(FutureWarning, match="removed"):
        check_decoder(model)
    with pytest.warns(FutureWarning, match="removed"):
        check_decoder(model)


def test_an_attention_that_takes_no_mask_is_refused():
    model = network("llama")
    model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(UserError, match="flash_attention_2"):
        DecoderDenoiser(model, [MASK], MASK, 2)
