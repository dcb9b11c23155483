"""One training run from a recipe, a model, data and an output folder, to a finished checkpoint."""

from __future__ import annotations

import json
import os
import platform
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    get_scheduler,
    set_seed,
)

from unmask.data import unknown_tokens
from unmask.data.documents import Note, check_apart
from unmask.data.text import TextCodec
from unmask.data.text_rows import Text
from unmask.diffusion.formulation import Formulation
from unmask.diffusion.registry import NOISE_SCHEDULES, make_formulation
from unmask.errors import UserError, did_you_mean
from unmask.evaluation.likelihood import Part, bound_of_rows, score_text
from unmask.evaluation.scores import Score
from unmask.files import locked, settle
from unmask.models import checkpoint, compat, extra_weights, loading
from unmask.models.any_order import make_denoiser
from unmask.models.causal import next_token_nats
from unmask.models.checkpoint import Card
from unmask.models.decoder import DecoderDenoiser
from unmask.models.encoder import not_data_ids, told_apart
from unmask.models.loading import best_device, no_bars
from unmask.models.traits import traits_of
from unmask.pipelines.control_options import Steering
from unmask.pipelines.generation import Network
from unmask.pipelines.generation import Run as Writing
from unmask.pipelines.prompts import lay_out
from unmask.pipelines.sampler_options import choose_preset
from unmask.training import precision, rates, resume
from unmask.training.datasets import Material, Texts, fingerprint
from unmask.training.initialize import about_conversion, open_model
from unmask.training.loss import Loss
from unmask.training.pair_dataset import PairTexts
from unmask.training.recipe import Recipe
from unmask.training.record_dataset import RecordTexts
from unmask.training.sections import TrainingSection
from unmask.training.stopping import Clock, Pace, stop_on_interrupt
from unmask.training.trainer import DiffusionTrainer
from unmask.validation import place

_COUNTED = 2**22
"""Tokens that are counted at once."""


@dataclass(frozen=True)
class Run:
    """What to train, on what, and where to put it.

    Attributes:
        recipe: How.
        data: Source of the training text, see ``data.read_documents``, or pairs, see ``pairs``.
        out: Folder of the finished model; logs and checkpoints go to ``training`` in it.
        model: Directory or hub id to start from; None takes the recipe's.
        validation: Source of the validation data; None holds out the end of the data.
        field: Column of the text in tables.
        resume: Continue from the last checkpoint in ``out``.
        overwrite: Replace a model that is already in ``out``.
    """

    recipe: Recipe
    data: str
    out: Path
    model: str | None = None
    validation: str | None = None
    field: str = "text"
    resume: bool = False
    overwrite: bool = False


@dataclass(frozen=True)
class Result:
    """What came out: the folder, the last validation score, and whether it ran to the end."""

    out: Path
    score: Score | None
    finished: bool


def train(
    run: Run,
    callbacks: Sequence[TrainerCallback] = (),
    report: Callable[[str], None] = warnings.warn,
    now: Callable[[], float] = time.monotonic,
) -> Result:
    """Train and save; Ctrl-C saves a checkpoint that ``resume`` continues from.

    Args:
        run: What to do.
        callbacks: Of the Trainer.
        report: Called with a line on what part of the data is left out, if any is.
        now: The clock of a time budget, in seconds.

    Raises:
        UserError: For anything that the caller can put right.
    """
    if find_spec("accelerate") is None:
        raise UserError("training needs: pip install 'unmask[train]'")
    recipe = run.recipe
    if run.model is not None:
        # What is not used is not noted as the way to this model either.
        recipe = recipe.without_fresh()
    run = replace(run, out=Path(place("out", run.out)), recipe=recipe)
    checkpoint.check_folder(run.out)
    for source in (run.data, run.validation):
        if source is not None:
            check_apart(source, run.out)
    with locked(run.out):
        return _train(run, callbacks, report, now)


