"""How often the length that is chosen for a blank equals that of the original text.

    python -m benchmarks.blank_length --data FILE [--model M] [--spans 160] [--context 24]

Spans of 1 to 6 tokens of a text are masked, with context on both sides. ``pipelines.rerank``
chooses the length of every span among 1 to 6. Accuracy by chance: 0.167.
"""

from __future__ import annotations

import argparse

import torch
from scipy.stats import spearmanr
from torch import Tensor

from unmask.data.documents import joined, read_documents
from unmask.pipelines import rerank
from unmask.pipelines.layout_options import LENGTH_RULES
from unmask.pipelines.prompts import Rows
from unmask.pipelines.unmasker import Unmasker
from unmask.sampling.canvas import Canvas

LONGEST = 6


def make_spans(unmasker: Unmasker, text: str, count: int, context: int) -> tuple[Rows, Tensor]:
    """Return the candidate sequences of evenly spaced spans, and the true lengths (N,)."""
    codec, ids = unmasker.codec, unmasker.codec.encode(text)
    rows: list[list[int | None]] = []
    lengths = [1 + i % LONGEST for i in range(count)]
    for i, length in enumerate(lengths):
        first = context + i * (len(ids) - 2 * context - LONGEST) // count
        before, after = ids[first - context : first], ids[first + length :][:context]
        rows += [[*codec.start, *before, *[None] * n, *after] for n in range(1, LONGEST + 1)]
    canvas = Canvas.from_rows(rows, codec.mask_token_id, codec.pad_token_id)
    choices = [list(range(i, i + LONGEST)) for i in range(0, len(rows), LONGEST)]
    blanks = [(row.count(None),) for row in rows]
    plan = Rows(canvas, torch.arange(count), choices, blanks).to(unmasker.model.device)
    return plan, torch.tensor(lengths)


def main() -> None:
    """Print accuracies and rank correlations."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.blank_length", description=__doc__)
    parser.add_argument("--data", required=True, help="a text that the model was not trained on")
    parser.add_argument("--model", help="a model; the one in the package if left out")
    parser.add_argument("--spans", type=int, default=160)
    parser.add_argument("--context", type=int, default=24, help="tokens on each side")
    options = parser.parse_args()
    unmasker = Unmasker.from_pretrained(options.model)
    text = joined(read_documents(options.data))
    plan, lengths = make_spans(unmasker, text, options.spans, options.context)
    start = len(unmasker.codec.start)
    nats, calls = rerank.given_nats(plan, start, unmasker.denoiser, unmasker.formulation)
    posterior = torch.softmax(-nats.view(-1, LONGEST), 1).cpu()
    of_truth = posterior.gather(1, lengths[:, None] - 1).mean().item()
    print(f"{len(lengths)} spans, {calls} calls; posterior of the true length {of_truth:.3f}")
    print("| rule | right | rank correlation |")
    print("|---|---|---|")
    for rule in LENGTH_RULES:
        found = torch.tensor(rerank.choose_rows(plan, nats, rule)) % LONGEST + 1
        right = (found == lengths).double().mean().item()
        correlation = spearmanr(found, lengths).statistic
        print(f"| {rule} | {right:.3f} | {correlation:+.2f} |")


if __name__ == "__main__":
    main()
