"""How sure a network is: against the definitions in float64, in every dtype, piece by piece."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from checks import generator
from unmask.sampling.policies.confidence_scores import METRICS, confidence_score

PROBS = torch.tensor([[0.15, 0.5, 0.05, 0.3], [0.25, 0.25, 0.25, 0.25], [0, 0, 1, 0]]).double()
TOKENS = torch.tensor([3, 0, 2])


def expected(name: str, probs: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    if name == "confidence":
        return probs.gather(1, tokens[:, None])[:, 0]
    if name == "margin":
        ordered = probs.sort(1, descending=True).values
        return ordered[:, 0] - ordered[:, 1]
    return torch.xlogy(probs, probs).sum(1)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("shift", [0, 30, -1000])
def test_values_by_hand(name, shift):
    found = confidence_score(name, PROBS.log() + shift, TOKENS)
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), expected(name, PROBS, TOKENS), atol=1e-4)
    # What is certain is exactly certain: an entropy bound of 0 counts on it.
    assert found[2] == (0 if name == "entropy" else 1)


def test_what_cannot_be_has_no_confidence():
    assert confidence_score("confidence", PROBS[2:].log(), torch.tensor([0])) == 0


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_many_rows_of_a_large_vocabulary(name, dtype):
    """More rows than are worked on at a time, in the precision that the network answered in."""
    rng = generator(0)
    logits = (4 * torch.randn(70, 50_000, generator=rng)).to(dtype)
    tokens = torch.randint(50_000, (70,), generator=rng)
    exact = expected(name, logits.double().softmax(1), tokens)
    assert torch.allclose(
        confidence_score(name, logits, tokens).double(), exact, rtol=1e-4, atol=1e-7
    )


class Largest(TorchDispatchMode):
    """Keeps the number of bytes of the largest tensor that was made."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for x in result if isinstance(result, (tuple, list)) else [result]:
            seen = isinstance(x, torch.Tensor) and not any(x is arg for arg in args)
            if seen and func.__name__.split(".")[0] not in ("split", "slice", "detach"):
                self.bytes = max(self.bytes, x.numel() * x.element_size())
        return result


@pytest.mark.parametrize("name", METRICS)
def test_no_second_copy_of_the_vocabulary_is_made(name):
    logits = torch.randn(300, 30_000, generator=generator(1), dtype=torch.bfloat16)
    with Largest() as largest:
        confidence_score(name, logits, torch.zeros(300).long())
    whole = logits.numel() * 4
    assert 0 < largest.bytes < whole / 5
