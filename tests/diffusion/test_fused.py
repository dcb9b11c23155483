"""Cost and mean of a prediction: against the library's own functions, and their gradients."""

import pytest
import torch

from unmask.diffusion.objectives.fused import cost_and_mean

COUNTS = torch.tensor([3, 0, 4, 1])


def predictions(dtype=torch.float64, vocab=11, scale=3.0):
    rng = torch.Generator().manual_seed(0)
    logits = scale * torch.randn(8, vocab, generator=rng, dtype=torch.float64)
    truth = torch.randint(vocab, (8,), generator=rng)
    table = torch.randn(4, vocab, generator=rng, dtype=torch.float64)
    return logits.to(dtype), truth, table.to(dtype)


def plain(logits, truth, table):
    rows = torch.arange(4).repeat_interleave(COUNTS)
    mean = (logits.softmax(-1) * table[rows]).sum(-1)
    return -logits.log_softmax(-1).gather(1, truth[:, None])[:, 0], mean


@pytest.mark.parametrize("scale", [0.0, 3.0, 200.0])
def test_they_are_the_cross_entropy_and_the_expectation(scale):
    logits, truth, table = predictions(scale=scale)
    for got, want in zip(
        cost_and_mean(logits, truth, table, COUNTS), plain(logits, truth, table), strict=True
    ):
        torch.testing.assert_close(got, want, rtol=1e-13, atol=1e-13)


def test_tokens_that_are_ruled_out_count_for_nothing():
    logits, truth, table = predictions()
    truth = truth.clamp_max(8)
    shorter = cost_and_mean(logits[:, :9], truth, table[:, :9], COUNTS)
    logits = logits.clone().requires_grad_()
    with torch.no_grad():
        logits[:, 9:] = -torch.inf
    cost, mean = cost_and_mean(logits, truth, table, COUNTS)
    torch.testing.assert_close((cost, mean), shorter, rtol=1e-14, atol=1e-14)
    (cost + mean).sum().backward()
    assert logits.grad.isfinite().all()
    assert (logits.grad[:, 9:] == 0).all()


def test_the_gradients_are_those_of_finite_differences():
    logits, truth, table = predictions()
    logits.requires_grad_(), table.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, w: cost_and_mean(x, truth, w, COUNTS), (logits, table), atol=1e-8
    )


def test_no_prediction_has_no_cost_and_no_gradient():
    logits = torch.zeros(0, 11, requires_grad=True)
    table = torch.ones(4, 11, requires_grad=True)
    none = torch.zeros(4, dtype=torch.int64)
    cost, mean = cost_and_mean(logits, torch.zeros(0, dtype=torch.int64), table, none)
    (cost.sum() + mean.sum()).backward()
    assert cost.shape == mean.shape == (0,)
    assert (table.grad == 0).all()


def test_mixed_precision_leaves_them_in_float32():
    """A product in bfloat16 would be off by a hundredth."""
    logits, truth, table = predictions(torch.float32, vocab=5000)
    want = plain(logits.double(), truth, table.double())
    logits.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = cost_and_mean(logits, truth, table, COUNTS)
    torch.testing.assert_close([x.double() for x in got], list(want), rtol=1e-5, atol=1e-5)
    sum(x.sum() for x in got).backward()
    exact = logits.detach().double().requires_grad_()
    sum(x.sum() for x in plain(exact, truth, table.double())).backward()
    torch.testing.assert_close(logits.grad.double(), exact.grad, rtol=1e-4, atol=1e-6)
