"""Whether every recipe of the package learns in two minutes.

    python -m benchmarks.two_minutes [--data pydoc] [--minutes 2] [--only NAME ...]
        [--clock processor]

Recipes that start from a model of the hub get a small BERT with random weights instead; the others
keep their network. Sequences have at most 128 tokens, and pairs are (a line, the same line). The
table gives the steps, the first and the last validation bound, and the entropy of the token
frequencies, all in nats per token of the validation text. A model that ignores context cannot go
below this entropy. BERT's objective is not the measured bound, so its row may stay above.
``--clock processor`` counts the processor time of one thread, which depends little on other
programs.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections import Counter
from pathlib import Path
from typing import TextIO

import torch
from rich.console import Console
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerBase

from benchmarks.learning import CLOCKS
from unmask.data.documents import read_documents
from unmask.data.text import TextCodec
from unmask.models.checkpoint import WORK
from unmask.models.loading import load_tokenizer, no_bars
from unmask.training import TrainingJob, train
from unmask.training import recipe_file as recipes
from unmask.training.progress import METRICS, ProgressLog, read_metrics
from unmask.training.recipe import Recipe
from unmask.training.splitting import split
from unmask.training.tokenizer import train_tokenizer

RATE = "training.learning_rate=1e-3"
"""Rate for the random network; those of the recipes are for pretrained ones."""

TEXT_RECIPES = [name for name in recipes.names() if not recipes.load(name).of_images]


def main() -> None:
    """Run every recipe and print the table as it grows."""
    options = _options()
    if options.clock == "processor":
        torch.set_num_threads(1)
    learn, held_out = split(read_documents(options.data), 0.1)
    print("| recipe | steps | first | last | entropy of frequencies |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        files = _files(place, learn, held_out)
        _random_bert(learn, place / "bert")
        for name in options.only or TEXT_RECIPES:
            print(_row(name, options, files, place), flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.two_minutes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", default="pydoc", help="text file, or pydoc")
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--clock", choices=[*CLOCKS], default="wall")
    parser.add_argument("--only", nargs="+", choices=TEXT_RECIPES, help="only these recipes")
    return parser.parse_args()


def _files(place: Path, learn: list[str], held_out: str) -> dict[bool, tuple[Path, Path]]:
    """Write the data as texts and as pairs; the keys say whether they are pairs."""
    files = {
        pairs: (place / f"learn.{ending}", place / f"held-out.{ending}")
        for pairs, ending in ((False, "txt"), (True, "jsonl"))
    }
    for number, text in enumerate(("\n".join(learn), held_out)):
        files[False][number].write_text(text, encoding="utf-8", newline="")
        lines = [line.strip() for line in text.splitlines() if 8 < len(line.strip()) < 100]
        rows = [json.dumps({"source": line, "target": line}) for line in lines]
        files[True][number].write_text("\n".join(rows), encoding="utf-8")
    return files


def _random_bert(documents: list[str], folder: Path) -> None:
    tokenizer = train_tokenizer(documents, 4096)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=192,
        num_hidden_layers=3,
        num_attention_heads=3,
        intermediate_size=384,
        max_position_embeddings=256,
        pad_token_id=tokenizer.pad_token_id,
    )
    with no_bars():
        BertForMaskedLM(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _row(
    name: str, options: argparse.Namespace, files: dict[bool, tuple[Path, Path]], place: Path
) -> str:
    recipe = recipes.load(name)
    length = min(recipe.data.length, 128)
    settings = [f"training.minutes={options.minutes}", f"data.length={length}"]
    hub = bool(recipe.model.name) and recipe.model.name != "bundled"
    recipe = recipes.load(name, [*settings, *([RATE] if hub else [])])
    data, held_out = files[recipe.data.pairs]
    out = place / name
    with (place / "log.txt").open("w", encoding="utf-8") as log:
        progress = ProgressLog(out / WORK, _console(log), 1, 1, options.minutes)
        model = str(place / "bert") if hub else None
        run = TrainingJob(recipe, str(data), out, model, str(held_out), overwrite=True)
        result = train(run, [progress], str, CLOCKS[options.clock])
    if not result.finished:
        raise SystemExit("interrupted")
    curve = [
        record["eval_nats_per_token"]
        for record in read_metrics(out / WORK / METRICS)
        if "eval_nats_per_token" in record
    ]
    steps = json.loads((out / "unmask.json").read_text("utf-8"))["training"]["steps"]
    assert result.score is not None
    entropy = _entropy(load_tokenizer(str(out)), recipe, held_out)
    return f"| `{name}` | {steps} | {curve[0]:.3f} | {curve[-1]:.3f} | {entropy:.3f} |"


def _entropy(tokenizer: PreTrainedTokenizerBase, recipe: Recipe, file: Path) -> float:
    """Return the entropy of the token frequencies of the held-out targets or text, in nats."""
    text = file.read_text("utf-8")
    if recipe.data.pairs:
        text = "\n".join(json.loads(line)["target"] for line in text.splitlines())
    counts = Counter(TextCodec(tokenizer).encode(text))
    total = sum(counts.values())
    return -sum(n / total * math.log(n / total) for n in counts.values())


def _console(file: TextIO) -> Console:
    return Console(file=file)


if __name__ == "__main__":
    main()
