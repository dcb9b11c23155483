"""Texts, bounds and first losses, to compare the code with what it gave before a change.

    python tests/golden_outputs.py --texts    # the texts alone, after a new sampler: seconds
    python tests/golden_outputs.py            # the bounds, and the losses of every recipe too

The file stays as it is while code is moved or redesigned. It is written anew where a result is
meant to differ, or there is a new sampler or recipe; the diff then shows what else has changed.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    # Before the imports: the package of this checkout, in whatever environment.
    sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

import argparse
import contextlib
import io
import json
import os
import tempfile
from importlib.metadata import version
from typing import Any

FILE = Path(__file__).with_suffix(".json")
STEPS = 8
PROMPT = "The history of"
TEMPLATE = "The [MASK:2] of the city was [MASK:1-4] in 1900."
STEERED: dict[str, Any] = {
    "matching": {"steps": 24, "matching": r"[a-z ,]*\."},
    "filters": {"steps": STEPS, "temperature": 0.8, "top_k": 20, "min_p": 0.01, "ban": ["the"]},
    "windows": {"steps": STEPS, "window": 16, "stride": 6},
}
TEXTS = (
    "The city was founded in the 12th century.",
    "He wrote two novels , and a third one was never finished .",
)
# A recipe that starts from a checkpoint of the hub starts from a small one here.
FOREIGN = ("bert-mouth", "diffusionbert", "diffusionbert-conditional", "mlm")
FOREIGN += ("roberta-diffusion", "roberta-diffusion-confidence")
SHORT = {
    "data.length": 48,
    "training.steps": 5,
    "training.batch_size": 4,
    "training.log_every": 1,
    "training.evaluate_every": 5,
    "training.evaluation_rows": 4,
    "training.save_every": 0,
    "training.warmup_steps": 2,
    "training.bf16": "off",
}
FRESH = {
    "model.config.hidden_size": 32,
    "model.config.num_hidden_layers": 2,
    "model.config.num_attention_heads": 4,
    "model.config.intermediate_size": 48,
    "tokenizer.vocab_size": 330,
}
SMALL_UNET = {
    "model.config.block_out_channels": [32],
    "model.config.layers_per_block": 1,
    "model.config.attention_head_dim": 0,
    "model.config.attention_resolutions": [],
    "model.config.embedding_size": 8,
    "model.config.hidden_size": 8,
    # At first the head is zero, so that no weight below it learns anything in five slow steps.
    "training.learning_rate": 0.01,
}
SMALL_LLAMA = {"model.config.hidden_size": 32, "model.config.num_hidden_layers": 2}


def texts() -> dict[str, Any]:
    """Return what the model of the package writes, by sampler."""
    from unmask import Unmasker
    from unmask.sampling.samplers.registry import SAMPLERS

    writer = Unmasker.from_pretrained(backend="torch", device="cpu")
    found: dict[str, Any] = {}
    for name, sampler in SAMPLERS.items():
        steps = {} if sampler().num_steps is None else {"steps": STEPS}
        written = writer.generate(PROMPT, length=24, num_samples=2, seed=1, sampler=name, **steps)
        filled = writer.infill(TEMPLATE, seed=2, sampler=name, **steps)
        found[name] = [*written.texts, *filled.texts]
    for name, options in STEERED.items():
        written = writer.generate(PROMPT, length=24, seed=1, sampler="random", **options)
        found[name] = [*written.texts]
    return found


def bounds() -> dict[str, float]:
    """Return nats of two texts under the model of the package, by the way they are estimated."""
    from unmask import Unmasker

    writer = Unmasker.from_pretrained(backend="torch", device="cpu")
    found = {}
    for i, text in enumerate(TEXTS):
        found[f"bound {i}"] = writer.score(text, draws=64, seed=3).nats
        found[f"bound in 8 steps {i}"] = writer.score(text, draws=64, seed=3, num_steps=8).nats
        found[f"left to right {i}"] = writer.score_in_order(text).nats
        found[f"pseudo {i}"] = writer.pseudo_score(text).nats
    return found


def write_images(folder: Path) -> None:
    """Write 24 small images of two classes: gradients with noise."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    for number in range(24):
        place = folder / ("across" if number % 2 else "down") / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        ramp = np.linspace(0, 200, 8)[None, :, None].repeat(8, 0).repeat(3, 2)
        ramp = ramp if number % 2 else ramp.transpose(1, 0, 2)
        noised = ramp + random.uniform(0, 55, ramp.shape)
        Image.fromarray(noised.astype(np.uint8)).save(place)


def losses(recipe: str, folder: Path, zoo: Path) -> list[float]:
    """Return the losses of the first steps of a recipe, and the bound after them.

    Args:
        recipe: Its name.
        folder: An empty one.
        zoo: Small checkpoints, see ``conftest.make_zoo``.
    """
    from conftest import story
    from unmask.cli import main
    from unmask.training import recipe_file as recipes

    about = recipes.load(recipe)
    settings = SHORT | (FRESH if about.model.type and not about.of_images else {})
    if about.of_images:
        data = folder / "images"
        write_images(data)
        settings |= SMALL_UNET if about.model.type == "pixel-unet" else SMALL_LLAMA
        if about.objective.num_steps:
            settings |= {"objective.num_steps": 20, "training.learning_rate": 1e-3}
        settings |= {"images.resize": 0}
    elif about.data.pairs:
        data, lines = folder / "pairs.jsonl", story(60, seed=1).splitlines()
        rows = [{"source": line[:8], "target": line[:16]} for line in lines]
        data.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    else:
        data = folder / "story.txt"
        data.write_text(story(60, seed=1), encoding="utf-8")
    line = ["train", recipe, "--data", str(data), "--out", str(folder / "model")]
    if recipe in FOREIGN:
        line += ["--model", str(zoo / "roberta")]
    for key, value in settings.items():
        line += ["--set", f"{key}={value}"]
    with contextlib.redirect_stderr(io.StringIO()) as said:
        assert main(line) == 0, said.getvalue()
    log = (folder / "model" / "training" / "metrics.jsonl").read_text("utf-8").splitlines()
    entries = [json.loads(entry) for entry in log]
    found = [entry["loss"] for entry in entries if "loss" in entry]
    return found + [e["eval_nats_per_token"] for e in entries if "eval_nats_per_token" in e]


def all_losses() -> dict[str, list[float]]:
    """Return the first losses of every recipe by name."""
    from conftest import make_zoo
    from unmask.training import recipe_file as recipes

    with tempfile.TemporaryDirectory() as name:
        zoo = make_zoo(Path(name) / "zoo")
        trained = {}
        for recipe in recipes.names():
            folder = Path(name) / recipe
            folder.mkdir()
            trained[recipe] = losses(recipe, folder, zoo)
    return trained


def main() -> None:
    """Write the file anew, or its texts."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--texts", action="store_true", help="leave bounds and losses as they are")
    os.environ["OMP_NUM_THREADS"] = "1"
    if parser.parse_args().texts:
        found = json.loads(FILE.read_text("utf-8")) | {"texts": texts()}
    else:
        found = {"transformers": version("transformers"), "texts": texts(), "bounds": bounds()}
        found["losses"] = all_losses()
    FILE.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
