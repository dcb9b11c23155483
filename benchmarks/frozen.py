"""The frozen cache against its network: divergence of the predictions, and time.

    python -m benchmarks.frozen [--model M] [--length 240] [--steps 32]

Both see the same canvases, which the frozen cache generates with the sampler ``ancestral`` after a
prompt. KL is that from the exact to the frozen prediction in nats, the mean over all queried
positions after the first call.
"""

from __future__ import annotations

import argparse
import time
from statistics import mean

import torch
from torch import Tensor

from unmask.diffusion.denoiser import Denoiser
from unmask.diffusion.rng import RowRng
from unmask.models.approximate_cache import FrozenDenoiser
from unmask.pipelines.unmasker import Unmasker
from unmask.sampling.canvas import Canvas
from unmask.sampling.sampler import sample
from unmask.sampling.samplers.registry import make_sampler

PROMPT = "The history of the town begins in the middle of the"


class Compared:
    """The frozen denoiser; compares each prediction with that of its network."""

    def __init__(self, frozen: FrozenDenoiser) -> None:
        self.frozen = frozen
        self.vocab_size, self.data_ids = frozen.vocab_size, frozen.data_ids
        self.divergence: list[float] = []
        self.agreement: list[float] = []

    def __call__(
        self, xt: Tensor, t: Tensor, *, at: Tensor | None = None, valid: Tensor | None = None
    ) -> Tensor:
        prediction = self.frozen(xt, t, at=at, valid=valid)
        exact = self.frozen.inner(xt, t, at=at, valid=valid)
        p, q = (x[:, self.data_ids].double().log_softmax(1) for x in (exact, prediction))
        self.divergence.append((p.exp() * (p - q)).sum(1).mean().item())
        self.agreement.append((exact.argmax(1) == prediction.argmax(1)).double().mean().item())
        return prediction


def main() -> None:
    """Print a table over refresh intervals."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.frozen", description=__doc__)
    parser.add_argument("--model", help="a model; the one in the package if left out")
    parser.add_argument("--length", type=int, default=240)
    parser.add_argument("--steps", type=int, default=32)
    options = parser.parse_args()
    unmasker = Unmasker.from_pretrained(options.model)
    print("| refreshed every | KL, nats | same likeliest token | seconds | exact, seconds |")
    print("|---|---|---|---|---|")
    plain = _seconds(unmasker, unmasker.denoiser, options.length, options.steps)
    for refresh in (1, 2, 4, 8, 16, options.steps):
        compared = Compared(FrozenDenoiser(unmasker.denoiser, refresh))
        _seconds(unmasker, compared, options.length, options.steps)
        fast = _seconds(
            unmasker, FrozenDenoiser(unmasker.denoiser, refresh), options.length, options.steps
        )
        print(
            f"| {refresh} calls | {mean(compared.divergence[1:]):.4f} | "
            f"{100 * mean(compared.agreement[1:]):.1f} % | {fast:.2f} | {plain:.2f} |"
        )


def _seconds(unmasker: Unmasker, denoiser: Denoiser, length: int, steps: int) -> float:
    """Generate four texts and return the seconds."""
    sampler = make_sampler("ancestral", steps=steps)
    given = [*unmasker.codec.start, *unmasker.codec.encode(PROMPT)]
    canvas = Canvas.from_rows([[*given, *[None] * length]] * 4, unmasker.codec.mask_token_id, 1)
    begun = time.perf_counter()
    for _ in sample(
        denoiser,
        unmasker.formulation.process,
        canvas,
        sampler.policy,
        sampler.drawing,
        sampler.times(length),
        RowRng(torch.arange(4)),
    ):
        pass
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
