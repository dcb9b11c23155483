"""The time enters a network that was made without it, and changes nothing else."""

import copy

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForMaskedLM,
    FNetConfig,
    MobileBertConfig,
    PretrainedConfig,
    PreTrainedModel,
)

from checks import generator
from unmask.errors import UserError
from unmask.models.encoder import EncoderDenoiser
from unmask.models.positions import position_limit
from unmask.models.time_conditioning import attach, conditioning_of, sinusoid, split_state

NAMES = ["bert", "roberta", "modernbert", "distilbert"]
DESIGNS = ["prefix", "layerwise", "adaln"]
ZERO_INIT = ["layerwise", "adaln"]
SPECIAL = [0, 1, 2, 3, 4]


def load(zoo, name: str) -> PreTrainedModel:
    model = AutoModelForMaskedLM.from_pretrained(zoo / name).eval()
    gain = 0.3 / model.config.initializer_range
    with torch.no_grad():
        # All as sharp as the sharpest: with small weights no word would notice another.
        for p in model.parameters():
            p.mul_(gain if p.ndim == 2 else 1.0)
    return model


def perturb(model: PreTrainedModel) -> None:
    """Move the new weights away from zero, as training does."""
    torch.manual_seed(1)
    with torch.no_grad():
        for p in conditioning_of(model).parameters():
            p += 0.05 * torch.randn_like(p)


def timed(zoo, name: str, design: str) -> PreTrainedModel:
    model = load(zoo, name)
    torch.manual_seed(0)
    attach(model, design)
    perturb(model)
    return model


def random_rows(rows: int, length: int) -> Tensor:
    return torch.randint(10, 60, (rows, length), generator=generator(0))


def logits_of(model: PreTrainedModel, x: Tensor, t: Tensor, **options) -> Tensor:
    """Return the finite logits of the denoiser."""
    denoiser = EncoderDenoiser(model, SPECIAL)
    return denoiser(x, t, **options)[..., denoiser.data_ids]


@pytest.fixture(params=NAMES)
def name(request) -> str:
    return request.param


@pytest.fixture(params=DESIGNS)
def design(request) -> str:
    return request.param


def test_none_adds_nothing(zoo):
    model = load(zoo, "bert")
    before = set(model.state_dict())
    assert attach(model, "none") is None
    assert conditioning_of(model) is None
    assert set(model.state_dict()) == before
    x = random_rows(2, 7)
    times = torch.tensor([0.1, 0.9])
    assert torch.equal(logits_of(model, x, times), logits_of(model, x, 1 - times))


@torch.no_grad()
@pytest.mark.parametrize("design", ZERO_INIT)
def test_a_pretrained_network_starts_as_it_was(zoo, name, design):
    model = load(zoo, name)
    x, t = random_rows(3, 11), torch.tensor([0.0, 0.3, 1.0])
    plain = logits_of(model, x, t)
    attach(model, design)
    assert torch.allclose(logits_of(model, x, t), plain, atol=1e-6)
    # The test has teeth: the same hooks act as soon as a weight is not zero.
    perturb(model)
    assert not torch.allclose(logits_of(model, x, t), plain, atol=1e-2)


@torch.no_grad()
def test_each_row_depends_on_its_own_time_only(zoo, name, design):
    model = timed(zoo, name, design)
    x = random_rows(3, 11)
    t = torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)
    first = logits_of(model, x, t)
    second = logits_of(model, x, torch.tensor([0.2, 0.6, 0.8], dtype=torch.float64))
    assert torch.allclose(first[[0, 2]], second[[0, 2]], atol=1e-5)
    assert not torch.allclose(first[1], second[1], atol=1e-2)
    alone = logits_of(model, x[1:2], t[1:2])
    assert torch.allclose(alone[0], first[1], atol=1e-4)


