"""Learning in a given time: the recipes of the package against a naive training loop.

    python -m benchmarks.learning --data FILE --out FOLDER [--minutes 2 5 15] [--json FILE]

Two tasks: ``tiny`` trains a small network and its tokenizer from scratch, ``diffuse`` fine-tunes
the bundled model. Both contenders have the network, the tokenizer, the data and the precision of
the recipe and the same initial weights, and run one after the other. The clock starts with the
first step and leaves out evaluation. With ``--clock processor`` it is the processor time of one
thread, which depends little on other programs.

    ours    ``unmask train RECIPE --set training.minutes=M``, one run for each budget
    plain   i.i.d. times, all positions through the head, 1/t weights (Nie et al. 2025,
            arXiv:2502.09992, Algorithm 1), AdamW with default options at a constant rate, gradients
            clipped at 1; one run of the longest budget, scored at each of them

The naive loop takes batches of 16 at the usual rate, 1e-3 from scratch and 2e-4 to fine-tune;
``--rates`` names others. Both are scored on the last tenth of the data with the same masks. Results
that are in FOLDER are not measured again, so an interrupted benchmark can be continued.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import DataLoader
from transformers import set_seed

from unmask.data.documents import pieces_of, read_documents
from unmask.data.text import TextCodec
from unmask.models.checkpoint import Card
from unmask.models.loading import no_bars
from unmask.pipelines.unmasker import Unmasker
from unmask.training import TrainingJob, train
from unmask.training import recipe_file as recipes
from unmask.training.initialize import StartingPoint
from unmask.training.precision import use_bf16
from unmask.training.recipe import Recipe
from unmask.training.rows import PackedDataset
from unmask.training.splitting import split
from unmask.training.stream import tokenize

RATES = {"tiny": 1e-3, "diffuse": 2e-4}
"""The constant learning rate of the naive loop."""

CLOCKS = {"wall": time.monotonic, "processor": time.process_time}

ROWS = 16  # batch size of the naive loop

LEAST_TIME = 1e-3  # smallest time of the naive loop, as in the code of Nie et al.


@dataclass(frozen=True)
class Task:
    """The task of both contenders: a recipe, training and held-out text, a folder."""

    recipe: str
    learn: Path
    held_out: Path
    out: Path
    seed: int
    settings: tuple[str, ...]
    now: Callable[[], float]

    def load(self, *more: str) -> Recipe:
        """Return the recipe with the settings that both contenders share."""
        shared = (f"training.seed={self.seed}", "model.save_dtype=float32")
        return recipes.load(self.recipe, (*shared, *self.settings, *more))


def main() -> None:
    """Measure the missing results and print all of them."""
    options = _options()
    if options.clock == "processor":
        torch.set_num_threads(1)
    rows = [
        row
        for name in options.recipes
        for row in _measure(_task(options, name), options.minutes, options.rates, options.draws)
    ]
    print(_table(rows))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.learning",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", default="pydoc", help="text file, or pydoc")
    parser.add_argument("--out", type=Path, required=True, help="folder for all runs")
    parser.add_argument("--minutes", type=float, nargs="+", default=[2, 5, 15])
    parser.add_argument("--recipes", nargs="+", choices=[*RATES], default=[*RATES])
    parser.add_argument("--rates", type=float, nargs="+", help="learning rates of the naive loop")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="as in train")
    parser.add_argument("--clock", choices=[*CLOCKS], default="wall")
    parser.add_argument("--draws", type=int, default=4, help="masked copies to score with")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for the numbers")
    return parser.parse_args()


def _task(options: argparse.Namespace, name: str) -> Task:
    """Write the two parts of the data into the folder of the task."""
    out = options.out / f"{name}-{options.seed}"
    out.mkdir(parents=True, exist_ok=True)
    learn, held_out = split(read_documents(options.data), 0.1)
    files = out / "learn.txt", out / "held-out.txt"
    for file, text in zip(files, ("".join(learn), held_out), strict=True):
        file.write_text(text, encoding="utf-8", newline="")
    now = CLOCKS[options.clock]
    return Task(name, *files, out, options.seed, tuple(options.settings), now)


def _measure(
    task: Task, minutes: list[float], rates: list[float] | None, draws: int
) -> Iterator[dict[str, object]]:
    """Yield the results of a task by budget, those of the naive loop first."""
    for rate in rates or [RATES[task.recipe]]:
        where = {m: task.out / f"plain-{rate:g}-{m:g}" for m in minutes}
        if not all((path / "score.json").is_file() for path in where.values()):
            _plain(task, rate, where, draws)
        for path in where.values():
            yield json.loads((path / "score.json").read_text("utf-8"))
    for budget in sorted(minutes):
        path = task.out / f"ours-{budget:g}"
        if not (path / "score.json").is_file():
            _ours(task, budget, path, draws)
        yield json.loads((path / "score.json").read_text("utf-8"))


def _ours(task: Task, minutes: float, out: Path, draws: int) -> None:
    recipe = task.load(
        f"training.minutes={minutes}", "training.evaluate_every=0", "training.save_every=0"
    )
    data, held_out = str(task.learn), str(task.held_out)
    run = TrainingJob(recipe, data, out, validation=held_out, overwrite=True)
    if not train(run, now=task.now).finished:
        raise SystemExit("interrupted")
    card = json.loads((out / "unmask.json").read_text("utf-8"))
    _score(task, out, "ours", minutes, card["training"]["steps"], draws)


def _plain(task: Task, rate: float, where: dict[float, Path], draws: int) -> None:
    """Run the naive loop to the longest budget and score it at each of them."""
    recipe = task.load()
    texts = read_documents(str(task.learn))
    set_seed(task.seed)
    start = StartingPoint.open(recipe, None, texts)
    model, codec = start.model, start.codec
    rows = PackedDataset(tokenize(pieces_of(texts), codec), codec.start, recipe.data.length)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    card = Card(sequence_length=recipe.data.length)
    spent, steps, batches = 0.0, 0, _batches(rows)
    for minutes, out in sorted(where.items()):
        while spent < 60 * minutes:
            begun = task.now()
            _plain_step(model, optimizer, next(batches), codec, recipe)
            spent += task.now() - begun
            steps += 1
        with no_bars():
            model.save_pretrained(out)
            codec.tokenizer.save_pretrained(out)
            card.write(out)
        _score(task, out, f"plain, rate {rate:g}", minutes, steps, draws)


def _batches(rows: PackedDataset) -> Iterator[Tensor]:
    loader = DataLoader(rows, ROWS, shuffle=True, drop_last=True)
    while True:
        yield from (batch["input_ids"] for batch in loader)


def _plain_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    rows: Tensor,
    codec: TextCodec,
    recipe: Recipe,
) -> None:
    model.train()
    rate = LEAST_TIME + (1 - LEAST_TIME) * torch.rand(len(rows), 1)
    masked = torch.rand(rows.shape) < rate
    masked[:, : len(codec.start)] = False
    with torch.autocast("cpu", torch.bfloat16, enabled=use_bf16(recipe.training.bf16)):
        logits = model(input_ids=rows.masked_fill(masked, codec.mask_token_id)).logits
        nats = cross_entropy(logits[masked], rows[masked], reduction="none")
    loss = (nats / rate.expand_as(rows)[masked]).sum() / rows.numel()
    loss.backward()
    clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()


def _score(task: Task, out: Path, who: str, minutes: float, steps: int, draws: int) -> None:
    unmasker = Unmasker.from_pretrained(str(out), backend="torch")
    score = unmasker.score("".join(read_documents(str(task.held_out))), draws=draws)
    row = {"recipe": task.recipe, "who": who, "minutes": minutes, "steps": steps}
    content = json.dumps(row | score.as_dict(), indent=2)
    (out / "score.json").write_text(content + "\n", encoding="utf-8")
    print(f"{task.recipe}, {who}, {minutes:g} min: {score.bits_per_char:.4f} bits/char", flush=True)


def _table(rows: list[dict[str, object]]) -> str:
    names = ("recipe", "minutes", "contender", "steps", "bits/char", "nats/token")
    head = f"| {' | '.join(names)} |\n|{'---|' * len(names)}"
    lines = [
        f"| `{row['recipe']}` | {row['minutes']:g} | {row['who']} | {row['steps']} | "
        f"{row['bits_per_char']:.4f} | {row['nats_per_token']:.4f} |"
        for row in sorted(rows, key=lambda row: (row["recipe"], row["minutes"], row["who"]))
    ]
    return "\n".join([head, *lines])


if __name__ == "__main__":
    main()
