"""Packed linear layers: the same numbers to rounding, and an ordinary model in all else."""

import copy
import json
import os

import pytest
import torch
from torch import nn

from checks import generator
from unmask import Unmasker
from unmask.cli import main
from unmask.errors import UserError
from unmask.models.compat import Conv1D
from unmask.models.loading import load_model
from unmask.models.runtimes import packed
from unmask.models.runtimes.packed import pack
from unmask.pipelines.autoregressor import Autoregressor

pytestmark = pytest.mark.skipif(not packed.available(), reason="this torch has no oneDNN")
MODELS = ["bert", "roberta", "modernbert", "distilbert", "electra", "albert", "gpt2", "llama"]
IDS = torch.randint(5, 100, (3, 20), generator=generator(0))


def opened(zoo, name: str) -> nn.Module:
    kind = "causal" if name in ("gpt2", "llama") else "masked"
    return load_model(str(zoo / name), kind).eval()


@pytest.mark.parametrize("name", MODELS)
def test_every_model_computes_the_same_to_rounding(zoo, name):
    model = opened(zoo, name)
    layers = [m for m in model.modules() if type(m) in (nn.Linear, Conv1D)]
    with torch.inference_mode():
        want = model(input_ids=IDS).logits
        got = pack(model)(input_ids=IDS).logits
    assert layers
    assert all(layer in packed._COPIES for layer in layers if layer.weight.numel())
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_it_is_the_product_in_double_precision_to_rounding():
    layer = nn.Linear(300, 70)
    x = torch.randn(2, 9, 300, generator=generator(1))
    want = x.double() @ layer.weight.double().T + layer.bias.double()
    scale = x.double().abs() @ layer.weight.double().abs().T
    got = pack(nn.Sequential(layer))(x)
    assert ((got - want).abs() <= 300 * 2**-24 * scale + 1e-7).all()


@torch.no_grad()
def test_a_row_does_not_depend_on_the_others():
    layer = pack(nn.Sequential(nn.Linear(64, 50)))
    x = torch.randn(40, 64, generator=generator(2))
    together = layer(x)
    for i in range(len(x)):
        torch.testing.assert_close(layer(x[i : i + 1])[0], together[i], rtol=1e-6, atol=1e-6)


def test_weights_may_change(zoo):
    model = pack(opened(zoo, "gpt2"))
    with torch.no_grad():
        before = model(input_ids=IDS).logits
        for weight in model.parameters():
            weight.mul_(1.5)
        after = model(input_ids=IDS).logits
        fresh = opened(zoo, "gpt2")
        fresh.load_state_dict(model.state_dict())
        torch.testing.assert_close(after, fresh(input_ids=IDS).logits, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(after, before, atol=1e-3)


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_it_learns_as_before(zoo, name):
    plain, other = opened(zoo, name), pack(opened(zoo, name))
    for model in (plain, other):
        model(input_ids=IDS).logits.square().mean().backward()
    for one, two in zip(plain.named_parameters(), other.named_parameters(), strict=True):
        assert one[0] == two[0]
        assert torch.equal(one[1].grad, two[1].grad)


def test_a_model_is_copied_and_saved_as_before(zoo, tmp_path):
    model = pack(opened(zoo, "bert"))
    with torch.no_grad():
        want = model(input_ids=IDS).logits
        assert torch.equal(copy.deepcopy(model)(input_ids=IDS).logits, want)
    model.save_pretrained(tmp_path)
    saved, first = (load_model(str(p), "masked").state_dict() for p in (tmp_path, zoo / "bert"))
    assert saved.keys() == first.keys()
    assert all(torch.equal(saved[key], first[key]) for key in saved)


@torch.no_grad()
def test_another_precision_is_left_to_torch(zoo):
    plain, other = (opened(zoo, "bert").bfloat16() for _ in range(2))
    assert torch.equal(plain(input_ids=IDS).logits, pack(other)(input_ids=IDS).logits)
    plain, other = plain.float(), other.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(plain(input_ids=IDS).logits, other(input_ids=IDS).logits)


def test_plain_and_packed_layers_write_the_same(capsys):
    texts = {}
    for backend in ("torch-packed", "torch"):
        line = ["generate", "The town", "--length", "24", "--device", "cpu", "--json"]
        assert main([*line, "--backend", backend]) == 0
        result = json.loads(capsys.readouterr().out)
        texts[backend] = result["text"]
        assert result["settings"].get("backend", "torch") == (
            "torch" if backend == "torch" else "torch-packed"
        )
    assert texts["torch-packed"] == texts["torch"]


def test_the_other_side_of_a_race_is_packed_as_well(zoo):
    model = Autoregressor.from_pretrained(str(zoo / "llama"), "cpu").model
    assert any(isinstance(layer, packed.PackedLinear) for layer in model.modules())
    with pytest.raises(UserError, match="autoregressive; torch-int8 is for diffusion models"):
        Autoregressor.from_pretrained(str(zoo / "llama"), "cpu", "torch-int8")


def test_a_build_without_it_is_told(zoo, monkeypatch):
    monkeypatch.setattr(packed, "available", lambda: False)
    assert Unmasker.from_pretrained(str(zoo / "bert"), "cpu").backend == "torch"
    with pytest.raises(UserError, match="no oneDNN"):
        Unmasker.from_pretrained(str(zoo / "bert"), "cpu", "torch-packed")


def test_what_onednn_keeps_is_limited_unless_said_otherwise(zoo, monkeypatch):
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", raising=False)
    monkeypatch.setenv("LRU_CACHE_CAPACITY", "7")
    pack(opened(zoo, "bert"))
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "12"
    assert os.environ["LRU_CACHE_CAPACITY"] == "7"