@torch.no_grad()
def test_logits_where_asked_are_those_of_everywhere(zoo, name, design):
    """Also the proof that positions are picked after the prefix is gone."""
    model = timed(zoo, name, design)
    x, t = random_rows(3, 11), torch.tensor([0.2, 0.5, 0.8])
    at = torch.rand(3, 11, generator=generator(1)) < 0.4
    at[0, 0] = at[2, 10] = True
    everywhere = logits_of(model, x, t)
    assert everywhere.shape[:2] == (3, 11)
    assert torch.allclose(logits_of(model, x, t, at=at), everywhere[at], atol=1e-4)


@torch.no_grad()
def test_padding_does_not_change_a_row(zoo, name, design):
    model = timed(zoo, name, design)
    x, t = random_rows(3, 9), torch.tensor([0.2, 0.5, 0.8])
    wide = torch.cat([x, torch.full((3, 6), model.config.pad_token_id)], 1)
    valid = torch.arange(15).expand(3, -1) < 9
    plain = logits_of(model, x, t)
    assert torch.allclose(logits_of(model, wide, t, valid=valid)[:, :9], plain, atol=1e-4)
    # The test has teeth: attended padding shows.
    assert not torch.allclose(logits_of(model, wide, t)[:, :9], plain, atol=1e-2)


@torch.no_grad()
def test_the_prefix_is_one_more_embedding_in_front(zoo, name):
    """The hooks do what one would write by hand into a network without them."""
    model, plain = timed(zoo, name, "prefix"), load(zoo, name)
    x, t = random_rows(2, 8), torch.tensor([0.2, 0.8])
    valid = torch.arange(8).expand(2, -1) < torch.tensor([[8], [6]])
    words = plain.get_input_embeddings()(x)
    ((token,),) = conditioning_of(model)(t)
    mask = torch.cat([torch.ones(2, 1, dtype=torch.long), valid.long()], 1)
    row = torch.cat([token[:, None], words], 1)
    by_hand = plain(inputs_embeds=row, attention_mask=mask).logits[:, 1:]
    data = EncoderDenoiser(model, SPECIAL).data_ids
    hooked = logits_of(model, x, t, valid=valid)
    assert torch.allclose(hooked[valid], by_hand[..., data][valid], atol=1e-4)


@torch.no_grad()
def test_the_prefix_is_attended_where_there_is_padding(zoo, name):
    """The mask grows by a one at the front: neither the time nor the last word is lost."""
    model = timed(zoo, name, "prefix")
    x, valid = random_rows(1, 8), torch.arange(8).expand(1, -1) < 6
    early, late = (logits_of(model, x, torch.tensor([t]), valid=valid) for t in (0.1, 0.9))
    assert not torch.allclose(early[:, :6], late[:, :6], atol=1e-2)
    other = x.clone()
    other[0, 5] = 60 + 10 - x[0, 5]
    moved = logits_of(model, other, torch.tensor([0.1]), valid=valid)
    assert not torch.allclose(early[0, 0], moved[0, 0], atol=1e-3)
    other = x.clone()
    other[0, 6] = 60 + 10 - x[0, 6]
    assert torch.equal(
        early[:, :6], logits_of(model, other, torch.tensor([0.1]), valid=valid)[:, :6]
    )


@torch.no_grad()
def test_the_prefix_takes_one_position(zoo, name):
    model = load(zoo, name)
    limit = position_limit(model)
    attach(model, "prefix")
    assert position_limit(model) == limit - 1
    if name == "modernbert":
        return  # Rotary positions have no end at which a network breaks.
    t = torch.ones(1)
    assert logits_of(model, random_rows(1, limit - 1), t).shape[1] == limit - 1
    with pytest.raises((IndexError, RuntimeError)):
        logits_of(model, random_rows(1, limit), t)


@pytest.mark.parametrize("design", ZERO_INIT)
def test_the_other_designs_take_no_position(zoo, design):
    model = load(zoo, "roberta")
    limit = position_limit(model)
    attach(model, design)
    assert position_limit(model) == limit


