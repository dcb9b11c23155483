"""The first stage of a run: its data as rows, the model to start from, and what is minimised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainingArguments, set_seed

from unmask.data.sources import Note
from unmask.diffusion.formulation import Formulation
from unmask.diffusion.registry import make_formulation, noise_schedule
from unmask.evaluation.likelihood import Part, bound_of_rows, score_text
from unmask.evaluation.scores import Score
from unmask.files import settle
from unmask.models import checkpoint, extra_weights, loading
from unmask.models.any_order import make_denoiser
from unmask.models.causal import next_token_nats
from unmask.models.decoder import DecoderDenoiser
from unmask.models.encoder import split_ids
from unmask.models.loading import best_device
from unmask.models.traits import traits_of
from unmask.training import resume
from unmask.training.datasets import Material, Source, Texts, fingerprint
from unmask.training.export import label
from unmask.training.image_dataset import ImageSource
from unmask.training.initialize import StartingPoint, check_modality
from unmask.training.loss import Loss
from unmask.training.pair_dataset import PairTexts
from unmask.training.recipe import Recipe
from unmask.training.record_dataset import RecordTexts
from unmask.validation import place

_COUNTED = 2**22
"""Tokens that are counted at once."""


@dataclass(frozen=True)
class TrainingJob:
    """What to train, on what, and where to put it.

    Attributes:
        recipe: How; without the parts about a fresh model if ``model`` is given.
        data: Source of the training text, see ``data.read_documents``, or pairs, see ``pairs``.
        out: Folder of the finished model; logs and checkpoints go to ``training`` in it.
        model: Directory or hub id to start from; None for the recipe's.
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

    def __post_init__(self) -> None:
        object.__setattr__(self, "out", Path(place("out", self.out)))
        if self.model is not None:
            # The card must not name what was not used.
            object.__setattr__(self, "recipe", self.recipe.without_fresh())

    @property
    def work(self) -> Path:
        """Folder of logs and checkpoints."""
        return self.out / checkpoint.WORK

    @property
    def sources(self) -> dict[str, Any]:
        """Names of model, data and validation data, without the folders of this machine."""
        model = self.recipe.model
        return {
            "model": label(self.model or model.name or model.type),
            "data": label(self.data),
            "validation": None if self.validation is None else label(self.validation),
        }


@dataclass(frozen=True)
class Prepared:
    """A run that can be checked and begun.

    Attributes:
        job: Recipe, data and folder.
        what: Its description; see ``resume.describe``.
        content: Hash of the texts.
        point: The checkpoint to continue from; None for the beginning.
        start: The model to train.
        material: The data as rows.
        counts: How often each id is noised, shape (V,); None if the schedule does not need it.
        denoiser_of: Makes a denoiser, or a block denoiser, of the network.
        formulation: Forward process and bound.
    """

    job: TrainingJob
    what: dict[str, Any]
    content: str
    point: resume.Point | None
    start: StartingPoint
    material: Material
    counts: Tensor | None
    denoiser_of: Callable[[nn.Module], Any]
    formulation: Formulation

    @property
    def recipe(self) -> Recipe:
        """How to train."""
        return self.job.recipe

    @property
    def loss(self) -> Loss:
        """The objective of a batch."""
        return Loss(self.recipe, self.formulation, self.denoiser_of)


def prepare(job: TrainingJob, report: Callable[[str], None]) -> Prepared:
    """Read the data, open the model, and lay the data out in rows.

    Args:
        job: What to do.
        report: Called with a line on data that is left out, and on what the model has to learn.

    Raises:
        UserError: If data, model and recipe do not go together, or there is nothing to resume.
    """
    recipe = job.recipe
    what = resume.describe(recipe, **job.sources)
    point = _point(job, what, report)
    source = _read(job, report)
    content = fingerprint(source.everything)
    if job.resume:
        resume.check_content(job.work, content)
    named = job.model or recipe.model.name
    if point is None and named:
        check_modality(named, source.codec)
    set_seed(recipe.training.seed)
    folder = None if point is None else str(point.folder)
    start = StartingPoint.open(recipe, folder or job.model, source)
    material = source.lay_out(start.codec, recipe, _nearest(job.out))
    job = replace(job, recipe=recipe.with_length(material.length or recipe.data.length))
    for line in (*material.notes, *([] if point else start.notes(recipe))):
        report(line)
    vocab_size = _vocab_size(start, recipe)
    counts = _counts(recipe, material.noised, vocab_size)
    not_data = start.codec.not_data(vocab_size)
    return Prepared(
        job=job,
        what=what,
        content=content,
        point=point,
        start=replace(start, model=loading.place(start.model, best_device())),
        material=material,
        counts=counts,
        denoiser_of=_denoiser_of(recipe, start, not_data),
        formulation=_formulation(recipe, start, vocab_size, not_data, counts),
    )