def _train(
    run: Run,
    callbacks: Sequence[TrainerCallback],
    report: Callable[[str], None],
    now: Callable[[], float],
) -> Result:
    recipe, work = run.recipe, run.out / checkpoint.WORK
    what = resume.describe(
        recipe,
        _label(run.model or recipe.model.name or recipe.model.type),
        _label(run.data),
        None if run.validation is None else _label(run.validation),
    )
    point = None
    if run.resume:
        settle(run.out)
        point = resume.last_checkpoint(work, what, recipe.training)
        if point is None:
            report("the run was stopped before its first checkpoint, so it begins anew")
    else:
        checkpoint.claim(run.out, run.overwrite)
    last = None if point is None else str(point.folder)
    source = _read(run, report)
    content = fingerprint(source.everything)
    if run.resume:
        resume.check_content(work, content)
    set_seed(recipe.training.seed)
    model, codec = open_model(recipe, last or run.model, source.texts)
    material = source.lay_out(codec, recipe, _nearest(run.out))
    start_from = None if last is not None else run.model or recipe.model.name
    said = unknown_tokens.notes(
        codec, source.texts, unknown_tokens.count(codec, material.noised), len(material.noised)
    )
    for line in (*material.notes, *said, *about_conversion(recipe, start_from)):
        report(line)
    vocab_size = _vocab_size(recipe, model)
    counts = _counts(recipe, material.noised, vocab_size)
    not_data = not_data_ids(codec.tokenizer, vocab_size)
    denoiser_of = _denoiser_of(recipe, codec, not_data)
    data_ids, _ = told_apart(vocab_size, not_data, best_device())
    formulation = _formulation(recipe, model, codec, data_ids, counts)
    model = loading.place(model, best_device())
    bf16 = precision.settle(Loss(recipe, formulation, denoiser_of), model, material, report)
    arguments = _arguments(recipe, work, len(material.items), bf16)
    if recipe.kind != "causal":
        _check_sampler(recipe, Network(denoiser_of(model), formulation, codec), model.device)
    spent = 0.0 if point is None else point.seconds
    pace = Pace(Clock(60 * recipe.training.minutes, spent, now), recipe.training)
    trainer = DiffusionTrainer(
        recipe=recipe,
        formulation=formulation,
        batcher=material.batcher,
        denoiser_of=denoiser_of,
        validate=_validator(recipe, formulation, denoiser_of, material.validation, arguments),
        pace=pace,
        model=model,
        processing_class=codec.tokenizer,
        args=arguments,
        train_dataset=material.items,
        callbacks=[*callbacks],
    )
    if point is None:
        # Only now, when nothing that the user named can turn out to be wrong any more.
        resume.begin(work, what, content)
    if not _learn(trainer, pace, point):
        return Result(run.out, None, finished=False)
    trainer.check_weights()
    trainer.evaluate()
    if trainer.average is not None:
        trainer.average.apply()
    card = _card(run, trainer, pace.clock.elapsed, material)
    _export(model, codec, card, counts, run)
    resume.finish(work, trainer.state.global_step, keep=bool(recipe.training.save_every))
    return Result(run.out, trainer.score, finished=True)


def _learn(trainer: DiffusionTrainer, pace: Pace, point: resume.Point | None) -> bool:
    """Train to the end, from a checkpoint if there is one; return whether the end was reached."""
    if point is not None and trainer.average is not None:
        trainer.average.load(point.folder)
    if point is not None and point.ended:
        trainer.take_up(point.folder)
        return True
    with no_bars(), stop_on_interrupt(trainer, pace) as interrupted:
        trainer.train(resume_from_checkpoint=None if point is None else str(point.folder))
    return not interrupted()


def _read(run: Run, note: Note) -> Texts | RecordTexts | PairTexts:
    kind: type[Texts] | type[RecordTexts] | type[PairTexts] = Texts
    if run.recipe.data.pairs:
        kind = PairTexts
    elif run.recipe.data.rows == "records":
        kind = RecordTexts
    return kind.read(run.data, run.validation, run.field, run.recipe, note)


def _nearest(folder: Path) -> Path:
    """Return a folder, or the first one above it that exists."""
    folder = folder.absolute()
    return next(place for place in (folder, *folder.parents) if place.is_dir())


def _vocab_size(recipe: Recipe, model: PreTrainedModel) -> int:
    """Return the number of logits of a position."""
    if recipe.kind == "masked":
        return traits_of(model).vocab_size
    return int(model.get_output_embeddings().out_features)


