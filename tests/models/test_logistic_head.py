"""The truncated logistic head: its formula, its ends, and its gradients."""

import math

import pytest
import torch
from torch import Tensor

from checks import generator
from unmask.errors import UserError
from unmask.models.logistic_head import LogisticHead


def by_hand(loc: float, log_scale: float, xt: int, levels: int) -> Tensor:
    """The formula as it is printed, level by level: fine in float64 while nothing saturates."""
    width = 2 / (levels - 1)
    noised = 0.0 if xt >= levels else width * xt - 1
    centre, rate = math.tanh(loc + noised), math.exp(-(log_scale - 2))
    result = []
    for level in range(levels):
        middle = width * level - 1
        above, below = (
            1 / (1 + math.exp(-(middle + side * width / 2 - centre) * rate)) for side in (1, -1)
        )
        result.append(math.log(above - below))
    return torch.tensor(result, dtype=torch.float64)


@pytest.mark.parametrize("levels", [2, 3, 8, 256])
def test_logits_are_the_formula(levels):
    rng = generator(0)
    loc = torch.randn(40, dtype=torch.float64, generator=rng)
    log_scale = 2 * torch.rand(40, dtype=torch.float64, generator=rng) + 0.5
    xt = torch.randint(levels + 2, (40,), generator=rng)  # some are no level
    got = LogisticHead(levels)(loc, log_scale, xt)
    assert got.shape == (40, levels)
    assert got.dtype == torch.float64
    for i in range(40):
        args = float(loc[i]), float(log_scale[i]), int(xt[i]), levels
        torch.testing.assert_close(got[i], by_hand(*args), rtol=0, atol=1e-7)
    # The logits are probabilities of bins, which do not cover the whole line.
    assert (got.logsumexp(1) < 0).all()


def test_a_network_of_zeros_predicts_the_noised_level_or_the_middle():
    head, levels = LogisticHead(9), torch.arange(9)
    sharp = torch.full((9,), -4.0)
    loc = torch.atanh(torch.linspace(-0.98, 0.98, 9)) - (levels / 4 - 1)
    assert torch.equal(head(loc, sharp, levels).argmax(1), levels)
    logits = head(torch.zeros(2), torch.zeros(2), torch.tensor([9, 20]))
    assert torch.equal(logits[0], logits[1])
    assert logits[0].argmax() == 4
    torch.testing.assert_close(logits[0], logits[0].flip(0))


def test_it_is_symmetric_under_a_change_of_sign():
    head = LogisticHead(16)
    loc, xt = torch.linspace(-2, 2, 16), torch.arange(16)
    logits = head(loc, torch.zeros(16), xt)
    mirrored = head(-loc, torch.zeros(16), 15 - xt)
    torch.testing.assert_close(logits, mirrored.flip(1), rtol=1e-5, atol=1e-5)


def test_a_wide_scale_is_uniform_and_a_narrow_one_is_certain():
    head, xt = LogisticHead(256), torch.tensor([200])
    wide = head(torch.zeros(1), torch.tensor([40.0]), xt).softmax(1)
    torch.testing.assert_close(wide, torch.full_like(wide, 1 / 256))
    narrow = head(torch.atanh(torch.tensor([0.5])) - (2 * 200 / 255 - 1), torch.tensor([-9.0]), xt)
    assert narrow.softmax(1).max() == 1
    assert narrow.argmax() == round((0.5 + 1) / 2 * 255)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_extreme_numbers_have_finite_logits_and_gradients(dtype):
    extreme = torch.tensor([-3e4, -90.0, -10.0, -1e-8, 0.0, 1e-8, 10.0, 90.0, 3e4])
    loc, log_scale = (x.flatten() for x in torch.meshgrid(extreme, extreme, indexing="ij"))
    loc, log_scale = (x.to(dtype).requires_grad_() for x in (loc, log_scale))
    for levels, mask in ((256, 256), (2, 2)):
        for level in (0, levels - 1, mask):
            logits = LogisticHead(levels)(loc, log_scale, torch.full((81,), level))
            assert logits.dtype == torch.float32
            assert logits.isfinite().all()
            # Of the likeliest level, and of the least likely one: nats that count in a bound.
            log_probs = logits.log_softmax(1)
            for nats in (log_probs.amax(1).sum(), log_probs.amin(1).sum(), logits.sum()):
                gradients = torch.autograd.grad(nats, (loc, log_scale), retain_graph=True)
                assert all(gradient.isfinite().all() for gradient in gradients)


def test_gradients_are_those_of_differences():
    head = LogisticHead(7)
    loc, log_scale = torch.randn(2, 5, dtype=torch.float64, generator=generator(1))
    loc.requires_grad_(), log_scale.requires_grad_()
    xt = torch.tensor([0, 3, 6, 7, 9])
    assert torch.autograd.gradcheck(lambda a, b: head(a, b, xt), (loc, log_scale))
    # A bin of which the mass would be no float32: its logarithm falls like that of the scale.
    wide = torch.tensor([120.0], requires_grad=True)
    logits = head(torch.zeros(1), wide, torch.tensor([3]))
    assert torch.autograd.grad(logits[0, 0], wide)[0].item() == pytest.approx(-1)
    assert logits[0, 0].item() == pytest.approx(2 - 120 + math.log(2 / 6 / 4), rel=1e-6)


def test_float32_agrees_with_float64_where_the_difference_cancels():
    """Both sigmoids are 1 in float32 at the upper levels; the printed formula gives log 0 there."""
    head, xt = LogisticHead(256), torch.tensor([10])
    loc, log_scale = torch.tensor([-0.3]), torch.tensor([-2.0])
    rough, fine = head(loc, log_scale, xt), head(loc.double(), log_scale.double(), xt)
    assert float(fine.min()) < -80
    torch.testing.assert_close(rough.double(), fine, rtol=1e-5, atol=1e-3)


def test_one_level_is_no_choice():
    with pytest.raises(UserError, match="levels must be at least 2, not 1"):
        LogisticHead(1)
