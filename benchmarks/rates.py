"""The cross-entropy of masked tokens by mask rate: the bound is the area under this curve.

    python -m benchmarks.rates --data FILE MODEL [MODEL ...]

The same tokens are masked for every model. Only for absorbing noise with one schedule for all
tokens, where the bound in nats per token is the integral of the curve over the mask rate.
"""

from __future__ import annotations

import argparse

import torch

from unmask.data.documents import joined, read_documents
from unmask.diffusion.objectives.masked import masked_mean
from unmask.pipelines.unmasker import Unmasker

RATES = (0.05, 0.15, 0.3, 0.5, 0.7, 0.85, 0.95, 1.0)


@torch.no_grad()
def curve(unmasker: Unmasker, text: str, rows: int) -> list[float]:
    """Return the mean cross-entropy of a masked token at every rate, in nats."""
    all_rows = unmasker.rows(text)
    x0, editable = all_rows.rows[:rows], all_rows.editable[:rows]
    means = []
    for rate in RATES:
        generator = torch.Generator().manual_seed(0)
        nats, tokens = 0.0, 0
        for part, free in zip(x0.split(32), editable.split(32), strict=True):
            loss = masked_mean(
                unmasker.denoiser, unmasker.formulation.process, part, rate, free, generator
            )
            nats += float(loss.nats.sum())
            tokens += int(loss.tokens.sum())
        means.append(nats / tokens)
    return means


def main() -> None:
    """Print one line per model."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rates", description=__doc__)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--data", required=True, help="a text that no model was trained on")
    parser.add_argument("--rows", type=int, default=256)
    options = parser.parse_args()
    text = joined(read_documents(options.data))
    print("| model | " + " | ".join(f"{100 * rate:g} %" for rate in RATES) + " |")
    print("|---" * (len(RATES) + 1) + "|")
    for name in options.models:
        means = curve(Unmasker.from_pretrained(name), text, options.rows)
        print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in means) + " |")


if __name__ == "__main__":
    main()