def _counts(recipe: Recipe, noised: Tensor, vocab_size: int) -> Tensor | None:
    """Return how often each id is noised, (V,), for the schedules that depend on it."""
    if not NOISE_SCHEDULES[recipe.schedule.name].counts:
        return None
    counts = torch.zeros(vocab_size, dtype=torch.int64)
    for part in noised.split(_COUNTED):
        counts += torch.bincount(part.long(), minlength=vocab_size)
    return counts


def _formulation(
    recipe: Recipe,
    model: PreTrainedModel,
    codec: TextCodec,
    data_ids: Tensor,
    counts: Tensor | None,
) -> Formulation:
    """Return the recipe's method; for a causal model, which has no masks, one that is not used."""
    causal = recipe.kind == "causal"
    device = best_device()
    # The Trainer moves the network; what the method holds is moved here.
    return make_formulation(
        recipe.process.name,
        recipe.schedule.as_card(),
        mask_token_id=0 if causal else codec.mask_token_id,
        vocab_size=_vocab_size(recipe, model),
        data_ids=data_ids,
        num_steps=recipe.objective.num_steps,
        cross_entropy_weight=recipe.objective.cross_entropy_weight,
        counts=None if counts is None else counts.to(device),
        learned=extra_weights.learned_of(model),
        attention=recipe.model.attention,
        block_length=recipe.objective.block_length,
        interval=(recipe.objective.interval[0], recipe.objective.interval[1]),
    )


def _denoiser_of(
    recipe: Recipe, codec: TextCodec, not_data: list[int]
) -> Callable[[nn.Module], Any]:
    """Return what makes a denoiser, or a block denoiser, of the network in training."""
    if recipe.kind == "block":
        return partial(
            DecoderDenoiser,
            not_data=not_data,
            mask_token_id=codec.mask_token_id,
            block_length=recipe.objective.block_length,
        )
    # A causal model is asked for no masks.
    mask = codec.mask_token_id if recipe.kind == "masked" else 0
    return partial(make_denoiser, not_data=not_data, mask_token_id=mask)


def _validator(
    recipe: Recipe,
    formulation: Formulation,
    denoiser_of: Callable[[nn.Module], Any],
    text_of: Callable[[int], Text] | None,
    arguments: TrainingArguments,
) -> Callable[[nn.Module, int], Score] | None:
    if text_of is None:
        return None
    exact = recipe.kind == "causal"

    def validate(model: nn.Module, rows: int) -> Score:
        def exact_nats(part: Part) -> torch.Tensor:
            return next_token_nats(model, part.rows, part.editable)

        bound = None if exact else bound_of_rows(denoiser_of(model), formulation.bound)
        with torch.autocast(arguments.device.type, torch.bfloat16, enabled=arguments.bf16):
            return score_text(
                text_of(rows),
                bound or exact_nats,
                kind="exact" if exact else "bound",
                batch_size=arguments.per_device_train_batch_size,
                seed=recipe.training.seed,
                device=arguments.device,
            )

    return validate


def _check_name(key: str, name: str, known: Iterable[str]) -> None:
    choices = list(known)
    if name not in choices:
        raise UserError(f"unknown {key} {name!r}{did_you_mean(name, choices)}")


def _arguments(recipe: Recipe, work: Path, rows: int, bf16: bool) -> TrainingArguments:
    training = recipe.training
    schedules: Iterable[str] = compat.schedule_names()
    if training.minutes:
        if training.lr_schedule in {*schedules} - {*rates.CLOCKED}:
            raise UserError(
                f"training.lr_schedule {training.lr_schedule!r} cannot follow a time budget; "
                f"choose one of {', '.join(rates.CLOCKED)}, or set training.steps in place of "
                "training.minutes"
            )
        schedules = rates.CLOCKED
    _check_name("training.lr_schedule", training.lr_schedule, schedules)
    _check_name("training.optimizer", training.optimizer, ["muon", *compat.optimizer_names()])
    timed = bool(training.minutes) and not training.steps
    arguments = TrainingArguments(
        output_dir=str(work),
        max_steps=1_000_000 if timed else (training.steps or -1),
        num_train_epochs=training.epochs,
        per_device_train_batch_size=min(training.batch_size, rows),
        gradient_accumulation_steps=training.gradient_accumulation,
        learning_rate=training.learning_rate,
        lr_scheduler_type=training.lr_schedule,
        weight_decay=training.weight_decay,
        adam_beta2=training.beta2,
        max_grad_norm=training.max_grad_norm,
        optim="adamw_torch_fused" if training.optimizer == "muon" else training.optimizer,
        bf16=bf16,
        use_cpu=best_device() == "cpu",
        logging_steps=training.log_every,
        logging_nan_inf_filter=False,
        save_strategy="steps" if training.save_every else "no",
        save_steps=training.save_every or 500,
        save_total_limit=2,
        seed=training.seed,
        report_to=training.report_to,
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_drop_last=True,
        dataloader_pin_memory=torch.cuda.is_available(),
        log_level="error",
    )
    _check_parts(arguments, training)
    if arguments.world_size > 1:
        raise UserError(
            "training on several devices at once is not possible yet; start one process"
        )
    # With several GPUs and one process the Trainer would split rows, which the head's hook forbids.
    compat.use_one_gpu(arguments)
    return arguments


