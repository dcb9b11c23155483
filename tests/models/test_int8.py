"""Linear layers in eight bits: exact where nothing is rounded, within a proven bound elsewhere."""

import json

import pytest
import torch
from torch import nn

from checks import generator
from unmask import Unmasker
from unmask.cli import main
from unmask.errors import UserError
from unmask.models.runtimes.int8 import Int8Linear, quantise

ENCODERS = ["bert", "roberta", "modernbert", "distilbert", "electra", "albert"]
PROSE = (
    "The river runs through the town and into the sea . In the spring of that year the army "
    "crossed it , and the old bridge was destroyed by the troops who followed them ."
)


def linear(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    layer = nn.Linear(*reversed(weight.shape), bias=bias is not None)
    layer.weight.data = weight
    if bias is not None:
        layer.bias.data = bias
    return layer


def on_a_grid(rows: int, columns: int, seed: int) -> torch.Tensor:
    """Whole numbers from -127 to 127, each row with one at the end of the range, times 2^-k."""
    numbers = torch.randint(-127, 128, (rows, columns), generator=generator(seed)).float()
    numbers[:, 0] = 127.0
    return numbers * 2.0 ** -torch.arange(rows)[:, None]


@torch.no_grad()
@pytest.mark.parametrize("with_bias", [True, False])
def test_numbers_that_need_no_rounding_come_out_exactly(with_bias):
    weight, x = on_a_grid(5, 12, 0), on_a_grid(7, 12, 1)
    bias = torch.arange(5.0) if with_bias else None
    want = x.double() @ weight.T.double() + (bias.double() if with_bias else 0)
    got = Int8Linear(linear(weight, bias))(x)
    assert torch.allclose(got.double(), want, rtol=1e-6, atol=1e-5)


@torch.no_grad()
def test_the_error_is_within_half_a_step_of_each_rounding():
    """|x w - x' w'| <= |x| s_w / 2 + |w| s_x / 2 + s_x s_w / 4, summed; outliers in one row too."""
    weight = torch.randn(40, 96, generator=generator(2))
    x = torch.randn(2, 9, 96, generator=generator(3))
    x[0, 4, 7] = 1e4
    got = Int8Linear(linear(weight, None))(x)
    steps_w = weight.abs().amax(1) / 127
    steps_x = x.abs().amax(-1, keepdim=True) / 127
    bound = x.abs().sum(-1, keepdim=True) * steps_w / 2
    bound = bound + weight.abs().sum(1) * steps_x / 2 + 96 * steps_x * steps_w / 4
    error = (got - x @ weight.T).abs()
    assert (error <= 1.001 * bound).all()
    assert error.max() > 0, "nothing was rounded"
    # The outlier blurs its own row alone.
    quiet = torch.ones(2, 9, dtype=torch.bool)
    quiet[0, 4] = False
    assert error[quiet].max() < 1


@torch.no_grad()
def test_a_row_of_zeros_and_an_output_without_weights():
    weight = torch.randn(3, 4, generator=generator(4))
    weight[1] = 0
    got = Int8Linear(linear(weight, torch.tensor([1.0, 2.0, 3.0])))(torch.zeros(2, 4))
    assert torch.equal(got, torch.tensor([[1.0, 2.0, 3.0]] * 2))


@torch.no_grad()
def test_a_row_does_not_depend_on_the_others():
    layer = Int8Linear(nn.Linear(64, 50))
    x = 10 ** torch.randn(12, 64, generator=generator(5))
    together = layer(x)
    assert all(torch.equal(layer(x[i : i + 1])[0], together[i]) for i in range(len(x)))


@torch.no_grad()
@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_computes_in_eight_bits(zoo, name):
    float32 = Unmasker.from_pretrained(str(zoo / name))
    eight = Unmasker.from_pretrained(str(zoo / name), backend="torch-int8")
    assert not [m for m in eight.model.modules() if type(m) is nn.Linear]
    assert eight.model.get_output_embeddings().weight.dtype == torch.int8
    ids = torch.randint(5, 100, (3, 20), generator=generator(6))
    valid = torch.arange(20) < torch.tensor([20, 11, 5])[:, None]
    at = valid & (torch.rand(3, 20, generator=generator(7)) < 0.5)
    data = float32.denoiser.data_ids
    want, got = (w.denoiser(ids, torch.ones(3), at=at, valid=valid) for w in (float32, eight))
    assert torch.equal(want.isinf(), got.isinf())
    error = (got - want)[:, data].norm() / want[:, data].norm()
    assert 0 < error < 0.05


def test_the_bound_of_the_bundled_model_hardly_moves():
    """The same masks are judged by both, so that what differs is the rounding alone."""
    float32, eight = (
        Unmasker.from_pretrained(backend=backend).score(PROSE, draws=8).nats_per_token
        for backend in ("torch", "torch-int8")
    )
    assert 0 < abs(eight - float32) < 0.02


def test_generating_names_the_backend_and_depends_on_the_seed_alone(zoo, capsys):
    line = ["generate", "The cat", "--model", str(zoo / "bert"), "--length", "8", "--json"]
    texts = []
    for more in (["--num-samples", "3"], ["--num-samples", "1"]):
        assert main([*line, "--backend", "torch-int8", "--seed", "4", *more]) == 0
        result = json.loads(capsys.readouterr().out)
        assert result["settings"]["backend"] == "torch-int8"
        texts.append(result["text"])
    assert texts[0][0] == texts[1] if isinstance(texts[0], list) else texts[0] == texts[1]


def test_eight_bits_are_not_saved(zoo, tmp_path):
    writer = Unmasker.from_pretrained(str(zoo / "bert"), backend="torch-int8")
    for save in (writer.save_pretrained, writer.export):
        with pytest.raises(UserError, match="eight bits are not saved"):
            save(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_told_the_time_is_refused(zoo):
    from unmask.models.loading import load_model
    from unmask.models.time_conditioning import attach

    model = load_model(str(zoo / "bert"), "masked")
    attach(model, "adaln")
    with pytest.raises(UserError, match="conditioned on the time"):
        quantise(model)


def test_a_model_that_reads_the_weights_of_its_layers_is_refused(zoo):
    from unmask.models.loading import load_model

    model = load_model(str(zoo / "bert"), "masked")
    head = model.get_output_embeddings()
    head.register_forward_hook(lambda layer, args, out: args[0] @ layer.weight.T)
    quantise_by_hand = Int8Linear(head)
    quantise_by_hand._forward_hooks = head._forward_hooks
    model.set_output_embeddings(quantise_by_hand)
    with pytest.raises(UserError, match="cannot compute in eight bits"):
        quantise(model)
