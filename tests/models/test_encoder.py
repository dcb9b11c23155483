"""Real transformers encoders as denoisers: same numbers, less work. Random weights, no network."""

import math

import pytest
import torch
from torch import Tensor
from transformers import (
    AlbertConfig,
    AutoModelForMaskedLM,
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    PreTrainedModel,
    RobertaConfig,
)

from checks import generator
from unmask.diffusion.objectives.masked import continuous_nelbo, masked_mean
from unmask.diffusion.processes.absorbing import AbsorbingProcess
from unmask.diffusion.schedules.continuous import Polynomial
from unmask.errors import UserError
from unmask.models.encoder import EncoderDenoiser
from unmask.models.positions import position_limit
from unmask.models.time_conditioning import attach, conditioning_of

V, PAD, MASK, SPECIAL = 60, 1, 4, [0, 1, 2, 4]
SMALL = {
    "vocab_size": V,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
    "pad_token_id": PAD,
    # Sharp random weights: with the usual 0.02 no row would notice another.
    "initializer_range": 0.3,
}
DISTILBERT = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48} | {
    key: SMALL[key]
    for key in ("vocab_size", "max_position_embeddings", "pad_token_id", "initializer_range")
}
MODERNBERT = SMALL | {
    "cls_token_id": 0,
    "sep_token_id": 2,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "local_attention": 8,
    "global_attn_every_n_layers": 2,
}
CONFIGS = {
    "bert": BertConfig(**SMALL),
    "roberta": RobertaConfig(**SMALL),
    "modernbert": ModernBertConfig(**MODERNBERT),
    "distilbert": DistilBertConfig(**DISTILBERT),
    "electra": ElectraConfig(**SMALL, embedding_size=16),
    "albert": AlbertConfig(**SMALL, embedding_size=16),
}


def build(name: str) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForMaskedLM.from_config(CONFIGS[name]).eval()


@pytest.fixture(params=CONFIGS)
def model(request) -> PreTrainedModel:
    return build(request.param)


def random_rows(rows: int, length: int) -> Tensor:
    x = torch.randint(5, V, (rows, length), generator=generator(0))
    return x.masked_fill(torch.rand(rows, length, generator=generator(1)) < 0.4, MASK)