def test_all_new_weights_and_all_old_ones_are_trained(zoo, name, design):
    model = load(zoo, name)
    x, t = random_rows(4, 9), torch.tensor([0.2, 0.4, 0.6, 0.8], dtype=torch.float64)

    def trained() -> set[str]:
        model.zero_grad()
        logits_of(model, x, t).log_softmax(-1)[..., 0].sum().backward()
        return {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}

    before = trained()
    torch.manual_seed(0)
    attach(model, design)
    perturb(model)
    new = {f"unmask_time.{n}" for n, _ in conditioning_of(model).named_parameters()}
    assert trained() >= before | new


def test_zeros_leave_zero_by_training(zoo, name):
    """A zero-initialised layer has a gradient itself, though not what is below it."""
    for design, last in (("layerwise", "layers.1.2.weight"), ("adaln", "heads.weight")):
        model = load(zoo, name)
        conditioning = attach(model, design)
        logits_of(model, random_rows(2, 7), torch.tensor([0.2, 0.7])).square().sum().backward()
        assert conditioning.get_parameter(last).grad.abs().max() > 0


@pytest.mark.parametrize("design", DESIGNS)
def test_bfloat16_weights_and_autocast(zoo, design):
    x, t = random_rows(2, 7), torch.tensor([0.2004, 0.7], dtype=torch.float64)
    model = timed(zoo, "roberta", design)
    exact = logits_of(model, x, t)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = logits_of(model, x, t)
    rough.float().sum().backward()
    assert (rough - exact).abs().mean() < 0.1 * exact.std()
    # 1000 t is not rounded to bfloat16, which knows no number between 200 and 201.
    features = conditioning_of(model)._sinusoid
    model = model.to(torch.bfloat16)
    fastest = features(t, 64)[:, 0]
    assert fastest.dtype == torch.bfloat16
    assert torch.allclose(fastest.double(), (1000 * t).sin(), atol=0.01)
    assert torch.isfinite(logits_of(model, x, t)).all()


def test_a_sinusoid_tells_times_apart():
    t = torch.linspace(0, 1, 1001, dtype=torch.float64)
    rows = sinusoid(t, 64)
    assert rows.shape == (1001, 64)
    assert torch.allclose(rows[0], torch.tensor([0.0] * 32 + [1.0] * 32).double())
    # The fastest turns once a radian of 1000 t, the slowest at a ten-thousandth of that.
    assert torch.allclose(rows[:, 0], (1000 * t).sin())
    assert torch.allclose(rows[:, 31], (0.1 * t).sin())
    distance = torch.cdist(rows, rows) + 9 * torch.eye(1001).double()
    assert distance.min() > 0.1


def test_a_model_with_a_time_is_not_called_without_one(zoo, name, design):
    model = timed(zoo, name, design)
    x = random_rows(1, 5)
    with pytest.raises(UserError, match="time"):
        model(input_ids=x)
    with conditioning_of(model).at(torch.tensor([0.5])):
        inside = model(input_ids=x).logits
    with pytest.raises(UserError, match="time"):
        model(input_ids=x)
    data = EncoderDenoiser(model, SPECIAL).data_ids
    assert torch.equal(logits_of(model, x, torch.tensor([0.5])), inside[..., data])


@torch.no_grad()
def test_a_time_within_a_time_ends_with_its_block(zoo):
    model = timed(zoo, "bert", "adaln")
    conditioning = conditioning_of(model)
    x, early, late = random_rows(1, 5), torch.tensor([0.1]), torch.tensor([0.9])
    with conditioning.at(early):
        first = model(input_ids=x).logits
        with conditioning.at(late):
            second = model(input_ids=x).logits
        assert torch.equal(model(input_ids=x).logits, first)
    assert not torch.allclose(first, second, atol=1e-2)


