"""The last stage of a run: the trained model as a checkpoint with its card."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from unmask.data.pixels import PixelCodec
from unmask.models import checkpoint, extra_weights
from unmask.models.checkpoint import Card
from unmask.models.loading import no_bars
from unmask.training.trainer import DiffusionTrainer

if TYPE_CHECKING:
    from unmask.training.prepare import Prepared


def make_card(prepared: Prepared, trainer: DiffusionTrainer) -> Card:
    """Return the card of a model at the end of its training."""
    import transformers

    recipe, data, material = prepared.recipe, prepared.recipe.data, prepared.material
    codec = prepared.start.codec
    training = {
        "recipe": json.loads(json.dumps(asdict(recipe))),
        **prepared.job.sources,
        **material.facts,
        "steps": trainer.state.global_step,
        "epochs": trainer.state.epoch,
        "seconds": round(trainer.pace.clock.elapsed, 1),
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
        sequence_length=data.length,
        block_length=recipe.objective.block_length,
        pairs={"before": data.before, "between": data.between} if data.pairs else {},
        records=material.records,
        images=codec.as_card() if isinstance(codec, PixelCodec) else {},
        training=training,
        scores={} if trainer.score is None else {"validation": trainer.score.as_dict()},
    )


def save(prepared: Prepared, card: Card) -> None:
    """Save the model of a run in its folder, in place of one that is there."""
    start, job = prepared.start, prepared.job
    extra = extra_weights.extra_state(start.model, prepared.counts)
    dtype = getattr(torch, job.recipe.model.save_dtype)
    with checkpoint.staged(job.out) as stage, no_bars():
        extra_weights.plain(start.model).to(dtype).save_pretrained(stage)
        start.codec.save(stage)
        checkpoint.write_extra(stage, extra)
        card.write(stage)


def label(source: str) -> str:
    """Return the name of a source without the folders of this machine."""
    return Path(source).name if os.path.exists(source) else source
