"""Half of the bits: what bfloat16 changes, and who may not be computed in it."""

import pytest
import torch

from checks import generator
from unmask import Unmasker
from unmask.errors import UserError
from unmask.models.loading import load_model
from unmask.models.runtimes import select
from unmask.models.time_conditioning import attach

PROSE = (
    "The river runs through the town and into the sea . In the spring of that year the army "
    "crossed it , and the old bridge was destroyed by the troops who followed them ."
)


@torch.no_grad()
@pytest.mark.parametrize("name", ["bert", "roberta", "modernbert", "distilbert"])
def test_bfloat16_rounds_and_no_more(zoo, name):
    exact = Unmasker.from_pretrained(str(zoo / name), "cpu", "torch")
    half = Unmasker.from_pretrained(str(zoo / name), "cpu", "torch-bf16")
    assert {w.dtype for w in half.model.parameters()} == {torch.bfloat16}
    ids = torch.randint(5, 100, (3, 20), generator=generator(0))
    at = torch.rand(3, 20, generator=generator(1)) < 0.5
    want, got = (w.denoiser(ids, torch.ones(3), at=at).float() for w in (exact, half))
    data = exact.denoiser.data_ids
    error = (got - want)[:, data].norm() / want[:, data].norm()
    # Eight bits of mantissa, through a few layers.
    assert 0 < error < 0.05


def test_the_bound_hardly_moves_and_the_text_depends_on_the_seed_alone():
    exact, half = (Unmasker.from_pretrained(None, "cpu", b) for b in ("torch", "torch-bf16"))
    bounds = [writer.score(PROSE, draws=8).nats_per_token for writer in (exact, half)]
    assert 0 < abs(bounds[0] - bounds[1]) < 0.02
    one = half.generate("The town", length=12, steps=6, seed=3)
    assert one.texts == half.generate("The town", length=12, steps=6, seed=3).texts
    assert one.settings["backend"] == "torch-bf16"


def test_rounded_weights_are_not_saved(tmp_path):
    writer = Unmasker.from_pretrained(None, "cpu", "torch-bf16")
    with pytest.raises(UserError, match="bfloat16 are not saved"):
        writer.save_pretrained(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_told_the_time_is_refused(zoo):
    model = load_model(str(zoo / "bert"), "masked")
    attach(model, "adaln")
    with pytest.raises(UserError, match="conditioned on the time"):
        select.prepare("torch-bf16", str(zoo / "bert"), model)
