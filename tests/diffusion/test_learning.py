"""A small network, trained on a toy whose entropy is known, comes down to it: for every method.

And never below: what ends under the entropy of its data has been told something it should not know.
"""

import pytest
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from checks import draw_rows, generator, golden
from enumeration import (
    absorbing_bound,
    block_bound,
    expected,
    tokenwise_bound,
    tokenwise_steps_bound,
    transition_bound,
    uniform_bound,
)
from unmask.diffusion.formulation import Formulation, PerTokenFormulation, TransitionFormulation
from unmask.diffusion.objectives.any_order import order_nelbo, order_token_nats
from unmask.diffusion.registry import make_formulation
from unmask.diffusion.schedules.grids import stratified_times
from unmask.models.any_order import AnyOrderDenoiser
from unmask.models.causal import next_token_nats
from unmask.models.decoder import DecoderDenoiser
from unmask.models.encoder import EncoderDenoiser
from unmask.models.extra_weights import equip, learned_of
from unmask.models.ordered_attention import attach

JOINT = golden()
STEPS, BATCH = 320, 256
SPINDLE = {"name": "spindle", "strength": 0.3}
LEARNED = {"name": "learned", "eps": 0.0}
# Of only two levels, which need large steps.
GAUSSIAN = {"name": "linear-beta", "first": 0.1, "last": 0.2}
METHODS = {
    "MD4": ("absorbing", {"name": "linear"}, 0, 0.0, "none"),
    "MDLM": ("absorbing", {"name": "log-linear"}, 0, 0.0, "none"),
    "cosine": ("absorbing", {"name": "cosine"}, 0, 0.0, "none"),
    "D3PM absorbing": ("absorbing", {"name": "mutual-information"}, 100, 0.01, "none"),
    "D3PM uniform": ("uniform", {"name": "linear"}, 200, 0.0, "adaln"),
    "uniform, continuous": ("uniform", {"name": "linear"}, 0, 0.0, "adaln"),
    "D3PM Gaussian": ("gaussian", GAUSSIAN, 100, 0.0, "adaln"),
    "GenMD4": ("absorbing", LEARNED, 0, 0.0, "adaln"),
    "spindle, continuous": ("absorbing", SPINDLE, 0, 0.0, "adaln"),
    "spindle, prefix": ("absorbing", SPINDLE, 256, 0.0, "prefix"),
    "spindle, layerwise": ("absorbing", SPINDLE, 256, 0.01, "layerwise"),
}