def _point(
    job: TrainingJob, what: dict[str, Any], report: Callable[[str], None]
) -> resume.Point | None:
    """Return the checkpoint to continue from, None to begin in a folder that is free for it."""
    if not job.resume:
        checkpoint.claim(job.out, job.overwrite)
        return None
    settle(job.out)
    point = resume.last_checkpoint(job.work, what, job.recipe.training)
    if point is None:
        report("the run was stopped before its first checkpoint, so it begins anew")
    return point


def _read(job: TrainingJob, note: Note) -> Source:
    """Read the data as texts, records, pairs or images."""
    data = job.recipe.data
    kinds: dict[str, Any] = {"packed": Texts, "records": RecordTexts, "images": ImageSource}
    kind = PairTexts if data.pairs else kinds[data.rows]
    source: Source = kind.read(job.data, job.validation, job.field, job.recipe, note)
    return source


def _nearest(folder: Path) -> Path:
    """Return a folder, or the first one above it that exists."""
    folder = folder.absolute()
    return next(place for place in (folder, *folder.parents) if place.is_dir())


def _vocab_size(start: StartingPoint, recipe: Recipe) -> int:
    """Return the number of logits of a position."""
    if recipe.kind == "masked":
        return traits_of(start.model).vocab_size
    return int(start.model.get_output_embeddings().out_features)


def _counts(recipe: Recipe, noised: Tensor, vocab_size: int) -> Tensor | None:
    """Return how often each id is noised, (V,), for the schedules that depend on it."""
    if not noise_schedule(recipe.schedule.name).counts:
        return None
    counts = torch.zeros(vocab_size, dtype=torch.int64)
    row = max(noised[:1].numel(), 1)
    for part in noised.split(max(_COUNTED // row, 1)):
        counts += torch.bincount(part.flatten().long(), minlength=vocab_size)
    return counts


def _denoiser_of(
    recipe: Recipe, start: StartingPoint, not_data: list[int]
) -> Callable[[nn.Module], Any]:
    """Return what makes a denoiser, or a block denoiser, of the network in training."""
    if recipe.kind == "block":
        return partial(
            DecoderDenoiser,
            not_data=not_data,
            mask_token_id=start.codec.mask_token_id,
            block_length=recipe.objective.block_length,
        )
    # A causal model predicts no masks.
    mask = start.codec.mask_token_id if recipe.kind == "masked" else 0
    return partial(make_denoiser, not_data=not_data, mask_token_id=mask)


def _formulation(
    recipe: Recipe,
    start: StartingPoint,
    vocab_size: int,
    not_data: list[int],
    counts: Tensor | None,
) -> Formulation:
    """Return the recipe's formulation; for a causal model, without masks, one that is unused."""
    device = best_device()
    data_ids, _ = split_ids(vocab_size, not_data, device)
    first, second = recipe.objective.interval
    # The Trainer moves the network; what the formulation holds is moved here.
    return make_formulation(
        recipe.process.name,
        recipe.schedule.as_card(),
        mask_token_id=0 if recipe.kind == "causal" else start.codec.mask_token_id,
        vocab_size=vocab_size,
        data_ids=data_ids,
        num_steps=recipe.objective.num_steps,
        cross_entropy_weight=recipe.objective.cross_entropy_weight,
        counts=None if counts is None else counts.to(device),
        learned=extra_weights.learned_of(start.model),
        attention=recipe.model.attention,
        block_length=recipe.objective.block_length,
        interval=(first, second),
        ordered=recipe.of_images,
    )


def validator(
    prepared: Prepared, arguments: TrainingArguments
) -> Callable[[nn.Module, int], Score] | None:
    """Return what scores a model on a number of rows of the validation data; None without any."""
    text_of, exact = prepared.material.validation, prepared.recipe.kind == "causal"
    if text_of is None:
        return None

    def validate(model: nn.Module, rows: int) -> Score:
        def exact_nats(part: Part) -> Tensor:
            return next_token_nats(model, part.rows, part.editable)

        bound = bound_of_rows(prepared.denoiser_of(model), prepared.formulation.bound)
        with torch.autocast(arguments.device.type, torch.bfloat16, enabled=arguments.bf16):
            return score_text(
                text_of(rows),
                exact_nats if exact else bound,
                kind="exact" if exact else "bound",
                batch_size=arguments.per_device_train_batch_size,
                seed=prepared.recipe.training.seed,
                device=arguments.device,
            )

    return validate
