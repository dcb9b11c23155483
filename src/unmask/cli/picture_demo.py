"""``unmask demo --images``: the tour with pictures in place of text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unmask.cli import options, pictures, printing

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console

    from unmask.pipelines.images import GeneratedImages, ImageUnmasker

SAMPLES = 30
"""Images of the sheet, three of each digit."""
MINUTES = 2.5


@dataclass(frozen=True)
class PictureTour:
    """The choices of one tour.

    Attributes:
        console: Where it is shown.
        out: Where it is kept.
        minutes: Time for training.
        seed: Of everything random.
    """

    console: Console
    out: Path
    minutes: float
    seed: int


def tour(plan: PictureTour) -> None:
    """Train on digits, draw, in-paint, score, save all."""
    import numpy as np

    from unmask.data.images import read_images
    from unmask.evaluation.report import brief

    printing.heading(plan.console, f"1. a U-Net learns 8 x 8 digits for about {plan.minutes:g} min")
    pipeline = _train(plan)
    test = read_images("digits", split="test")
    score = pipeline.score(test, draws=4, seed=plan.seed)
    printing.say(plan.console, f"digits it has not seen: {brief(score)}")
    printing.heading(plan.console, "2. it draws: masks turn into pixels")
    drawn = [_draw(plan, pipeline, label) for label in pipeline.codec.classes]
    images = np.concatenate([result.images for result in drawn])
    printing.heading(plan.console, "3. it fills in the lower half of digits it has not seen")
    filled = _infill(plan, pipeline, test.pixels[:10])
    _keep(plan, drawn, images, filled, brief(score))
    printing.heading(plan.console, f"all of this is in {plan.out}, start with report.md")


def _train(plan: PictureTour) -> ImageUnmasker:
    from unmask.cli.train import run_with_progress
    from unmask.training import TrainingJob
    from unmask.training import recipe_file as recipes

    settings = (
        f"training.minutes={plan.minutes}",
        "training.steps=0",
        # Few steps are all there is time for: a smaller network makes more of them.
        "model.config.layers_per_block=1",
        "model.dropout=0.0",
        "training.ema=0.99",
        f"training.seed={plan.seed}",
        "training.evaluate_every=0",
        "training.save_every=0",
    )
    recipe = recipes.load("digits", settings)
    job = TrainingJob(recipe, "digits", plan.out, validation="digits", overwrite=True)
    if not run_with_progress(job).finished:
        raise KeyboardInterrupt
    opened: Any = pictures.open_pictures(str(plan.out), None, "auto")
    pipeline: ImageUnmasker = opened
    return pipeline


def _draw(plan: PictureTour, pipeline: ImageUnmasker, label: str) -> GeneratedImages:
    count = SAMPLES // len(pipeline.codec.classes)
    values: dict[str, Any] = {
        "num_samples": count,
        "label": label,
        "seed": plan.seed,
        "guidance_scale": 1.5,
    }
    if plan.console.is_terminal:
        return pictures.watched(pipeline, pipeline.generate, plan.console, **values)
    return pipeline.generate(**values)


def _infill(plan: PictureTour, pipeline: ImageUnmasker, given: np.ndarray) -> np.ndarray:
    """Return three rows of images: the given ones, their upper halves, and these filled in."""
    import numpy as np

    lower = np.zeros(pipeline.codec.shape, dtype=bool)
    lower[pipeline.codec.height // 2 :] = True
    hidden = np.where(lower, np.uint8(128), given)
    # With one seed, all images would get the same random numbers at the same places.
    filled = [
        pipeline.infill(image, lower, seed=plan.seed + number).images
        for number, image in enumerate(given)
    ]
    return np.concatenate([given, hidden, *filled])


def _keep(
    plan: PictureTour,
    drawn: list[GeneratedImages],
    images: np.ndarray,
    filled: np.ndarray,
    score: str,
) -> None:
    from unmask.files import replacing
    from unmask.render.pictures import save_grid

    folder = plan.out
    save_grid(folder / "samples.png", images, columns=SAMPLES // 10 * 5, scale=8)
    save_grid(folder / "infilling.png", filled, columns=10, scale=8)
    tracks = [result.tracks[0] for result in drawn]
    options.save_picture_tracks(
        tracks, folder / "frames.jsonl", folder / "canvas.gif", folder / "replay.html"
    )
    report = (
        f"# Digits in {plan.minutes:g} minutes\n\n"
        "The recipe `digits` with a smaller U-Net: masked diffusion on 8 x 8 pixels of 17 levels, "
        f"seed {plan.seed}. On 297 digits that it has not seen: {score}.\n\n"
        "Three of each digit, with guidance:\n\n![samples](samples.png)\n\n"
        "Digits that it has not seen, their upper halves, and what it makes of these:\n\n"
        "![infilling](infilling.png)\n\n![canvas](canvas.gif)\n\n![loss](training/loss.png)\n\n"
        "[Step through it](replay.html) · the folder is a model: "
        f"`unmask generate --model {folder} --num-samples 16 --label 7 --grid sevens.png`\n"
    )
    with replacing(folder / "report.md") as path:
        path.write_text(report, encoding="utf-8")
