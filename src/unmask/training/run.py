"""One training run from a recipe, a model, data and an output folder, to a finished checkpoint."""

from __future__ import annotations

import json
import math
import platform
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    PreTrainedModel,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from unmask import checkpoint
from unmask.adapters import loading
from unmask.adapters.causal import next_token_nats
from unmask.adapters.encoder import EncoderDenoiser, not_data_ids, position_limit
from unmask.checkpoint import Card
from unmask.codec.text import TextCodec
from unmask.errors import UserError
from unmask.evaluation.bounds import Score, Text, bound_of_rows, score_text
from unmask.process import AbsorbingProcess
from unmask.schedule import make_schedule
from unmask.training.data import Batcher, Blocks, read_documents, tokenize
from unmask.training.recipe import Recipe
from unmask.training.tokenizer import train_tokenizer
from unmask.training.trainer import DiffusionTrainer, checkpoints

FOLDER = "training"


@dataclass(frozen=True)
class Run:
    """What to train, on what, and where to put it.

    Attributes:
        recipe: How.
        data: Source of the training text; see ``data.read_documents``.
        out: Folder of the finished model; logs and checkpoints go to ``training`` in it.
        model: Directory or hub id to start from; None takes the recipe's.
        validation: Source of the validation text; None holds out the end of the data.
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


def train(run: Run, callbacks: Sequence[TrainerCallback] = ()) -> Result:
    """Train and save; Ctrl-C saves a checkpoint that ``resume`` continues from.

    Raises:
        UserError: For anything that the caller can put right.
    """
    recipe = run.recipe.check()
    work = run.out / FOLDER
    last = _prepare_folder(run, work)
    documents = read_documents(run.data, run.field)
    set_seed(recipe.training.seed)
    model, codec = _open(run, documents)
    _check_length(model, recipe.data.length)
    stream = tokenize(documents, codec, recipe.data.skip_empty_lines)
    stream, held_out = _hold_out(run, codec, stream)
    length, start = recipe.data.length, codec.start
    process = AbsorbingProcess(_schedule(recipe), 0 if recipe.kind == "causal" else codec.mask_token_id)
    not_data = not_data_ids(codec.tokenizer)
    arguments = _arguments(recipe, work)
    trainer = DiffusionTrainer(
        recipe=recipe,
        process=process,
        batcher=_batcher(recipe, len(start)),
        not_data=not_data,
        validate=_validator(recipe, codec, process, not_data, held_out, arguments),
        model=model,
        args=arguments,
        train_dataset=Blocks(stream, start, length),
        callbacks=[*callbacks],
    )
    begun = time.monotonic()
    with _stop_on_interrupt(trainer) as interrupted:
        trainer.train(resume_from_checkpoint=None if last is None else str(last))
    if interrupted():
        return Result(run.out, None, finished=False)
    score = None
    if held_out is not None:
        trainer.evaluate()
        score = trainer.validate(model) if trainer.validate else None
    card = _card(run, trainer, time.monotonic() - begun, len(stream), score)
    _export(model, codec, card, run.out)
    return Result(run.out, score, finished=True)


def _prepare_folder(run: Run, work: Path) -> Path | None:
    """Return the checkpoint to resume from, or claim the folder for a new run."""
    if not run.resume:
        checkpoint.claim(run.out, run.overwrite)
        shutil.rmtree(work, ignore_errors=True)
        return None
    found = checkpoints(work)
    if not found:
        raise UserError(f"there is no checkpoint in {work} to resume from; leave out --resume")
    return found[-1]


def _open(run: Run, documents: Sequence[str]) -> tuple[PreTrainedModel, TextCodec]:
    recipe = run.recipe
    name = run.model or recipe.model.name
    if name and recipe.model.type and run.model is None:
        raise UserError("a recipe has either model.name or model.type, not both")
    if name:
        tokenizer = loading.load_tokenizer(name)
        model = loading.load_model(name, recipe.kind)
    elif recipe.model.type:
        whole = recipe.tokenizer.keep_whole
        tokenizer = train_tokenizer(documents, recipe.tokenizer.vocab_size, whole)
        model = _fresh(recipe, tokenizer)
    else:
        raise UserError("name a model to start from with --model")
    if recipe.kind == "masked" and tokenizer.mask_token_id is None:
        raise UserError(f"the tokenizer of {name} has no mask token, which diffusion needs")
    codec = TextCodec(tokenizer)
    if recipe.kind == "causal" and not codec.start:
        raise UserError(f"the tokenizer of {name} has no start symbol to predict the first token from")
    if recipe.model.dropout is not None:
        _set_dropout(model, recipe.model.dropout)
    return model, codec


def _fresh(recipe: Recipe, tokenizer: Any) -> PreTrainedModel:
    start, end, pad = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    # Also under the names of BERT's family, or the configuration keeps ids of another vocabulary.
    special = {"bos": start, "cls": start, "eos": end, "sep": end, "pad": pad}
    known = {f"{kind}_token_id": value for kind, value in special.items()}
    try:
        config = AutoConfig.for_model(
            recipe.model.type, **known, vocab_size=len(tokenizer), **recipe.model.config
        )
        auto = AutoModelForCausalLM if recipe.kind == "causal" else AutoModelForMaskedLM
        return auto.from_config(config)
    except (ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"cannot make a {recipe.model.type} model: {reason}") from error


def _set_dropout(model: nn.Module, rate: float) -> None:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = rate
        for name, value in vars(module).items():
            # Attention modules keep their rate as a number that they pass to the fused kernel.
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, rate)


def _check_length(model: PreTrainedModel, length: int) -> None:
    limit = position_limit(model)
    if limit is not None and length > limit:
        raise UserError(
            f"data.length is {length}, but the model has only {limit} positions; "
            f"pass --set data.length={limit}"
        )


def _hold_out(
    run: Run, codec: TextCodec, stream: torch.Tensor
) -> tuple[torch.Tensor, Text | None]:
    """Split the validation text off: a source of its own, or the end of the token stream."""
    length, rows = run.recipe.data.length, run.recipe.training.evaluation_rows
    body = length - len(codec.start)
    if run.validation is not None:
        text = "".join(read_documents(run.validation, run.field))
    else:
        count = min(int(len(stream) * run.recipe.data.validation_share), rows * body)
        if count == 0:
            return stream, None
        text = codec.decode(stream[-count:].tolist())
        stream = stream[:-count]
    whole = Text.from_string(text, codec, length)
    if len(whole.rows) <= rows:
        return stream, whole
    # The first rows only, and the characters and words of just these.
    ids = whole.rows[:rows][whole.editable[:rows]].tolist()
    return stream, Text.from_string(codec.decode(ids), codec, length)


def _schedule(recipe: Recipe) -> Any:
    return make_schedule(recipe.schedule.name, **recipe.schedule.parameters)


def _batcher(recipe: Recipe, start: int) -> Batcher:
    data = recipe.data
    return Batcher(
        data.prefix_share, data.prefix_min, data.prefix_max, data.random_length_share, start
    )


def _validator(
    recipe: Recipe,
    codec: TextCodec,
    process: AbsorbingProcess,
    not_data: list[int],
    text: Text | None,
    arguments: TrainingArguments,
) -> Callable[[nn.Module], Score] | None:
    if text is None:
        return None
    exact = recipe.kind == "causal"

    def validate(model: nn.Module) -> Score:
        def exact_nats(rows: Any, editable: Any, _valid: Any, _generator: Any) -> torch.Tensor:
            return next_token_nats(model, rows, editable)

        bound = bound_of_rows(EncoderDenoiser(model, not_data), process, draws=1) if not exact else None
        with torch.autocast(arguments.device.type, torch.bfloat16, enabled=arguments.bf16):
            return score_text(
                text,
                bound or exact_nats,
                exact=exact,
                batch_size=arguments.per_device_train_batch_size,
                seed=recipe.training.seed,
                device=arguments.device,
            )

    return validate


def _arguments(recipe: Recipe, work: Path) -> TrainingArguments:
    training = recipe.training
    timed = bool(training.minutes) and not training.steps
    return TrainingArguments(
        output_dir=str(work),
        max_steps=1_000_000 if timed else (training.steps or -1),
        num_train_epochs=training.epochs,
        per_device_train_batch_size=training.batch_size,
        gradient_accumulation_steps=training.gradient_accumulation,
        learning_rate=training.learning_rate,
        lr_scheduler_type=training.schedule,
        warmup_steps=training.warmup_steps,
        weight_decay=training.weight_decay,
        adam_beta2=training.beta2,
        max_grad_norm=training.max_grad_norm,
        optim="adamw_torch_fused" if training.optimizer == "muon" else training.optimizer,
        bf16=_use_bf16(training.bf16),
        use_cpu=not torch.accelerator.is_available(),
        logging_steps=training.log_every,
        logging_nan_inf_filter=False,
        save_strategy="steps" if training.save_every else "no",
        save_steps=training.save_every or 500,
        save_total_limit=2,
        seed=training.seed,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_drop_last=True,
        dataloader_pin_memory=torch.cuda.is_available(),
        log_level="error",
    )


def _use_bf16(wish: str) -> bool:
    if wish != "auto":
        return wish == "on"
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


class _Pace(TrainerCallback):
    """Says when to validate, and when to end: when asked to, or when the time is up."""

    def __init__(self, minutes: float, evaluate_every: int) -> None:
        self.asked = False
        self._every = evaluate_every
        self._deadline = time.monotonic() + 60 * minutes if minutes else math.inf

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        control.should_evaluate = bool(self._every) and state.global_step % self._every == 0
        if self.asked:
            control.should_save = True
            control.should_training_stop = True
        elif time.monotonic() > self._deadline:
            control.should_training_stop = True
        return control


@contextmanager
def _stop_on_interrupt(trainer: DiffusionTrainer) -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a checkpoint and an orderly end; a second one interrupts."""
    training = trainer.recipe.training
    pace = _Pace(training.minutes, training.evaluate_every)
    trainer.add_callback(pace)

    def ask(_number: int, _frame: Any) -> None:
        if pace.asked:
            raise KeyboardInterrupt
        pace.asked = True

    try:
        before = signal.signal(signal.SIGINT, ask)
    except ValueError:
        # Not the main thread: signals go elsewhere, training itself is unaffected.
        yield lambda: False
        return
    try:
        yield lambda: pace.asked
    finally:
        signal.signal(signal.SIGINT, before)


def _card(
    run: Run, trainer: DiffusionTrainer, seconds: float, tokens: int, score: Score | None
) -> Card:
    import transformers

    recipe = run.recipe
    parameters = dict(recipe.schedule.parameters)
    training = {
        "recipe": json.loads(json.dumps(asdict(recipe))),
        "model": run.model or recipe.model.name or recipe.model.type,
        "data": run.data,
        "validation": run.validation,
        "data_tokens": tokens,
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
        schedule={"name": recipe.schedule.name, **parameters},
        sampler=dict(recipe.sampler) or {"name": "ancestral"},
        length=recipe.data.length,
        training=training,
        scores={} if score is None else {"validation": score.as_dict()},
    )


def _export(model: PreTrainedModel, codec: TextCodec, card: Card, out: Path) -> None:
    with checkpoint.staged(out) as stage:
        model.save_pretrained(stage)
        codec.tokenizer.save_pretrained(stage)
        card.write(stage)


def with_settings(recipe: Recipe, **training: Any) -> Recipe:
    """Return a recipe with some values of its training section replaced."""
    return replace(recipe, training=replace(recipe.training, **training))