def test_two_calls_at_different_times_keep_their_gradients(zoo, design):
    """An estimator that asks twice before it goes back must not mix the times."""
    model = timed(zoo, "bert", design)
    x, times = random_rows(2, 6), [torch.tensor([0.1, 0.2]), torch.tensor([0.8, 0.9])]

    def gradient(*losses: Tensor) -> list[Tensor]:
        model.zero_grad()
        sum(losses).backward()
        return [p.grad.clone() for p in conditioning_of(model).parameters()]

    def loss(t: Tensor) -> Tensor:
        return logits_of(model, x, t).log_softmax(-1)[..., 0].sum()

    together = gradient(*[loss(t) for t in times])
    one, other = (gradient(loss(t)) for t in times)
    for total, a, b in zip(together, one, other, strict=True):
        assert torch.allclose(total, a + b, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_a_copy_has_its_own_time(zoo, design):
    """An average of the weights is kept in a copy; its hooks must not read the original's."""
    model = timed(zoo, "distilbert", design)
    twin = copy.deepcopy(model)
    x, t = random_rows(1, 5), torch.tensor([0.5])
    before = logits_of(twin, x, t)
    assert torch.equal(before, logits_of(model, x, t))
    perturb(model)
    assert torch.equal(logits_of(twin, x, t), before)
    assert not torch.allclose(logits_of(model, x, t), before, atol=1e-3)


@pytest.mark.parametrize("wanted", ["time", "adalm", "Prefix"])
def test_an_unknown_design_is_refused(zoo, wanted):
    with pytest.raises(UserError, match=wanted) as caught:
        attach(load(zoo, "bert"), wanted)
    assert ("'adaln'" if wanted == "adalm" else "prefix") in str(caught.value)


def test_a_second_design_is_refused(zoo, design):
    model = load(zoo, "bert")
    first = attach(model, design)
    for second in ["none", *DESIGNS]:
        with pytest.raises(UserError, match=design):
            attach(model, second)
    assert conditioning_of(model) is first


def without_norms(model: PreTrainedModel) -> PreTrainedModel:
    for module in list(model.base_model.modules()):
        for child, inner in list(module.named_children()):
            if isinstance(inner, nn.LayerNorm):
                setattr(module, child, nn.Identity())
    return model


SMALL = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "intermediate_size": 48,
    "pad_token_id": 1,
}


def build(config: PretrainedConfig) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForMaskedLM.from_config(config).eval()


@torch.no_grad()
@pytest.mark.parametrize(
    ("network", "design", "part"),
    [
        ("albert", "layerwise", "layers"),
        ("albert", "adaln", "layers"),
        ("fourier", "layerwise", "attention"),
        ("no norms", "adaln", "norms"),
        ("no embeddings", "prefix", "embeddings"),
    ],
)
def test_a_network_without_the_parts_is_refused_and_left_alone(zoo, network, design, part):
    # FNet mixes words by a Fourier transform, without any attention.
    model = build(FNetConfig(**SMALL)) if network == "fourier" else load(zoo, "albert")
    if network == "no norms":
        model = without_norms(load(zoo, "bert"))
    if network == "no embeddings":
        model = load(zoo, "bert")
        inner = model.base_model.forward
        model.base_model.forward = lambda input_ids, attention_mask=None, **_: inner(
            input_ids, attention_mask
        )
    x, t = torch.randint(10, 60, (2, 6), generator=generator(2)), torch.tensor([0.2, 0.7])
    before = model(input_ids=x).logits
    with pytest.raises(UserError, match=part) as caught:
        attach(model, design)
    assert "choose" in str(caught.value)
    assert conditioning_of(model) is None
    assert torch.equal(model(input_ids=x).logits, before)
    # The advice is good.
    if network in ("albert", "no norms"):
        attach(model, "prefix")
        assert not torch.allclose(logits_of(model, x, t), logits_of(model, x, 1 - t), atol=1e-3)


