"""Agreement of the backends with torch on the bundled model: ``python -m benchmarks.same_texts``.

Prints a Markdown table, one row per backend and sampler: equal texts, equal tokens, the largest
difference of a logit, and the mean KL(torch || backend) of the predictions on all canvases of
torch.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from unmask import Unmasker
from unmask.models.runtimes import openvino
from unmask.sampling.canvas import Frame

PROMPT = "The history of the town"
SAMPLERS = {"ancestral": 64, "refine": 10, "maskgit": 32, "threshold": None}
HEAD = (
    "| backend | sampler | same texts | same tokens | logits differ by | KL, nats |\n"
    "|---|---|---|---|---|---|"
)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=32, help="texts of each sampler")
    parser.add_argument("--length", type=int, default=60, help="tokens of each text")
    options = parser.parse_args()
    reference = Unmasker.from_pretrained(backend="torch")
    print(HEAD)
    with tempfile.TemporaryDirectory() as folder:
        for name, unmasker in _writers(reference, Path(folder)):
            for sampler in SAMPLERS:
                row = _compare(reference, unmasker, sampler, options.samples, options.length)
                print(f"| {name} | `{sampler}` | {row} |", flush=True)


def _writers(reference: Unmasker, folder: Path) -> list[tuple[str, Unmasker]]:
    found = [
        (name, Unmasker.from_pretrained(backend=name)) for name in ("torch-bf16", "torch-int8")
    ]
    for weights in ("float32", "int8") if openvino.installed() else ():
        reference.export(folder / weights, weights=weights)
        unmasker = Unmasker.from_pretrained(str(folder / weights), backend="openvino")
        found.append((f"openvino {weights}", unmasker))
    return found


def _compare(reference: Unmasker, other: Unmasker, sampler: str, samples: int, length: int) -> str:
    frames, theirs = (
        _frames(unmasker, sampler, samples, length) for unmasker in (reference, other)
    )
    generated = frames[0].canvas.masked
    same = (frames[-1].canvas.ids == theirs[-1].canvas.ids)[generated].view(samples, length)
    gap, divergence = _distance(reference, other, frames)
    return (
        f"{int(same.all(1).sum())} of {samples} | {100 * same.double().mean():.2f} % | "
        f"{gap:.1e} | {divergence:.1e}"
    )


def _frames(unmasker: Unmasker, sampler: str, samples: int, length: int) -> list[Frame]:
    """Return all frames of a batch of samples."""
    frames = unmasker.stream(
        PROMPT, length=length, num_samples=samples, sampler=sampler, steps=SAMPLERS[sampler]
    )
    return list(frames)


@torch.no_grad()
def _distance(reference: Unmasker, other: Unmasker, frames: list[Frame]) -> tuple[float, float]:
    """Return the largest difference of logits, and the mean divergence of predictions."""
    gap, divergences = 0.0, []
    for frame in frames[:-1]:
        canvas = frame.canvas
        if not canvas.masked.any():
            continue
        want, got = (
            unmasker.denoiser(canvas.ids, frame.time, at=canvas.masked, valid=canvas.valid)
            for unmasker in (reference, other)
        )
        data = reference.denoiser.data_ids
        want, got = want[:, data].double(), got[:, data].double()
        gap = max(gap, float((want - got).abs().max()))
        divergences.append(_divergence(want, got))
    return gap, float(torch.cat(divergences).mean())


def _divergence(want: Tensor, got: Tensor) -> Tensor:
    """Return KL(want || got), shape (N,), from logits (N, V)."""
    p, q = want.log_softmax(1), got.log_softmax(1)
    return (p.exp() * (p - q)).sum(1)


if __name__ == "__main__":
    main()
