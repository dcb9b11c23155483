"""The arguments of the Trainer of transformers, from a recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import Trainer, TrainingArguments, get_scheduler

from unmask.errors import UserError, did_you_mean
from unmask.models import compat
from unmask.models.loading import best_device
from unmask.training import rates
from unmask.training.sections import TrainingSection


def training_arguments(
    training: TrainingSection, work: Path, rows: int, bf16: bool
) -> TrainingArguments:
    """Return what the Trainer does.

    Args:
        training: The section of the recipe.
        work: Folder of the checkpoints.
        rows: Rows of the data.
        bf16: Whether to compute in bfloat16.

    Raises:
        UserError: If a name is unknown or what it names cannot be used.
    """
    _check_names(training)
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


def _check_names(training: TrainingSection) -> None:
    """Refuse a learning-rate schedule or an optimiser that transformers does not have."""
    schedules: Iterable[str] = compat.schedule_names()
    if training.minutes:
        if training.lr_schedule in {*schedules} - {*rates.CLOCKED}:
            raise UserError(
                f"training.lr_schedule {training.lr_schedule!r} cannot follow a time budget; "
                f"choose one of {', '.join(rates.CLOCKED)}, or set training.steps in place of "
                "training.minutes"
            )
        schedules = rates.CLOCKED
    for key, name, known in (
        ("lr_schedule", training.lr_schedule, [*schedules]),
        ("optimizer", training.optimizer, ["muon", *compat.optimizer_names()]),
    ):
        if name not in known:
            raise UserError(f"unknown training.{key} {name!r}{did_you_mean(name, known)}")


def _check_parts(arguments: TrainingArguments, training: TrainingSection) -> None:
    """Make once what the Trainer makes when it begins, since some of it needs more than a name."""
    network: Any = nn.Linear(1, 1)
    name, rate = training.lr_schedule, training.learning_rate
    optimizer = torch.optim.SGD(network.parameters(), lr=rate)
    parts: dict[str, Callable[[], Any]] = {
        "report_to": lambda: [callback() for callback in compat.reporters(arguments)],
        "optimizer": lambda: Trainer.get_optimizer_cls_and_kwargs(arguments, network),
        "lr_schedule": lambda: (
            rates.shape(name, rate)
            if training.minutes
            else get_scheduler(name, optimizer, training.warmup_steps, 1, rates.options(name, 1))
        ),
    }
    for key, make in parts.items():
        try:
            make()
        except (ImportError, ValueError, TypeError, RuntimeError) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise UserError(f"training.{key} cannot be used: {reason}; choose another") from error
