"""Networks of other people: what is found by asking them holds, and what cannot work is refused."""

import json

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    BartConfig,
    BertConfig,
    BigBirdConfig,
    ConvBertConfig,
    DebertaConfig,
    DebertaV2Config,
    FNetConfig,
    FunnelConfig,
    IBertConfig,
    LongformerConfig,
    MPNetConfig,
    MraConfig,
    NystromformerConfig,
    PerceiverConfig,
    PreTrainedModel,
    ReformerConfig,
    RobertaConfig,
    YosoConfig,
)

from checks import generator
from unmask import Unmasker
from unmask.cli import main
from unmask.data.text import TextCodec
from unmask.errors import UserError
from unmask.models.checkpoint import Card
from unmask.models.encoder import EncoderDenoiser
from unmask.models.extra_weights import equip
from unmask.models.forward import logits_of
from unmask.models.loading import load_model, load_tokenizer
from unmask.models.positions import position_limit
from unmask.models.runtimes.int8 import quantise
from unmask.models.runtimes.openvino import ExportedDenoiser
from unmask.models.traits import traits_of

V, PAD, MASK, POSITIONS = 60, 1, 4, 40
SIZE = {
    "vocab_size": V,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": POSITIONS,
    "pad_token_id": PAD,
    # Sharp random weights: with the usual 0.02 no row would notice another.
    "initializer_range": 0.3,
}
FUNNEL = {"vocab_size": V, "d_model": 32, "n_head": 4, "d_head": 8, "d_inner": 48}
REFORMER = {
    "attn_layers": ["lsh", "local"],
    "axial_pos_shape": [5, 8],
    "axial_pos_embds_dim": [16, 16],
    "attention_head_size": 8,
    "local_attn_chunk_length": 4,
    "lsh_attn_chunk_length": 4,
    "num_buckets": 4,
    "is_decoder": False,
}
BART = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 48}
BART |= {"decoder_ffn_dim": 48, "encoder_attention_heads": 4, "decoder_attention_heads": 4}
CONFIGS = {
    "bart": BartConfig(**BART, vocab_size=V, max_position_embeddings=POSITIONS, init_std=0.3),
    "big_bird": BigBirdConfig(**SIZE, block_size=4, num_random_blocks=1),
    "convbert": ConvBertConfig(**SIZE, embedding_size=32, conv_kernel_size=3),
    "deberta": DebertaConfig(**SIZE, legacy=False),
    "deberta-v2": DebertaV2Config(**SIZE, legacy=False),
    "fnet": FNetConfig(**SIZE),
    "funnel": FunnelConfig(**FUNNEL, block_sizes=[1, 1], initializer_range=0.3),
    "ibert": IBertConfig(**SIZE),
    "longformer": LongformerConfig(**SIZE, attention_window=8),
    "mpnet": MPNetConfig(**SIZE),
    "nystromformer": NystromformerConfig(
        **SIZE, num_landmarks=8, segment_means_seq_len=8, conv_kernel_size=5
    ),
    "reformer": ReformerConfig(**SIZE, **REFORMER),
    "roberta": RobertaConfig(**SIZE),
    "yoso": YosoConfig(**SIZE),
}
LEAKING = {"convbert", "fnet", "funnel", "nystromformer", "reformer", "yoso"}


def build(name: str) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForMaskedLM.from_config(CONFIGS[name]).eval()