@torch.no_grad()
def test_layers_of_another_width_are_refused_in_words():
    """MobileBERT's attention works in a bottleneck."""
    narrow = {"embedding_size": 16, "intra_bottleneck_size": 16, "num_attention_heads": 4}
    model = build(MobileBertConfig(**SMALL, **narrow))
    attach(model, "layerwise")
    with pytest.raises(UserError, match="'layerwise' does not fit"):
        logits_of(model, random_rows(1, 5), torch.ones(1))


def test_the_norms_are_those_of_the_layers_and_the_final_one(zoo):
    """Two in each of two layers, none of the embeddings; ModernBERT swaps one for a final one."""
    count = {name: len(attach(load(zoo, name), "adaln")._widths) for name in [*NAMES, "electra"]}
    assert count == {"bert": 4, "roberta": 4, "distilbert": 4, "electra": 4, "modernbert": 4}


@torch.no_grad()
def test_the_prefix_is_as_wide_as_the_words(zoo):
    """ELECTRA's words have 16 numbers, its layers 32."""
    model = load(zoo, "electra")
    torch.manual_seed(0)
    conditioning = attach(model, "prefix")
    tokens = conditioning(torch.linspace(0, 1, 50))[0][0]
    words = model.get_input_embeddings().weight
    assert tokens.shape == (50, 16) == (50, words.shape[1])
    assert 0.5 < tokens.std() / words.std() < 2
    x, t = random_rows(2, 6), torch.tensor([0.2, 0.7])
    assert not torch.allclose(logits_of(model, x, t), logits_of(model, x, 1 - t), atol=1e-3)


def test_the_state_splits_into_a_checkpoint_and_the_rest(zoo, design):
    model = load(zoo, "bert")
    before = set(model.state_dict())
    attach(model, design)
    state = model.state_dict() | {"unmask_schedule.weight": torch.ones(1)}
    ordinary, extra = split_state(state)
    assert set(ordinary) == before
    new = {f"unmask_time.{n}" for n in conditioning_of(model).state_dict()}
    assert len(new) > 0
    assert set(extra) == new | {"unmask_schedule.weight"}
    assert all(value is state[key] for key, value in (ordinary | extra).items())


@torch.no_grad()
@pytest.mark.parametrize("design", ZERO_INIT)
def test_plain_transformers_opens_the_ordinary_part(zoo, name, design, tmp_path):
    model = load(zoo, name)
    attach(model, design)
    x, t = random_rows(2, 7), torch.tensor([0.2, 0.7])
    untrained = logits_of(model, x, t)
    ordinary, _ = split_state(model.state_dict())
    model.save_pretrained(tmp_path, state_dict=ordinary)
    plain, report = AutoModelForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["unexpected_keys"]
    assert not report["missing_keys"]
    assert torch.allclose(logits_of(plain.eval(), x, t), untrained, atol=1e-6)


@torch.no_grad()
def test_the_rest_brings_a_network_back(zoo, name, design):
    model = timed(zoo, name, design)
    _, extra = split_state(model.state_dict())
    again = load(zoo, name)
    attach(again, design)
    x, t = random_rows(2, 7), torch.tensor([0.2, 0.7])
    assert not torch.allclose(logits_of(again, x, t), logits_of(model, x, t), atol=1e-3)
    missing, unexpected = again.load_state_dict(extra, strict=False)
    assert not unexpected
    assert not any(key.startswith("unmask_time.") for key in missing)
    assert torch.equal(logits_of(again, x, t), logits_of(model, x, t))


@torch.no_grad()
def test_a_wrapped_model_is_told_the_time(zoo):
    model = timed(zoo, "bert", "adaln")
    wrapped = nn.Module()
    wrapped.module = model
    wrapped.forward = model.forward
    x, t = random_rows(2, 7), torch.tensor([0.2, 0.7])
    assert torch.equal(logits_of(wrapped, x, t), logits_of(model, x, t))
