"""``unmask train``."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from unmask.cli import options, printing
from unmask.cli.grouped import Command
from unmask.errors import UserError
from unmask.validation import exclude, require

if TYPE_CHECKING:
    from rich.console import Console

    from unmask.training import Result, TrainingJob


@click.command("train", cls=Command)
@click.argument("recipe", required=False)
@click.option("--data", help="Text, JSON, CSV, TSV, parquet, FASTA file, folder, hub id, or pydoc.")
@click.option("--validation", help="Data to validate on; else the end of the data.")
@click.option("--model", default=None, metavar="DIR|HUB_ID", help="Start from; else the recipe's.")
@click.option("--out", type=options.PLACE, help="Folder for the new model.")
@click.option(
    "--set", "settings", multiple=True, metavar="SECTION.KEY=VALUE", help="Change a recipe key."
)
@options.field
@click.option("--resume", is_flag=True, help="Continue from the last checkpoint in --out.")
@click.option("--overwrite", is_flag=True, help="Replace what is in --out.")
@click.option("--list", "list_recipes", is_flag=True, help="List the recipes and leave.")
def command(
    recipe: str | None,
    data: str | None,
    validation: str | None,
    model: str | None,
    out: Path | None,
    settings: tuple[str, ...],
    field: str,
    resume: bool,
    overwrite: bool,
    list_recipes: bool,
) -> None:
    """Train by RECIPE, a name or a TOML file; "diffuse" if left out.

    Ctrl-C leaves a checkpoint that --resume continues from.
    """
    from unmask.training import recipe_file as recipes

    if list_recipes:
        others = any((recipe, data, validation, model, out, settings, resume, overwrite))
        require(("--list", not others, "nothing else; it only shows the recipes"))
        for name in recipes.names():
            click.echo(f"{name:30} {recipes.summary(name)}")
        return
    if data is None or out is None:
        raise UserError("train needs --data (what to learn from) and --out (where the model goes)")
    options.quiet_libraries()
    exclude(("--resume", resume and overwrite, "--overwrite"))
    from unmask.models.checkpoint import WORK
    from unmask.training import TrainingJob
    from unmask.training.resume import as_long

    recipes.check_settings(settings, model)
    chosen = recipes.load(recipe or "diffuse", settings)
    if resume:
        chosen = as_long(out / WORK, chosen, settings)
    run = TrainingJob(chosen, data, out, model, validation, field, resume, overwrite)
    if not run_with_progress(run).finished:
        click.get_current_context().exit(130)


def run_with_progress(run: TrainingJob) -> Result:
    """Train with a progress display and a loss curve, and say what came out."""
    from unmask.models.checkpoint import WORK
    from unmask.training import train
    from unmask.training.checkpoints import checkpoints
    from unmask.training.progress import ProgressLog

    training = run.recipe.training
    console = options.console()
    rows = training.batch_size * training.gradient_accumulation
    # The size of images is known once they are read.
    length = 0 if run.recipe.of_images else run.recipe.data.length
    log = ProgressLog(run.out / WORK, console, rows, length, training.minutes)
    try:
        result = train(run, [log], options.note)
    except BaseException as error:
        # A curve that cannot be drawn either must not hide why the run ended.
        with suppress(UserError):
            if log.started:
                draw_curve(run.out / WORK, run.recipe.name)
        if isinstance(error, KeyboardInterrupt) and checkpoints(run.out / WORK):
            _tell_how_to_go_on(console, run)
        raise
    finally:
        log.close()
    try:
        draw_curve(run.out / WORK, run.recipe.name)
    except UserError as error:
        # The model is saved; that there is no picture of its loss is no failure of the run.
        printing.note(f"no loss curve: {error}")
    if result.finished and run.recipe.schedule.name == "learned":
        report_schedule(run.out, run.recipe.name)
    if not result.finished:
        _tell_how_to_go_on(console, run)
    else:
        printing.say(console, f"saved {run.out}{_units(result)}")
    return result


def _tell_how_to_go_on(console: Console, run: TrainingJob) -> None:
    printing.say(console, f"stopped; continue with --resume --out {run.out}")


def _units(result: Result) -> str:
    """Return the score of a finished run as words; none if there was nothing to validate on."""
    from unmask.evaluation.report import brief

    return "" if result.score is None else f" · {brief(result.score)}"


def draw_curve(folder: Path, name: str) -> None:
    """Draw the loss curve of a run, if it has logged anything."""
    from unmask.render.plots import loss_curve
    from unmask.training.progress import CURVE, METRICS, read_metrics

    if (folder / METRICS).is_file():
        loss_curve(read_metrics(folder / METRICS), folder / CURVE, title=name)


def report_schedule(out: Path, name: str) -> None:
    """Plot a learned schedule against token frequency; list the first and last tokens."""
    from unmask.files import replacing
    from unmask.models.checkpoint import WORK, read_extra
    from unmask.models.extra_weights import COUNTS, learned_of
    from unmask.render.plots import exponents
    from unmask.training.schedule_report import PLOT, REPORT, generation_order

    pipeline = options.open_pipeline(str(out), "cpu")
    learned, counts = learned_of(pipeline.model), read_extra(out)[COUNTS]
    assert learned is not None
    exponents(counts.tolist(), learned.exponents.tolist(), out / WORK / PLOT, name)
    with replacing(out / WORK / REPORT) as path:
        text = generation_order(learned, counts, pipeline.codec, name)
        path.write_text(text, encoding="utf-8")
