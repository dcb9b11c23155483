"""``unmask demo``: the guided tour that ``make demo`` runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from unmask.cli import options, picture_demo, printing
from unmask.cli.declared import declared
from unmask.cli.grouped import Command
from unmask.pipelines.layout_options import SampleOptions
from unmask.training.sections import TrainingSection
from unmask.validation import Options, exclude, option, real, with_default

if TYPE_CHECKING:
    from rich.console import Console

    from unmask.evaluation.scores import Score
    from unmask.pipelines.output import Generated
    from unmask.pipelines.unmasker import Unmasker

PROMPT = "The history of the town begins with"
LENGTH = 100
LINGER = 0.1
"""Seconds that each step of the canvas stays on the screen."""
HELD_OUT = 20_000
WITH_IMAGES = ("images", "out", "minutes", "overwrite", "seed")


@dataclass(frozen=True, kw_only=True)
class TourOptions(Options):
    """What becomes part of the recipe of a tour."""

    minutes: float = option(1.0, "Time for fine-tuning.", real, low=0, high=1e6, above=True)
    seed: int = with_default(TrainingSection, "seed", help=SampleOptions.options()["seed"].help)


@click.command("demo", cls=Command)
@click.option("--text", default="pydoc", show_default=True, help="What to fine-tune on.")
@click.option(
    "--out",
    type=options.PLACE,
    default="demo",
    show_default=True,
    help="Folder for all.",
)
@click.option("--prompt", default=PROMPT, show_default=True, help="What is continued.")
@declared(TourOptions, ["minutes"])
@click.option("--overwrite", is_flag=True, help="Replace what is in --out.")
@declared(TourOptions, ["seed"])
@click.option("--images", is_flag=True, help="Train on pictures of digits in place of a text.")
def command(
    text: str, out: Path, prompt: str, minutes: float, overwrite: bool, seed: int, images: bool
) -> None:
    """Generate with the small model, fine-tune it on a text, and generate again.

    Leaves a folder with the animation, a replay page, the loss curve, the new model and a report.

    With --images, train a small model of digits, draw and fill in digits instead.
    """
    from unmask.models import checkpoint

    console = options.console()
    if images:
        options.refuse_beside("--images draws digits", *WITH_IMAGES)
        minutes = minutes if options.is_given("minutes") else picture_demo.MINUTES
        checkpoint.claim(out, overwrite)
        picture_demo.tour(picture_demo.PictureTour(console, out, minutes, seed))
        return
    with console.status("loading torch and transformers"):
        from unmask.data.documents import read_documents

    checkpoint.claim(out, overwrite)
    exclude(("--prompt", "[MASK" in prompt, "blanks"))
    documents = read_documents(text, note=options.note)
    tour(Tour(console, out, prompt, minutes, seed), text, documents)


@dataclass(frozen=True)
class Tour:
    """The choices of one tour.

    Attributes:
        console: Where it is shown.
        out: Where it is kept.
        prompt: What the model continues.
        minutes: Time for fine-tuning.
        seed: Of everything random.
    """

    console: Console
    out: Path
    prompt: str
    minutes: float
    seed: int


def tour(plan: Tour, source: str, documents: list[str]) -> None:
    """Show the card, generate, fine-tune, score before and after, generate again, save all."""
    from unmask.cli.info import card_of, show
    from unmask.evaluation.report import brief
    from unmask.training.splitting import split

    printing.heading(plan.console, "1. a small model")
    show(card_of(None), plan.console)
    pipeline = options.open_unmasker(None, None)
    printing.heading(plan.console, "2. it generates: masks turn into text")
    before = _write(plan, pipeline)
    printing.heading(
        plan.console, f"3. it learns from {Path(source).name} for about {plan.minutes:g} min"
    )
    learn, held_out = split(documents, 0.1)
    held_out = held_out[:HELD_OUT]
    bound_before = pipeline.score(held_out, draws=4, seed=plan.seed)
    printing.say(plan.console, f"text it will not see, before: {brief(bound_before)}")
    tuned = _fine_tune(plan, source, learn, held_out)
    bound_after = tuned.score(held_out, draws=4, seed=plan.seed)
    printing.say(plan.console, f"text it has not seen, after: {brief(bound_after)}")
    printing.heading(plan.console, "4. it generates again")
    after = _write(plan, tuned)
    _keep(plan, source, (before, after), (bound_before, bound_after))
    printing.heading(plan.console, f"all of this is in {plan.out}, start with report.md")


def _write(plan: Tour, pipeline: Unmasker) -> Generated:
    from unmask.cli.writing import watched

    # A model this small writes faster than an eye can follow, so that every step is held a moment.
    linger = LINGER if plan.console.is_terminal else 0.0
    work = partial(pipeline.generate, plan.prompt)
    result = watched(pipeline, work, plan.console, linger=linger, length=LENGTH, seed=plan.seed)
    printing.result(result.texts[0])
    held = f" and {linger:g} s a step to watch" if linger else ""
    printing.say(plan.console, f"{result.nfe} network calls, {result.seconds:.1f} s{held}")
    return result


def _fine_tune(plan: Tour, source: str, learn: list[str], held_out: str) -> Unmasker:
    from unmask.cli.train import run_with_progress
    from unmask.data.documents import joined
    from unmask.training import TrainingJob
    from unmask.training import recipe_file as recipes

    settings = (
        f"training.minutes={plan.minutes}",
        f"training.seed={plan.seed}",
        "training.batch_size=8",
        "training.learning_rate=1e-3",
        "training.optimizer=muon",
        "training.warmup_steps=10",
        "training.log_every=5",
        "training.evaluate_every=0",
        "training.save_every=0",
        "sampler.steps=64",
        "sampler.top_p=0.9",
    )
    recipe = recipes.load("diffuse", settings)
    with TemporaryDirectory() as folder:
        # Named after the source, which is what the new model's card will say it learned from.
        data = Path(folder) / f"{Path(source).stem}.txt"
        validation = Path(folder) / f"{Path(source).stem}-held-out.txt"
        data.write_text(joined(learn), encoding="utf-8", newline="")
        validation.write_text(held_out, encoding="utf-8", newline="")
        run = TrainingJob(recipe, str(data), plan.out, "bundled", str(validation), overwrite=True)
        if not run_with_progress(run).finished:
            raise KeyboardInterrupt
    return options.open_unmasker(str(plan.out), None)


def _keep(
    plan: Tour,
    source: str,
    texts: tuple[Generated, Generated],
    bounds: tuple[Score, Score],
) -> None:
    from unmask.evaluation.report import difference_table, differences, legend, table
    from unmask.files import replacing

    names = ("before fine-tuning", "after fine-tuning")
    tracks = [replace(text.tracks[0], label=name) for text, name in zip(texts, names, strict=True)]
    folder = plan.out
    options.save_pictures(
        tracks, folder / "frames.jsonl", folder / "canvas.gif", folder / "replay.html"
    )
    scores = dict(zip(names, bounds, strict=True))
    tables = [table(scores), difference_table(names[0], differences(scores)), legend(scores)]
    numbers = "\n\n".join(tables)
    samples = "".join(
        f"## {name.capitalize()}\n\n```text\n{text.texts[0]}\n```\n\n"
        for name, text in zip(names, texts, strict=True)
    )
    report = (
        f"# A minute with {Path(source).name}\n\n"
        f"The model of the package, fine-tuned for {plan.minutes:g} min, seed {plan.seed}.\n\n"
        "Upper bounds on text that it did not learn from "
        f"({bounds[0].tokens} tokens, {bounds[0].characters} characters):\n\n"
        f"{numbers}\n\n{samples}"
        "![canvas](canvas.gif)\n\n![loss](training/loss.png)\n\n"
        "[Step through it](replay.html) · the folder is a model: "
        f'`unmask generate --model {folder} "..."`\n'
    )
    with replacing(folder / "report.md") as path:
        path.write_text(report, encoding="utf-8")
