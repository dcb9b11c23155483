"""The methods of the papers on pixels, from scratch, at equal steps.

    python -m benchmarks.images --data SOURCE --out RUNS [--steps N] [--seeds 0 1] [--only NAME ...]
    python -m benchmarks.images --page RUNS

SOURCE holds images with the splits train and test, such as ``digits``, a folder of MNIST's files,
or ``sprites:../shared/data/cifar10?size=32&layout=rows&test=50``. Every run trains a small network,
scores it on the test images and draws a sheet of samples; results are kept in RUNS, so an
interrupted benchmark can be continued. --page prints the table.

All methods have the network of ``md4-pixels`` (D3PM with its own head), no classes, and as many
steps of as many images; a step of GenMD4 runs the network twice. The weights are averaged.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from unmask.data.images import read_images
from unmask.models.checkpoint import WORK
from unmask.pipelines.image_autoregressor import ImageAutoregressor
from unmask.pipelines.images import ImageUnmasker
from unmask.render.pictures import save_grid
from unmask.training import TrainingJob, train
from unmask.training import recipe_file as recipes
from unmask.training.progress import ProgressLog


@dataclass(frozen=True)
class Method:
    """A row of the table: its name, the recipe, and settings that differ from it."""

    name: str
    recipe: str
    settings: tuple[str, ...] = ()


T_STEPS = ("objective.num_steps=1000", "objective.cross_entropy_weight=0.001")
METHODS = (
    Method("absorbing, linear", "md4-pixels"),
    Method("absorbing, cosine", "md4-pixels", ("schedule.name=cosine",)),
    Method("absorbing, GenMD4", "genmd4-pixels"),
    Method("absorbing, D3PM", "md4-pixels", T_STEPS),
    Method("Gaussian, D3PM", "d3pm-pixels"),
    Method("autoregressive", "ar-pixels"),
)


def main() -> None:
    """Run what is missing, or print the table of what is there."""
    options = _options()
    if options.page:
        print(table(options.page))
        return
    for seed in options.seeds:
        for method in METHODS:
            if options.only and method.name not in options.only:
                continue
            folder = options.out / f"{method.name.replace(', ', '-').replace(' ', '-')}-{seed}"
            if not (folder / "result.json").is_file():
                result = run(method, seed, folder, options)
                folder.mkdir(parents=True, exist_ok=True)
                (folder / "result.json").write_text(json.dumps(result, indent=1) + "\n")
            print(table(options.out), flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.images",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", help="images with the splits train and test")
    parser.add_argument("--out", type=Path, help="folder of the runs")
    parser.add_argument("--page", type=Path, help="folder of runs; print their table")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--levels", type=int, default=256)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--only", nargs="+", choices=[method.name for method in METHODS])
    parser.add_argument("--test-images", type=int, default=1000)
    found = parser.parse_args()
    if not found.page and not (found.data and found.out):
        parser.error("--data and --out, or --page")
    return found


def run(method: Method, seed: int, folder: Path, options: Any) -> dict[str, Any]:
    """Train, score and draw; return the numbers."""
    settings = (
        *method.settings,
        f"training.steps={options.steps}",
        f"training.batch_size={options.batch_size}",
        f"training.seed={seed}",
        f"images.levels={options.levels}",
        "training.ema=0.999",
        "training.evaluate_every=0",
        "training.save_every=0",
        "data.validation_share=0",
    )
    recipe = recipes.load(method.recipe, settings)
    job = TrainingJob(recipe, options.data, folder, overwrite=True)
    log = ProgressLog(folder / WORK, Console(stderr=True), options.batch_size, 0)
    begun = time.perf_counter()
    train(job, [log])
    seconds = time.perf_counter() - begun
    test = read_images(options.data, split="test").pixels[: options.test_images]
    model: Any = (ImageAutoregressor if recipe.kind == "causal" else ImageUnmasker).from_pretrained(
        str(folder)
    )
    score = model.score(test, seed=0, **({} if recipe.kind == "causal" else {"draws": 10}))
    for steps, grid in sheets(recipe):
        sampler = {} if steps is None else {"steps": steps, "grid": grid}
        images = model.generate(num_samples=16, seed=0, **sampler).images
        name = "samples" if steps is None else f"samples-{steps}-{grid}"
        save_grid(folder / f"{name}.png", np.asarray(images), columns=8, scale=2)
    low, high = score.interval("bits_per_dim") or (None, None)
    return {
        "name": method.name,
        "seed": seed,
        "steps": options.steps,
        "batch_size": options.batch_size,
        "data": options.data.rpartition("/")[2],
        "bits_per_dim": score.bits_per_dim,
        "interval": [low, high],
        "exact": score.exact,
        "images": len(test),
        "seconds_per_step": seconds / options.steps,
        "parameters": sum(weight.numel() for weight in model.model.parameters()),
    }


def sheets(recipe: Any) -> list[tuple[int | None, str]]:
    """Return steps and grids that samples are drawn with."""
    if recipe.kind == "causal":
        return [(None, "")]
    if recipe.process.name == "gaussian":
        return [(steps, "uniform") for steps in (20, 50, 250)]
    return [(steps, grid) for steps in (16, 64, 256) for grid in ("uniform", "cosine")]


def table(runs: Path) -> str:
    """Return the results in a folder as a Markdown table, the mean over seeds."""
    found = [json.loads(path.read_text()) for path in sorted(runs.glob("*/result.json"))]
    rows = ["| method | bits/dim | seeds | seconds a step | parameters |", "|---|---|---|---|---|"]
    for method in METHODS:
        own = [result for result in found if result["name"] == method.name]
        if not own:
            continue
        bits = [result["bits_per_dim"] for result in own]
        sign = "" if own[0]["exact"] else "≤ "
        each = ", ".join(f"{value:.3f}" for value in bits)
        speed = sum(result["seconds_per_step"] for result in own) / len(own)
        rows.append(
            f"| {method.name} | {sign}{sum(bits) / len(bits):.3f} | {each} | {speed:.2f} "
            f"| {own[0]['parameters']:,} |"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    main()