def rows_of(*lengths: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rows of some lengths with masks in them, and what of them is no padding."""
    shape = (len(lengths), max(lengths))
    ids = torch.randint(5, V, shape, generator=generator(0))
    ids[torch.rand(shape, generator=generator(1)) < 0.4] = MASK
    valid = torch.arange(shape[1]) < torch.tensor(lengths)[:, None]
    return ids.masked_fill(~valid, PAD), valid


@torch.no_grad()
@pytest.mark.parametrize("name", CONFIGS)
def test_a_row_is_what_it_is_alone_whatever_its_batch(name):
    denoiser = EncoderDenoiser(build(name), [PAD, MASK])
    ids, valid = rows_of(5, 11, 3, 38, 11, 1)
    at = valid & (torch.rand(ids.shape, generator=generator(2)) < 0.6)
    at[:, 0] = True
    t, data = torch.ones(len(ids)), denoiser.data_ids
    together = denoiser(ids, t, at=at, valid=valid)
    everywhere = denoiser(ids, t, valid=valid)
    assert torch.allclose(everywhere[at][:, data], together[:, data], atol=2e-3)
    start = 0
    for i, length in enumerate(valid.sum(1).tolist()):
        alone = denoiser(ids[i : i + 1, :length], t[:1], at=at[i : i + 1, :length])
        found = together[start : start + len(alone)]
        start += len(alone)
        assert torch.allclose(found[:, data], alone[:, data], atol=2e-3), (name, length)
    assert start == len(together)
    assert torch.equal(denoiser(ids, t, at=at, valid=valid), together)


@pytest.mark.parametrize("name", CONFIGS)
def test_padding_that_leaks_is_noticed(name):
    """By a comparison of its own: one padded row, with the mask that the library takes."""
    model = build(name)
    ids, valid = rows_of(6, 12)
    with torch.no_grad():
        padded = logits_of(model, ids, valid.long())[:1, :6]
        gap = (padded - logits_of(model, ids[:1, :6])).abs().max() / padded.abs().max()
    assert (gap > 0.01) == (name in LEAKING)
    assert traits_of(model).batch_invariant == (name not in LEAKING)


@torch.no_grad()
@pytest.mark.parametrize("name", CONFIGS)
def test_the_limit_is_the_longest_row_that_runs(name):
    model = build(name)
    limit = position_limit(model)
    assert limit == {"funnel": None, "roberta": 38, "longformer": 38, "mpnet": 38, "ibert": 38}.get(
        name, POSITIONS
    )
    if limit is not None:
        row = torch.randint(5, V, (1, limit + 1), generator=generator(3))
        assert logits_of(model, row[:, :limit]).shape == (1, limit, V)
        with pytest.raises((IndexError, RuntimeError, ValueError)):
            logits_of(model, row)


@pytest.mark.parametrize("name", ["deberta", "deberta-v2", "funnel", "ibert", "bart"])
def test_the_vocabulary_is_as_wide_as_the_logits(name):
    denoiser = EncoderDenoiser(build(name), [MASK])
    assert denoiser.vocab_size == V
    assert MASK not in denoiser.data_ids


def test_a_gradient_goes_through_rows_that_run_one_length_at_a_time():
    model = build("fnet")
    denoiser = EncoderDenoiser(model, [MASK])
    ids, valid = rows_of(4, 9, 4)
    weights = torch.randn(int(valid.sum()), V - 1, generator=generator(4))
    logits = denoiser(ids, torch.ones(3), at=valid, valid=valid)[:, denoiser.data_ids]
    (logits * weights).sum().backward()
    found = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    parts = [
        denoiser(ids[i : i + 1, :n], torch.ones(1))[0][:, denoiser.data_ids]
        for i, n in enumerate(valid.sum(1).tolist())
    ]
    (torch.cat(parts) * weights).sum().backward()
    wanted = [p.grad for p in model.parameters() if p.grad is not None]
    for got, want in zip(found, wanted, strict=True):
        assert torch.allclose(got, want, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_an_exported_copy_of_a_leaking_network_runs_one_length_at_a_time():
    model = build("fnet")
    original = EncoderDenoiser(model, [MASK])

    def network(inputs):
        ids, mask, at = map(torch.from_numpy, inputs)
        return [logits_of(model, ids, mask)[at.unbind(1)].numpy()]

    exported = ExportedDenoiser(network, original)
    ids, valid = rows_of(5, 11, 3, 11)
    t = torch.ones(len(ids))
    got, want = (net(ids, t, at=valid, valid=valid) for net in (exported, original))
    assert torch.allclose(got, want, atol=2e-3)


def test_a_network_that_draws_is_repeatable_and_leaves_the_generator_alone():
    model = build("reformer")
    assert traits_of(model).draws
    before = torch.random.get_rng_state()
    with torch.no_grad():
        EncoderDenoiser(model, [MASK])(rows_of(20, 30)[0], torch.ones(2))
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (PerceiverConfig(vocab_size=V, d_model=32, d_latents=32, num_latents=4,
                         num_self_attends_per_block=1, num_self_attention_heads=4,
                         num_cross_attention_heads=4, max_position_embeddings=40),
         "not one for each"),
        (MraConfig(**SIZE), "does not depend on the other tokens"),
        (RobertaConfig(**SIZE | {"pad_token_id": None}), "pad_token_id in config.json is null"),
        (NystromformerConfig(**SIZE, num_landmarks=4, segment_means_seq_len=32),
         "it computes no row of up to"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_in_one_sentence(config, says):
    model = AutoModelForMaskedLM.from_config(config)
    with pytest.raises(UserError, match=says) as refused:
        EncoderDenoiser(model, [MASK])
    assert "\n" not in str(refused.value)


def test_a_fresh_network_whose_layers_begin_with_zeros_is_not_taken_for_blind():
    model = build("roberta")
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("output.dense.weight"):
                weight.zero_()
    state = {name: weight.clone() for name, weight in model.state_dict().items()}
    assert traits_of(model).vocab_size == V
    assert all(torch.equal(weight, state[name]) for name, weight in model.state_dict().items())


@pytest.mark.parametrize("backend", ["torch-bf16", "torch-int8"])
def test_a_leak_is_looked_for_before_weights_are_rounded(zoo, tmp_path, backend):
    tokenizer = load_tokenizer(str(zoo / "bert"))
    sizes = SIZE | {"vocab_size": len(tokenizer), "initializer_range": 0.1}
    torch.manual_seed(0)
    config = ConvBertConfig(**sizes, embedding_size=32, conv_kernel_size=3)
    AutoModelForMaskedLM.from_config(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    writer = Unmasker.from_pretrained(str(tmp_path), device="cpu", backend=backend)
    assert not writer.denoiser.traits.batch_invariant


def test_funnel_computes_in_eight_bits():
    model = quantise(build("funnel"))
    assert traits_of(model).shortest > 1


def test_a_time_conditioning_that_does_not_run_is_refused():
    with pytest.raises(UserError, match="does not run with the time conditioning 'prefix'"):
        equip(build("bart"), "prefix", {"name": "linear"})


# --- tokenizers that do not belong to their model ---


@pytest.fixture
def bert(zoo):
    return load_model(str(zoo / "bert"), "masked"), load_tokenizer(str(zoo / "bert"))


def test_tokens_that_were_added_without_embeddings_are_refused_before_anything(
    bert, zoo, tmp_path, text_file, capsys
):
    model, tokenizer = bert
    entries = model.config.vocab_size
    tokenizer.add_tokens([f"snow{i}" for i in range(entries - len(tokenizer) + 2)])
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    name, out = str(tmp_path / "model"), tmp_path / "out"
    assert main(["generate", "snow1", "--model", name]) == 2
    said = capsys.readouterr().err
    assert "resize_token_embeddings" in said
    assert "2 more" not in said
    assert main(["train", "diffuse", "--data", str(text_file), "--model", name, "--out", str(out)])
    assert "resize_token_embeddings" in capsys.readouterr().err
    assert not (out / "training").exists()


@pytest.mark.parametrize("padding", ["mask", "word"])
def test_a_network_that_takes_masks_for_padding_is_refused(
    zoo, tmp_path, text_file, capsys, padding
):
    """The embedding of padding is one position for all, and RoBERTa finds padding by its id."""
    config = AutoConfig.from_pretrained(zoo / "roberta")
    tokenizer = load_tokenizer(str(zoo / "roberta"))
    wrong = padding == "mask"
    config.pad_token_id = tokenizer.mask_token_id + (not wrong)
    folder, out = tmp_path / "model", tmp_path / "out"
    AutoModelForMaskedLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    assert main(["generate", "the cat", "--length", "3", "--model", str(folder)]) == 2 * wrong
    said = capsys.readouterr().err
    assert ("takes masks for padding" in said) is wrong
    assert (f"pad_token_id in config.json is {tokenizer.mask_token_id}" in said) is wrong
    if wrong:
        assert trained(folder, text_file, out) == 2
        assert "takes masks for padding" in capsys.readouterr().err
        assert not (out / "training").exists()


def test_a_special_token_without_embedding_that_no_text_has_is_no_obstacle(bert):
    model, tokenizer = bert
    tokenizer.add_special_tokens({"extra_special_tokens": ["<task>"]})
    assert tokenizer.get_vocab()["<task>"] >= model.config.vocab_size
    writer = Unmasker(model, TextCodec(tokenizer), Card())
    assert writer.generate("the", length=3).texts


def test_a_network_of_several_end_symbols_is_asked_like_any_other():
    torch.manual_seed(0)
    one, several = (
        AutoModelForMaskedLM.from_config(BertConfig(**SIZE, eos_token_id=ids)).eval()
        for ids in (3, [3, 4])
    )
    assert traits_of(one) == traits_of(several)


def test_a_tokenizer_without_a_start_symbol_writes(bert):
    model, tokenizer = bert
    tokenizer.cls_token = None
    writer = Unmasker(model, TextCodec(tokenizer), Card())
    assert writer.codec.start == []
    assert writer.generate("the cat", length=3).texts[0].startswith("the cat")
    assert writer.score("the cat sat", draws=2).tokens > 0


# --- precision ---


def trained(folder, text_file, out, *settings) -> int:
    line = ["train", "diffuse", "--data", text_file, "--model", folder, "--out", out]
    settings = ("training.steps=1", "data.length=16", "training.batch_size=2", *settings)
    return main([str(word) for word in (*line, *(x for s in settings for x in ("--set", s)))])


@pytest.fixture
def deberta(zoo, tmp_path):
    """A network with a constant that bfloat16 does not reach."""
    tokenizer = load_tokenizer(str(zoo / "bert"))
    torch.manual_seed(0)
    config = DebertaConfig(**SIZE | {"vocab_size": len(tokenizer)})
    AutoModelForMaskedLM.from_config(config).save_pretrained(tmp_path / "deberta")
    tokenizer.save_pretrained(tmp_path / "deberta")
    return tmp_path / "deberta"


def test_what_cannot_be_trained_in_bfloat16_is_trained_in_float32(
    deberta, text_file, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("unmask.models.compat.computes_bfloat16", lambda: True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    out = tmp_path / "out"
    assert trained(deberta, text_file, out) == 0
    printed = capsys.readouterr()
    assert "so it is trained in float32" in printed.out + printed.err
    assert json.loads((out / "unmask.json").read_text())["training"]["bf16"] is False


def test_a_precision_that_was_asked_for_is_refused_and_nothing_is_left(
    deberta, text_file, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    out = tmp_path / "out"
    assert trained(deberta, text_file, out, "training.bf16=on") == 2
    assert "training.bf16=off" in capsys.readouterr().err
    # The next run needs no --overwrite.
    assert trained(deberta, text_file, out, "training.bf16=off") == 0


def test_rows_that_a_network_is_not_trained_on_are_refused_before_anything(
    zoo, text_file, tmp_path, capsys
):
    """Axial positions are trained on rows of one length only."""
    tokenizer = load_tokenizer(str(zoo / "bert"))
    torch.manual_seed(0)
    config = ReformerConfig(**SIZE | {"vocab_size": len(tokenizer)}, **REFORMER)
    AutoModelForMaskedLM.from_config(config).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    out = tmp_path / "out"
    assert trained(tmp_path / "model", text_file, out, "data.length=20") == 2
    assert "rows of 20 tokens" in capsys.readouterr().err
    assert not (out / "training").exists()
    assert trained(tmp_path / "model", text_file, out, "data.length=40") == 0
