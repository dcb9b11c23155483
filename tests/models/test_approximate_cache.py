"""The frozen cache: exact where it must be, near elsewhere, and refused where it means nothing."""

import pytest
import torch
from transformers import AutoModelForMaskedLM

from checks import generator
from unmask import Unmasker
from unmask.errors import UserError
from unmask.models.approximate_cache import FrozenDenoiser
from unmask.models.encoder import EncoderDenoiser
from unmask.models.time_conditioning import attach

MASK, LENGTH = 4, 16


def plain(zoo, name: str) -> EncoderDenoiser:
    model = AutoModelForMaskedLM.from_pretrained(zoo / name).eval().double()
    return EncoderDenoiser(model, [MASK])


def canvases(steps: int):
    """Yield a canvas that fills up, what is asked of it, and its padding."""
    rng = generator(0)
    x0 = torch.randint(5, 90, (3, LENGTH), generator=rng)
    valid = torch.arange(LENGTH) < torch.tensor([16, 16, 11])[:, None]
    when = torch.randint(steps, x0.shape, generator=rng)
    for step in range(steps):
        masked = (when >= step) & valid
        yield x0.masked_fill(masked, MASK).masked_fill(~valid, 1), (when == step) & valid, valid


@pytest.mark.parametrize("name", ["bert", "roberta", "modernbert", "distilbert", "albert"])
def test_refreshed_in_every_call_it_is_the_network(zoo, name):
    inner = plain(zoo, name)
    frozen = FrozenDenoiser(inner, refresh=1)
    with torch.no_grad():
        for xt, at, valid in canvases(5):
            exact = inner(xt, torch.ones(3), at=at, valid=valid)
            assert torch.allclose(frozen(xt, torch.ones(3), at=at, valid=valid), exact, atol=1e-9)


@pytest.mark.parametrize("name", ["bert", "modernbert"])
def test_between_refreshes_it_is_near_and_not_equal(zoo, name):
    inner = plain(zoo, name)
    frozen, errors, scale = FrozenDenoiser(inner, refresh=3), [], []
    with torch.no_grad():
        for xt, at, valid in canvases(9):
            at[:, 0] = True  # A row that is not asked would be refreshed at another time.
            exact = inner(xt, torch.ones(3), at=at, valid=valid)[:, 5:]
            prediction = frozen(xt, torch.ones(3), at=at, valid=valid)[:, 5:]
            errors.append((prediction - exact).abs().mean().item())
            scale.append(exact.std().item())
    assert max(errors[::3]) < 1e-9, "a refresh is exact"
    late = torch.tensor(errors).view(3, 3)[:, 1:]
    assert late.min() > 1e-8
    assert late.max() < 0.5 * min(scale)


def test_it_runs_only_on_what_changed_or_is_asked(zoo):
    inner, sizes = plain(zoo, "bert"), []
    inner.bare.base_model.register_forward_pre_hook(
        lambda _m, given: sizes.append(given[0].shape[1])
    )
    frozen = FrozenDenoiser(inner, refresh=100)
    with torch.no_grad():
        for xt, at, valid in canvases(8):
            frozen(xt, torch.ones(3), at=at, valid=valid)
    assert sizes[0] == LENGTH
    assert max(sizes[1:]) < LENGTH * 0.7


def test_the_logits_of_a_row_do_not_depend_on_its_batch(zoo):
    """A row that is not asked about in a call is left out of it, and goes stale on its own."""
    inner, t, ran = plain(zoo, "roberta"), torch.ones(3), []
    inner.bare.get_input_embeddings().register_forward_hook(lambda *told: ran.append(len(told[2])))
    together = FrozenDenoiser(inner, refresh=3)
    alone = [FrozenDenoiser(inner, refresh=3) for _ in range(3)]
    calls, rng = set(), generator(2)
    with torch.no_grad():
        for xt, at, valid in canvases(9):
            at = at & (torch.rand(3, 1, generator=rng) < 0.7)
            parts = together(xt, t, at=at, valid=valid).split(at.sum(1).tolist())
            assert not at.any() or ran.pop() == at.any(1).sum()
            for row in range(3):
                if not at[row].any():
                    continue
                here = slice(row, row + 1)
                one = alone[row](xt[here], t[here], at=at[here], valid=valid[here])
                assert torch.allclose(one, parts[row], atol=1e-9)
            calls.add(tuple(at.any(1).tolist()))
    assert len(calls) > 2


def test_a_text_does_not_depend_on_its_batch(zoo):
    writer = Unmasker.from_pretrained(str(zoo / "roberta"), cache="frozen", backend="torch")
    options = {"steps": 60, "length": 14, "seed": 3}
    prompts = ["The cat", "A dog sat on the"]
    together = writer.generate(prompts, num_samples=2, **options)
    for i, prompt in enumerate(prompts):
        alone = writer.generate(prompt, num_samples=1, **options)
        assert alone.texts[0] == together.texts[2 * i]


def test_whole_rows_with_padding_get_their_logits(zoo):
    inner = plain(zoo, "bert")
    *_, (xt, _, valid) = canvases(3)
    with torch.no_grad():
        exact, frozen = (
            network(xt, torch.ones(3), valid=valid) for network in (inner, FrozenDenoiser(inner))
        )
    assert frozen.shape == exact.shape
    assert torch.allclose(frozen[valid], exact[valid], atol=1e-9)


def test_a_model_that_was_frozen_once_is_an_ordinary_one(zoo):
    frozen = Unmasker.from_pretrained(str(zoo / "bert"), cache="frozen", backend="torch")
    frozen.generate("The", length=5, steps=2)
    again = Unmasker(frozen.model, frozen.codec, frozen.card)
    assert type(again.denoiser) is EncoderDenoiser
    assert len(again.generate("The", length=5, sampler="p2", steps=3).texts[0]) > 3


def test_what_makes_no_sense_is_refused(zoo):
    inner = plain(zoo, "bert")
    with pytest.raises(UserError, match="did you mean 'frozen'"):
        Unmasker.from_pretrained(str(zoo / "bert"), cache="froze")
    with pytest.raises(UserError, match="every 1 or more calls"):
        FrozenDenoiser(inner, refresh=0)
    attach(inner.bare, "adaln")
    with pytest.raises(UserError, match="neither conditioned on the time"):
        FrozenDenoiser(inner)


def test_a_user_writes_with_it(zoo):
    exact, frozen, off = (
        Unmasker.from_pretrained(str(zoo / "roberta"), cache=cache).generate(
            "The", length=30, steps=10, seed=1
        )
        for cache in ("exact", "frozen", "off")
    )
    assert exact.texts == off.texts
    assert exact.nfe == frozen.nfe
    assert len(frozen.texts[0]) > 20
