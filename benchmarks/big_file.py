"""Memory and time of training on one large text file, by the size of the file.

    python -m benchmarks.big_file --gigabytes 0.05 0.5 5

Every file is one document of synthetic sentences, some in letters of several bytes. A new process
fine-tunes the bundled model on it for a few steps or, with ``--fresh``, trains a small model and
its tokenizer. The peak is that of the whole process; its growth over the smallest file is the cost
of the file's size.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WORDS = ("the river", "a town", "führt", "über", "старый", "bridge", "runs", "into", "1987", "sea")
STEPS = 3


def write_file(path: Path, size: float) -> None:
    """Write a text of about ``size`` bytes."""
    numbers = random.Random(0)
    # The sentences repeat, but no two chunks of a megabyte are equal.
    block = [" ".join(numbers.choices(WORDS, k=12)).capitalize() + ".\n" for _ in range(10_000)]
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < size:
            file.writelines(numbers.sample(block, len(block)))


def learn(path: Path, out: Path, fresh: bool) -> dict[str, float]:
    """Train for a few steps; return peak memory in GiB, seconds and tokens."""
    from unmask.training import TrainingJob, train
    from unmask.training.recipe_file import load

    sets = {
        "training.steps": STEPS,
        "training.evaluation_rows": 8,
        "training.save_every": 0,
        **({"tokenizer.vocab_size": 1000} if fresh else {}),
    }
    recipe = load("tiny" if fresh else "diffuse", [f"{key}={value}" for key, value in sets.items()])
    begun = time.perf_counter()
    train(TrainingJob(recipe, str(path), out), report=print)
    seconds = time.perf_counter() - begun
    card = json.loads((out / "unmask.json").read_text(encoding="utf-8"))
    # Linux counts in KiB.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"peak": peak, "seconds": seconds, "tokens": card["training"]["data_tokens"]}


def measure(gigabytes: float, fresh: bool) -> dict[str, float]:
    """Make a file and train on it in a new process."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "text.txt")
        write_file(path, gigabytes * 1e9)
        line = [sys.executable, "-m", "benchmarks.big_file", "--file", str(path)]
        done = subprocess.run(
            [*line, *(["--fresh"] if fresh else [])], capture_output=True, text=True, check=True
        )
        return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Print one line per size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[0.05, 0.2])
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.file is not None:
        out = options.file.parent / "model"
        print(json.dumps(learn(options.file, out, options.fresh)))
        return
    print(f"{'GB':>8} {'tokens':>14} {'peak, GiB':>10} {'seconds':>8}")
    for size in options.gigabytes:
        found = measure(size, options.fresh)
        tokens, peak, seconds = (found[name] for name in ("tokens", "peak", "seconds"))
        print(f"{size:8.3f} {int(tokens):14,} {peak:10.2f} {seconds:8.0f}", flush=True)


if __name__ == "__main__":
    main()
