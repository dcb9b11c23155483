"""A training run from a recipe, a model, data and an output folder to a finished checkpoint.

Its stages are ``prepare`` (data and model), ``check`` (what the user named), ``fit`` (the Trainer)
and ``finish`` (validation and saving), with values between them.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from transformers import TrainerCallback, TrainingArguments

from unmask.data.pixels import PixelCodec
from unmask.data.sources import check_apart
from unmask.errors import UserError
from unmask.evaluation.scores import Score
from unmask.files import locked
from unmask.models import checkpoint
from unmask.models.checkpoint import Card
from unmask.models.loading import no_bars
from unmask.pipelines.base import DiffusionPipeline
from unmask.pipelines.generation import plan_rows, resolve
from unmask.pipelines.images import blank
from unmask.pipelines.request import GenerationRequest
from unmask.training import export, precision, resume
from unmask.training.arguments import training_arguments
from unmask.training.prepare import Prepared, TrainingJob, prepare, validator
from unmask.training.stopping import Clock, Pace, stop_on_interrupt
from unmask.training.trainer import DiffusionTrainer


@dataclass(frozen=True)
class Result:
    """What came out: the folder, the last validation score, and whether it ran to the end."""

    out: Path
    score: Score | None
    finished: bool


def train(
    job: TrainingJob,
    callbacks: Sequence[TrainerCallback] = (),
    report: Callable[[str], None] = warnings.warn,
    now: Callable[[], float] = time.monotonic,
) -> Result:
    """Train and save; Ctrl-C saves a checkpoint that ``resume`` continues from.

    Args:
        job: What to do.
        callbacks: Of the Trainer.
        report: Called with a line on what part of the data is left out, if any is.
        now: The clock of a time budget, in seconds.

    Raises:
        UserError: For anything that the caller can put right.
    """
    if find_spec("accelerate") is None:
        raise UserError("training needs: pip install 'unmask[train]'")
    checkpoint.check_folder(job.out)
    for source in filter(None, (job.data, job.validation)):
        check_apart(source, job.out)
    with locked(job.out):
        prepared = prepare(job, report)
        arguments = check(prepared, report)
        return finish(prepared, fit(prepared, arguments, callbacks, now))


def check(prepared: Prepared, report: Callable[[str], None]) -> TrainingArguments:
    """Try everything that the user named once, before anything is written.

    Args:
        prepared: The run.
        report: Called with a line if the network cannot be trained in bfloat16.

    Returns:
        The arguments of the Trainer.

    Raises:
        UserError: If an optimiser, a schedule, a precision or the sampler cannot be used.
    """
    recipe, material = prepared.recipe, prepared.material
    bf16 = precision.settle(prepared.loss, prepared.start.model, material, report)
    arguments = training_arguments(recipe.training, prepared.job.work, len(material.items), bf16)
    if recipe.kind != "causal":
        _check_sampler(prepared)
    return arguments


def _check_sampler(prepared: Prepared) -> None:
    """Raise a UserError if the model could not generate with the sampler of its recipe."""
    recipe, model = prepared.recipe, prepared.start.model
    blocks = recipe.objective.block_length
    card = Card(kind=recipe.kind, sampler=recipe.sampler, block_length=blocks)
    denoiser, codec = prepared.denoiser_of(model), prepared.start.codec
    pipeline = DiffusionPipeline(model, codec, card, denoiser, prepared.formulation)
    if isinstance(codec, PixelCodec):
        plan_rows(blank(codec).to(pipeline.device), GenerationRequest(), pipeline)
    else:
        resolve(GenerationRequest(length=1), pipeline)


def fit(
    prepared: Prepared,
    arguments: TrainingArguments,
    callbacks: Sequence[TrainerCallback] = (),
    now: Callable[[], float] = time.monotonic,
) -> DiffusionTrainer:
    """Train to the end, from a checkpoint if there is one, or until a signal asks to stop.

    Args:
        prepared: The run.
        arguments: As ``check`` returns them.
        callbacks: Of the Trainer.
        now: The clock of a time budget, in seconds.
    """
    recipe, job, point = prepared.recipe, prepared.job, prepared.point
    clock = Clock(60 * recipe.training.minutes, 0.0 if point is None else point.seconds, now)
    trainer = DiffusionTrainer(
        recipe=recipe,
        formulation=prepared.formulation,
        batcher=prepared.material.batcher,
        denoiser_of=prepared.denoiser_of,
        validate=validator(prepared, arguments),
        pace=Pace(clock, recipe.training),
        model=prepared.start.model,
        processing_class=prepared.start.codec.tokenizer,
        args=arguments,
        train_dataset=prepared.material.items,
        callbacks=[*callbacks],
    )
    if point is None:
        # Only now, when nothing that the user named can turn out to be wrong any more.
        resume.begin(job.work, prepared.what, prepared.content)
    elif trainer.average is not None:
        trainer.average.load(point.folder)
    if point is not None and point.ended:
        trainer.take_up(point.folder)
        return trainer
    with no_bars(), stop_on_interrupt(trainer, trainer.pace):
        trainer.train(resume_from_checkpoint=None if point is None else str(point.folder))
    return trainer


def finish(prepared: Prepared, trainer: DiffusionTrainer) -> Result:
    """Validate and save what was trained to the end.

    Raises:
        UserError: If a weight is not finite, or the disk is full.
    """
    job = prepared.job
    if trainer.pace.stop_requested:
        return Result(job.out, None, finished=False)
    trainer.check_weights()
    trainer.evaluate()
    if trainer.average is not None:
        trainer.average.apply()
    export.save(prepared, export.make_card(prepared, trainer))
    keep = bool(prepared.recipe.training.save_every)
    resume.finish(job.work, trainer.state.global_step, keep=keep)
    return Result(job.out, trainer.score, finished=True)
