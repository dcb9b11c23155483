"""Quality against seconds of several models, each with the same sampler at several step counts.

    python -m benchmarks.frontier --data FILE --judge FOLDER --out PLOT.png NAME=FOLDER[,frozen] ...

Quality is the nats per token of generated texts under an autoregressive judge, trained on text of
the same kind, next to those of a real text. Repetitive text also gets few nats from such a judge,
so the table has the distance of the character trigrams from those of the real text, too; see
``unmask.pipelines.autotune``. ``,frozen`` generates with the frozen cache.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from unmask.data.documents import joined, read_documents
from unmask.pipelines.autoregressor import Autoregressor
from unmask.pipelines.autotune import total_variation, trigrams
from unmask.pipelines.unmasker import Unmasker
from unmask.render.plots import Point, sampler_curves

STEPS = (2, 4, 8, 16, 32, 64, 128)


def main() -> None:
    """Print one line per model and step count, and plot them."""
    options = _options()
    text = joined(read_documents(options.data))
    goal, judge = trigrams([text]), Autoregressor.from_pretrained(options.judge)
    real = judge.score(text[: options.rows * 1000]).nats_per_token
    points = []
    print("| model | calls | seconds per text | nats/token of the judge | trigram distance |")
    print("|---|---|---|---|---|")
    for entry in options.models:
        name, _, place = entry.partition("=")
        folder, _, cache = place.partition(",")
        unmasker = Unmasker.from_pretrained(folder, cache=cache or "exact")
        unmasker.generate(length=8, steps=2)
        for steps in STEPS:
            result = unmasker.generate(
                length=options.length,
                num_samples=options.rows,
                sampler=options.sampler,
                steps=steps,
                top_p=1.0,
            )
            seconds = result.seconds / options.rows
            nats = judge.score("\n\n".join(result.texts)).nats_per_token
            far = total_variation(trigrams(result.texts), goal)
            print(f"| {name} | {result.nfe} | {seconds:.4f} | {nats:.3f} | {far:.3f} |", flush=True)
            points.append(Point(name, seconds, nats))
    print(f"| the text itself | | | {real:.3f} | |")
    title = f"{options.sampler}, {options.length} tokens, {options.rows} texts at a time"
    sampler_curves(
        points,
        options.out,
        title=title,
        cost="seconds per text",
        quality="nats per token of an autoregressive judge",
        floor=("the text itself", real),
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.frontier", description=__doc__)
    parser.add_argument("models", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--data", required=True, help="a text that no model was trained on")
    parser.add_argument("--judge", required=True, help="an autoregressive model")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sampler", default="ancestral")
    parser.add_argument("--length", type=int, default=127)
    parser.add_argument("--rows", type=int, default=64)
    return parser.parse_args()


if __name__ == "__main__":
    main()