def encoder() -> BertForMaskedLM:
    torch.manual_seed(0)
    return BertForMaskedLM(
        BertConfig(
            vocab_size=3,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=4,
            pad_token_id=None,
            initializer_range=0.1,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    )


def train(model: torch.nn.Module, loss_of) -> None:
    """Minimise a loss of (rows, generator) with a falling learning rate."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, STEPS)
    rng = generator(1)
    for step in range(STEPS):
        optimizer.zero_grad()
        loss_of(draw_rows(JOINT, BATCH, seed=step), rng).backward()
        optimizer.step()
        decay.step()


def judged(formulation: Formulation, denoiser: EncoderDenoiser) -> float:
    """Return the bound that training minimised, enumerated, in nats per sequence."""
    process, steps = formulation.process, formulation.num_steps
    if isinstance(formulation, TransitionFormulation):
        values = (
            transition_bound(process, denoiser, 2, steps)
            if steps
            else uniform_bound(process, denoiser, 2)
        )
    elif not isinstance(formulation, PerTokenFormulation):
        return absorbing_bound(denoiser, JOINT)
    elif steps:
        values = tokenwise_steps_bound(JOINT, process.schedule, steps, denoiser)
    else:
        values = tokenwise_bound(JOINT, process.schedule, denoiser, first_time=1e-3)
    return expected(JOINT, values)


@pytest.mark.parametrize("name", METHODS)
def test_the_bound_of_a_trained_network_comes_down_to_the_entropy(name):
    process, schedule, num_steps, weight, time = METHODS[name]
    model = encoder()
    equip(model, time, schedule)
    denoiser = EncoderDenoiser(model, [2])
    formulation = make_formulation(
        process,
        schedule,
        mask_token_id=2,
        vocab_size=3,
        data_ids=denoiser.data_ids,
        num_steps=num_steps,
        cross_entropy_weight=weight,
        counts=torch.tensor([11_000, 9_000, 0]),
        learned=learned_of(model),
        ordered=True,
    )
    everywhere = torch.ones(BATCH, 2, dtype=torch.bool)

    def loss_of(rows, rng):
        t = stratified_times(BATCH, rng)
        batch = {"x0": rows, "t": t, "editable": everywhere, "generator": rng}
        return formulation.objective(denoiser, **batch)[1].mean()

    with torch.no_grad():
        before = judged(formulation, denoiser)
    train(model, loss_of)
    with torch.no_grad():
        after = judged(formulation, denoiser)
    # Enumerated with the true law: nothing is left to chance, so below would be a leak.
    assert JOINT.entropy() <= after < JOINT.entropy() + 0.01
    assert before > JOINT.entropy() + 0.05


def test_the_likelihood_of_every_order_comes_down_to_the_entropy():
    model = encoder()
    attach(model)
    denoiser = AnyOrderDenoiser(model, [2], 2)
    everywhere = torch.ones(BATCH, 2, dtype=torch.bool)

    def loss_of(rows, rng):
        t = stratified_times(BATCH, rng)
        return order_nelbo(denoiser, rows, t, everywhere, rng).nats.mean()

    train(model, loss_of)
    x0 = JOINT.sequences()
    for order in ((0, 1), (1, 0)):
        with torch.no_grad():
            rank = torch.tensor(order).expand_as(x0)
            nats = order_token_nats(denoiser, x0, rank, everywhere[:4]).sum(1)
        exact = float(JOINT.probs.flatten() @ nats.double())
        assert JOINT.entropy() <= exact < JOINT.entropy() + 0.01


# A row is a start symbol and two tokens, so three tokens a block are one block a row.
@pytest.mark.parametrize("block_length", [1, 2, 3])
def test_a_decoder_in_blocks_comes_down_to_the_entropy_for_every_block_length(block_length):
    torch.manual_seed(0)
    start = 3
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=4,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=4,
            initializer_range=0.1,
            bos_token_id=start,
            eos_token_id=None,
        )
    )
    denoiser = DecoderDenoiser(model, [2, start], 2, block_length)
    formulation = make_formulation(
        "absorbing",
        {"name": "linear"},
        mask_token_id=2,
        vocab_size=4,
        data_ids=denoiser.data_ids,
        block_length=block_length,
    )
    editable = torch.tensor([False, True, True]).expand(BATCH, -1)

    def loss_of(rows, rng):
        t = stratified_times(BATCH, rng)
        rows = torch.cat([torch.full((BATCH, 1), start), rows], 1)
        batch = {"x0": rows, "t": t, "editable": editable, "generator": rng}
        return formulation.objective(denoiser, **batch)[1].mean()

    before = block_bound(denoiser, JOINT, block_length, [start])
    train(model, loss_of)
    after = block_bound(denoiser, JOINT, block_length, [start])
    assert JOINT.entropy() <= after < JOINT.entropy() + 0.01
    assert before > JOINT.entropy() + 0.05


def test_the_autoregressive_baseline_is_judged_by_the_same_measure():
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=4, n_embd=32, n_layer=2, n_head=2, n_positions=4, resid_pdrop=0.0,
                   embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=3, eos_token_id=3)
    )  # fmt: skip

    def nats(rows):
        rows = torch.cat([torch.full((len(rows), 1), 3), rows], 1)
        editable = torch.tensor([False, True, True]).expand_as(rows)
        return next_token_nats(model, rows, editable).sum(1)

    train(model, lambda rows, rng: nats(rows).mean())
    rows = JOINT.sequences()
    with torch.no_grad():
        exact = float(JOINT.probs.flatten() @ nats(rows).double())
    assert JOINT.entropy() <= exact < JOINT.entropy() + 0.01