def count_head_rows(model: PreTrainedModel) -> list[int]:
    """Return a list to which every call of the output layer adds its number of rows."""
    rows: list[int] = []

    def note(_module, args):
        rows.append(args[0].numel() // args[0].shape[-1])

    model.get_output_embeddings().register_forward_pre_hook(note)
    return rows


@torch.no_grad()
def test_logits_where_asked_are_those_of_the_model(model):
    x = random_rows(3, 11)
    denoiser = EncoderDenoiser(model, SPECIAL)
    plain = model(input_ids=x).logits
    at = x == MASK
    data = denoiser.data_ids
    assert torch.allclose(denoiser(x, torch.ones(3))[..., data], plain[..., data], atol=1e-5)
    assert torch.allclose(denoiser(x, torch.ones(3), at=at)[:, data], plain[at][:, data], atol=1e-5)
    # And the hook is gone again.
    assert torch.equal(model(input_ids=x).logits, plain)


@torch.no_grad()
def test_the_head_sees_only_the_rows_that_were_asked_for(model):
    x = random_rows(4, 12)
    at = torch.rand(4, 12, generator=generator(2)) < 0.3
    denoiser = EncoderDenoiser(model, SPECIAL)
    seen = count_head_rows(model)
    logits = denoiser(x, torch.ones(4), at=at)
    assert seen == [int(at.sum())]
    assert logits.shape == (int(at.sum()), V)


@torch.no_grad()
def test_the_network_runs_on_the_rows_that_are_asked_about(model):
    """With their own times and their own padding, in whatever order they stand."""
    attach(model, "prefix")
    for parameter in conditioning_of(model).parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x, times = random_rows(4, 10), torch.tensor([0.1, 0.9, 0.5, 0.3])
    valid = torch.arange(10) < torch.tensor([[10], [7], [10], [5]])
    at = (torch.arange(10) < 3) & torch.tensor([[False], [True], [False], [True]])
    denoiser, sizes = EncoderDenoiser(model, SPECIAL), []
    model.base_model.register_forward_hook(lambda *args: sizes.append(len(args[2][0])))
    found = denoiser(x, times, at=at, valid=valid)[:, denoiser.data_ids]
    whole = denoiser(x, times, valid=valid)[at][:, denoiser.data_ids]
    assert sizes == [2, 4]
    assert torch.allclose(found, whole, atol=1e-4)
    told_otherwise = denoiser(x, times.flip(0), at=at, valid=valid)[:, denoiser.data_ids]
    assert not torch.allclose(found, told_otherwise, atol=1e-2)


@torch.no_grad()
def test_a_few_rows_at_a_time_are_answered_as_all_at_once(model, monkeypatch):
    """Pieces of different size, one of which asks about nothing, with times and padding."""
    attach(model, "prefix")
    for parameter in conditioning_of(model).parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x, times = random_rows(5, 10), torch.tensor([0.1, 0.9, 0.5, 0.3, 0.7])
    valid = torch.arange(10) < torch.tensor([[10], [7], [10], [5], [10]])
    at = valid & (torch.rand(5, 10, generator=generator(4)) < 0.5)
    denoiser = EncoderDenoiser(model, SPECIAL)
    whole = denoiser(x, times, at=at, valid=valid)
    sizes = []
    model.base_model.register_forward_hook(lambda *args: sizes.append(len(args[2][0])))
    monkeypatch.setattr("unmask.models.encoder._CPU_TOKENS", 29)
    few = denoiser(x, times, at=at, valid=valid)
    assert sizes == [2, 2, 1]
    assert torch.equal(few.isneginf(), whole.isneginf())
    assert torch.allclose(few[:, denoiser.data_ids], whole[:, denoiser.data_ids], atol=1e-4)
    assert len(denoiser(x, times, at=torch.zeros_like(at), valid=valid)) == 0


@torch.no_grad()
def test_padding_does_not_change_a_row(model):
    x = random_rows(3, 9)
    wide = torch.cat([x, torch.full((3, 6), PAD)], 1)
    valid = torch.arange(15).expand(3, -1) < 9
    denoiser = EncoderDenoiser(model, SPECIAL)
    at, data = x == MASK, denoiser.data_ids
    plain = denoiser(x, torch.ones(3), at=at)[:, data]
    wide_at = torch.cat([at, torch.zeros(3, 6).bool()], 1)
    padded = denoiser(wide, torch.ones(3), at=wide_at, valid=valid)[:, data]
    assert torch.allclose(padded, plain, atol=1e-4)
    # The test has teeth: attended padding shows.
    careless = denoiser(wide, torch.ones(3), at=wide_at)[:, data]
    assert not torch.allclose(careless, plain, atol=1e-2)


@torch.no_grad()
def test_neighbours_do_not_change_a_row(model):
    x = random_rows(5, 9)
    denoiser = EncoderDenoiser(model, SPECIAL)
    together = denoiser(x, torch.ones(5))
    for i in range(5):
        alone = denoiser(x[i : i + 1], torch.ones(1))[0]
        assert torch.allclose(alone, together[i], atol=1e-4)


@torch.no_grad()
def test_what_is_not_data_is_never_predicted(model):
    denoiser = EncoderDenoiser(model, [*SPECIAL, V + 7])  # An added token without a logit.
    assert denoiser.vocab_size == V
    assert denoiser.data_ids.tolist() == [i for i in range(V) if i not in SPECIAL]
    x = random_rows(2, 7)
    for logits in (denoiser(x, torch.ones(2)), denoiser(x, torch.ones(2), at=x == MASK)):
        assert (logits[..., SPECIAL] == -math.inf).all()
        assert torch.isfinite(logits[..., denoiser.data_ids]).all()


def test_the_loss_trains_every_weight_that_it_reaches(model):
    """The in-place -inf and the gathered head leave the gradient of the plain computation."""
    x0 = torch.randint(5, V, (4, 10), generator=generator(3))
    process = AbsorbingProcess(Polynomial(), MASK)
    t = torch.tensor([0.2, 0.5, 0.8, 1.0])
    everywhere = torch.ones_like(x0).bool()
    denoiser = EncoderDenoiser(model, SPECIAL)
    loss = continuous_nelbo(denoiser, process, x0, t, everywhere, generator(4))
    loss.nats.sum().backward()
    got = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    xt, masked = process.corrupt(x0, t, everywhere, generator(4))
    logits = model(input_ids=xt).logits[..., denoiser.data_ids]
    log_p = torch.log_softmax(logits, -1).gather(
        2, torch.searchsorted(denoiser.data_ids, x0)[..., None]
    )[..., 0]
    (-(log_p * masked).sum(1) / t).sum().backward()
    want = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert got.keys() == want.keys()
    for name, gradient in got.items():
        assert torch.allclose(gradient, want[name], rtol=1e-3, atol=1e-4), name


def test_a_batch_in_which_nothing_was_masked_has_a_gradient_of_zero(model):
    """At a low mask rate short batches come without masks; training must not stop there."""
    x0 = torch.randint(5, V, (2, 3), generator=generator(5))
    process = AbsorbingProcess(Polynomial(), MASK)
    denoiser = EncoderDenoiser(model, SPECIAL)
    loss = masked_mean(denoiser, process, x0, 1e-9, torch.ones_like(x0).bool(), generator(6))
    assert loss.tokens.sum() == 0
    loss.per_token.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert len(gradients) > 0
    assert all((g == 0).all() for g in gradients)


def fits(model: PreTrainedModel, length: int) -> bool:
    x = torch.full((1, length), 5)
    try:
        model(input_ids=x)
    except (IndexError, RuntimeError):
        return False
    return True


@torch.no_grad()
@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert", "electra", "albert"])
def test_position_limit_is_the_longest_row_that_runs(name):
    model = build(name)
    limit = position_limit(model)
    # RoBERTa counts from padding_idx + 1 = 2, so two of its 40 positions are never used.
    assert limit == (38 if name == "roberta" else 40)
    assert fits(model, limit)
    assert not fits(model, limit + 1)


def test_position_limit_of_rotary_positions_is_the_configured_one():
    assert position_limit(build("modernbert")) == 40


def test_a_wrapped_model_is_found():
    model = build("bert")
    wrapped = torch.nn.Module()
    wrapped.module = model
    wrapped.forward = model.forward
    denoiser, seen = EncoderDenoiser(wrapped, SPECIAL), count_head_rows(model)
    x = random_rows(2, 6)
    with torch.no_grad():
        logits = denoiser(x, torch.ones(2), at=x == MASK)
    assert seen == [len(logits)]
    with pytest.raises(UserError, match="Linear"):
        EncoderDenoiser(torch.nn.Linear(2, 2), [])