def _check_sampler(recipe: Recipe, network: Network, device: torch.device) -> None:
    """Raise a UserError if the model could not write as its recipe will have it."""
    preset, _ = choose_preset(recipe.sampler, {})
    network = replace(network, block_length=recipe.objective.block_length)
    plan = lay_out(network.codec, [""], length=1, num_samples=1, seed=0, limit=None)
    Writing.of(network, plan.to(device), preset, Steering())


def _check_parts(arguments: TrainingArguments, training: TrainingSection) -> None:
    """Make once what the Trainer makes when it begins, since some of it needs more than a name."""
    network: Any = nn.Linear(1, 1)
    parts: dict[str, Callable[[], Any]] = {
        "report_to": lambda: [callback() for callback in compat.reporters(arguments)],
        "optimizer": lambda: Trainer.get_optimizer_cls_and_kwargs(arguments, network),
    }
    if not training.minutes:
        optimizer = torch.optim.SGD(network.parameters(), lr=training.learning_rate)
        parts["lr_schedule"] = lambda: get_scheduler(
            arguments.lr_scheduler_type,
            optimizer,
            training.warmup_steps,
            1,
            rates.options(training.lr_schedule, 1),
        )
    else:
        parts["lr_schedule"] = lambda: rates.shape(training.lr_schedule, training.learning_rate)
    for key, make in parts.items():
        try:
            make()
        except (ImportError, ValueError, TypeError, RuntimeError) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise UserError(f"training.{key} cannot be used: {reason}; choose another") from error


def _card(run: Run, trainer: DiffusionTrainer, seconds: float, material: Material) -> Card:
    import transformers

    recipe, data = run.recipe, run.recipe.data
    training = {
        "recipe": json.loads(json.dumps(asdict(recipe))),
        "model": _label(run.model or recipe.model.name or recipe.model.type),
        "data": _label(run.data),
        "validation": None if run.validation is None else _label(run.validation),
        **material.facts,
        "steps": trainer.state.global_step,
        "epochs": trainer.state.epoch,
        "seconds": round(seconds, 1),
        "bf16": bool(trainer.args.bf16),
        "device": trainer.args.device.type,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }
    return Card(
        kind=recipe.kind,
        process=recipe.process.name,
        schedule=recipe.schedule.as_card(),
        num_steps=recipe.objective.num_steps,
        time=recipe.model.time,
        attention=recipe.model.attention,
        sampler=dict(recipe.sampler) or {"name": "ancestral"},
        sequence_length=recipe.data.length,
        block_length=recipe.objective.block_length,
        pairs={"before": data.before, "between": data.between} if data.pairs else {},
        records=material.records,
        training=training,
        scores={} if trainer.score is None else {"validation": trainer.score.as_dict()},
    )


def _label(source: str) -> str:
    """Return a source's name without the folders of this machine."""
    return Path(source).name if os.path.exists(source) else source


def _export(
    model: PreTrainedModel, codec: TextCodec, card: Card, counts: Tensor | None, run: Run
) -> None:
    beside = extra_weights.beside(model, counts)
    dtype = getattr(torch, run.recipe.model.save_dtype)
    with checkpoint.staged(run.out) as stage, no_bars():
        extra_weights.plain(model).to(dtype).save_pretrained(stage)
        codec.tokenizer.save_pretrained(stage)
        checkpoint.write_extra(stage, beside)
        card.write(stage)
