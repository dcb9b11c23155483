"""A recipe: everything that decides a training run except the model, the data and the output.

Recipes are TOML files, one per published method, in ``recipes/`` beside this file; a path to a file
of the user's own works as well. With ``extends = "tiny"`` a recipe says only what differs from
another one. Every key is declared here once, with its default; one that is not is an error.
"""

from __future__ import annotations

import dataclasses
import json
import math
import tomllib
import types
import typing
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from unmask.errors import UserError, did_you_mean, is_unicode

ROWS = ("packed", "records")
OBJECTIVES = ("nelbo", "masked-mean", "next-token")
_MOST = 1_000_000_000  # Of anything that is counted; the libraries count in 32 bits.
_FRESH = ("model.config", "tokenizer")
_FRESH_KEYS = tuple(f"{section}." for section in _FRESH)
_BYTES = 260  # Entries of the smallest tokenizer: 256 bytes and four special tokens.


@dataclass(frozen=True)
class ModelSection:
    """The network.

    Attributes:
        name: Directory or hub id of a pretrained model, ``bundled`` for the one in the package;
            empty for a fresh one.
        type: Architecture of a fresh model, as transformers names it, such as ``bert``.
        config: Its configuration, passed to transformers as it is.
        dropout: Sets every dropout of the model; None keeps the configuration's own.
        time: How the network learns t: ``none``, ``prefix``, ``layerwise`` or ``adaln``; see
            ``models.time_conditioning``.
        attention: ``full``, or ``any-order``: a token sees those written before it, in a random
            order, so that generation computes each of them once; see ``models.any_order``.
        from_scratch: Keep the architecture and the tokenizer of ``name``, but not its weights.
        new_head: Accept a pretrained body without a language-model head; a fresh head is trained.
        save_dtype: ``float32`` or, for half the file, ``float16``; it always loads as float32.
    """

    name: str = ""
    type: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    dropout: float | None = None
    time: str = "none"
    attention: str = "full"
    new_head: bool = False
    from_scratch: bool = False
    save_dtype: str = "float32"


@dataclass(frozen=True)
class TokenizerSection:
    """The tokenizer of a fresh model, a byte-level BPE trained on the data.

    Attributes:
        vocab_size: Entries including the special ones.
        keep_whole: Strings that are never split, such as ``<unk>`` in WikiText.
    """

    vocab_size: int = 8192
    keep_whole: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataSection:
    """How documents become rows.

    Attributes:
        length: Tokens in a row, the start symbol included.
        prefix_share: Share of rows that keep a clean prefix, as a prompt would be.
        prefix_min: Shortest prefix in tokens, the start symbol included.
        prefix_max: Longest prefix; 0 for all but the last token.
        random_length_share: Share of batches cut to a random length.
        skip_empty_lines: Drop lines without text.
        validation_share: Share of the tokens (or pairs), at the end, kept for validation if no
            validation data is given.
        rows: ``packed``: texts one behind the other, cut into rows of ``length``; or ``records``:
            each text a row of its own, with its end; see ``data.records``.
        pairs: The data are rows with the texts ``source`` and ``target``: learn to write the second
            for the first; see ``data.pairs``.
        before: Of pairs, text put before the source.
        between: Of pairs, text put between source and target; ``<sep>`` stands for the tokenizer's
            own separator.
    """

    length: int = 256
    prefix_share: float = 0.0
    prefix_min: int = 1
    prefix_max: int = 0
    random_length_share: float = 0.0
    skip_empty_lines: bool = False
    validation_share: float = 0.05
    rows: str = "packed"
    pairs: bool = False
    before: str = ""
    between: str = ""


@dataclass(frozen=True)
class ObjectiveSection:
    """What is minimised.

    Attributes:
        name: ``nelbo`` (the bound), ``masked-mean`` (cross-entropy at a mask rate drawn from
            ``mask_rates``, one a batch) or ``next-token`` (autoregressive).
        num_steps: T of the bound; 0 for continuous time.
        cross_entropy_weight: The lambda of D3PM's hybrid loss, L_t + lambda CE per step.
        mask_rates: Rates of ``masked-mean``.
        eighty_ten_ten: BERT's replacement rule, for ``masked-mean``.
        block_length: Tokens in a block of block diffusion, for ``nelbo`` and a decoder; 0 for none.
        interval: Times that a block's own is drawn from in training. Less than [0, 1] has less
            variance, but the loss that is logged is then no bound; validation always takes all.
    """

    name: str = "nelbo"
    num_steps: int = 0
    cross_entropy_weight: float = 0.0
    mask_rates: tuple[float, ...] = ()
    eighty_ten_ten: bool = False
    block_length: int = 0
    interval: tuple[float, ...] = (0.0, 1.0)


@dataclass(frozen=True)
class ProcessSection:
    """The forward process: ``absorbing`` (a token turns into a mask) or ``uniform`` (into any)."""

    name: str = "absorbing"


@dataclass(frozen=True)
class ScheduleSection:
    """The noise schedule; see ``diffusion.schedules`` and ``diffusion.registry``.

    Attributes:
        name: ``linear``, ``polynomial``, ``cosine``, ``geometric``, ``log-linear``; of the T-step
            bound also ``d3pm-cosine`` and ``mutual-information``; by token ``spindle`` (from the
            counts of the data) and ``learned``.
        parameters: Its parameters, such as ``exponent``.
        learning_rate: Of a learned schedule; 0 for the network's own.
    """

    name: str = "linear"
    parameters: dict[str, float] = field(default_factory=dict)
    learning_rate: float = 0.0

    def as_card(self) -> dict[str, Any]:
        """Return name and parameters as a checkpoint's card has them."""
        return {"name": self.name, **self.parameters}


@dataclass(frozen=True)
class TrainingSection:
    """Optimisation, all of it done by the Trainer of transformers.

    Attributes:
        steps: Optimiser steps; 0 means ``epochs`` decides.
        minutes: Stop after this many minutes; 0 means never. Warm-up and decay of the learning rate
            follow the clock, and so do validation and saving: see ``pace``.
        epochs: Passes over the data, used when ``steps`` is 0.
        batch_size: Rows in a step; all rows if the data has fewer.
        gradient_accumulation: Batches that one step adds up.
        learning_rate: The highest learning rate.
        schedule: Learning-rate schedule, as transformers names it; under a time budget one of
            ``rates.CLOCKED``. ``warmup_stable_decay`` falls over the last ``rates.DECAY``.
        warmup_steps: Steps of linear warm-up, where they are no more than ``warmup_share``.
        warmup_share: Largest share of the run (steps, or time under a budget) that warm-up takes.
        weight_decay: Decoupled weight decay.
        beta2: Second moment decay of Adam.
        max_grad_norm: Gradient clipping; 0 for none.
        optimizer: ``muon``, or a name that transformers knows.
        ema: Decay of an exponential moving average of the weights, which is validated and saved in
            their place; 0 for none. It is lower at first; see ``average``.
        bf16: ``auto`` where the hardware computes in bfloat16 natively, ``on`` or ``off``.
        log_every: Steps between two log lines.
        evaluate_every: Steps between two validation bounds; 0 evaluates at the end only.
        evaluation_rows: Rows of the validation data in each evaluation.
        save_every: Steps between two checkpoints; 0 saves at the end only.
        report_to: Where else to log, as transformers names it: ``tensorboard``, ``wandb``, ...
        seed: Seeds weights, data order and masks.
    """

    steps: int = 0
    minutes: float = 0.0
    epochs: float = 1.0
    batch_size: int = 16
    gradient_accumulation: int = 1
    learning_rate: float = 5e-5
    schedule: str = "linear"
    warmup_steps: int = 0
    warmup_share: float = 0.1
    weight_decay: float = 0.0
    beta2: float = 0.999
    max_grad_norm: float = 1.0
    optimizer: str = "adamw_torch_fused"
    ema: float = 0.0
    bf16: str = "auto"
    log_every: int = 10
    evaluate_every: int = 0
    evaluation_rows: int = 128
    save_every: int = 0
    report_to: str = "none"
    seed: int = 0


@dataclass(frozen=True)
class Recipe:
    """One training method. ``sampler`` goes to the checkpoint as its default way to write."""

    name: str = "custom"
    summary: str = ""
    model: ModelSection = field(default_factory=ModelSection)
    tokenizer: TokenizerSection = field(default_factory=TokenizerSection)
    data: DataSection = field(default_factory=DataSection)
    objective: ObjectiveSection = field(default_factory=ObjectiveSection)
    process: ProcessSection = field(default_factory=ProcessSection)
    schedule: ScheduleSection = field(default_factory=ScheduleSection)
    training: TrainingSection = field(default_factory=TrainingSection)
    sampler: dict[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """``causal`` for the autoregressive baseline, ``block`` for blocks, else ``masked``."""
        if self.objective.block_length:
            return "block"
        return "causal" if self.objective.name == "next-token" else "masked"

    def check(self) -> Recipe:
        """Return self, or raise a UserError that names the first value that cannot be."""
        data, objective, training = self.data, self.objective, self.training
        if objective.name not in OBJECTIVES:
            raise UserError(
                f"unknown objective {objective.name!r}{did_you_mean(objective.name, OBJECTIVES)}"
            )
        rates = objective.mask_rates
        if (objective.name == "masked-mean") != bool(rates) or not all(0 < r <= 1 for r in rates):
            raise UserError(
                "objective.mask_rates goes with objective.name = 'masked-mean': numbers above 0 "
                "and at most 1"
            )
        if objective.name != "nelbo" and (objective.num_steps or objective.cross_entropy_weight):
            raise UserError("objective.num_steps and cross_entropy_weight go with the bound, nelbo")
        if not 0 <= objective.cross_entropy_weight < math.inf:
            raise UserError("objective.cross_entropy_weight must be a number from 0 up")
        if objective.eighty_ten_ten and objective.name != "masked-mean":
            raise UserError("objective.eighty_ten_ten goes with objective.name = 'masked-mean'")
        if data.length < 2:
            raise UserError(f"data.length must be at least 2, not {data.length}")
        if not 1 <= data.prefix_min <= (data.prefix_max or data.length - 1) < data.length:
            raise UserError("data.prefix_min and prefix_max must lie between 1 and length - 1")
        for name in ("prefix_share", "random_length_share", "validation_share"):
            if not 0 <= getattr(data, name) <= 1:
                raise UserError(f"data.{name} must be from 0 to 1, not {getattr(data, name)}")
        self._check_model()
        self._check_blocks()
        self._check_pairs()
        self._check_rows()
        self._check_parts()
        if self.model.save_dtype not in ("float32", "float16"):
            raise UserError(
                f"model.save_dtype must be float32 or float16, not {self.model.save_dtype!r}"
            )
        if training.bf16 not in ("auto", "on", "off"):
            raise UserError(f"training.bf16 must be auto, on or off, not {training.bf16!r}")
        for name in ("batch_size", "gradient_accumulation", "log_every", "evaluation_rows"):
            if not 1 <= getattr(training, name) <= _MOST:
                raise UserError(f"training.{name} must be from 1 to {_MOST:,}")
        for name in ("steps", "minutes", "epochs", "warmup_steps", "evaluate_every", "save_every"):
            if not 0 <= getattr(training, name) <= _MOST:
                raise UserError(f"training.{name} must be a number from 0 to {_MOST:,}")
        if not training.steps and not training.minutes and not training.epochs:
            raise UserError("one of training.steps, minutes and epochs must be above 0")
        if not 0 < training.learning_rate < math.inf:
            raise UserError("training.learning_rate must be a number above 0")
        if not (0 <= training.weight_decay < math.inf and 0 <= training.max_grad_norm < math.inf):
            raise UserError("training.weight_decay and max_grad_norm must be numbers from 0 up")
        for name in ("beta2", "ema"):
            if not 0 <= getattr(training, name) < 1:
                raise UserError(
                    f"training.{name} must be from 0 to below 1, not {getattr(training, name)}"
                )
        if not 0 <= training.warmup_share <= 1:
            raise UserError(
                f"training.warmup_share must be from 0 to 1, not {training.warmup_share}"
            )
        if not 0 <= training.seed < 2**32:
            raise UserError(f"training.seed must be from 0 to 2^32 - 1, not {training.seed}")
        return self

    def without_fresh(self) -> Recipe:
        """Return the recipe for a model that is there: without what describes a fresh one."""
        model = dataclasses.replace(self.model, name="", type="", config={})
        return dataclasses.replace(self, model=model, tokenizer=TokenizerSection())

    def _check_model(self) -> None:
        """Refuse what would have no effect on the network, or make it fail later."""
        model, dropout = self.model, self.model.dropout
        if model.from_scratch and model.new_head:
            raise UserError("model.from_scratch makes a new head as well; leave model.new_head out")
        if dropout is not None and not 0 <= dropout < 1:
            raise UserError(f"model.dropout must be from 0 to below 1, not {dropout}")
        if not model.type and (model.config or self.tokenizer != TokenizerSection()):
            raise UserError(
                "model.config and the [tokenizer] describe a fresh model; set model.type as well, "
                "or leave them out"
            )
        if not _BYTES <= self.tokenizer.vocab_size <= _MOST:
            raise UserError(
                f"tokenizer.vocab_size must be at least {_BYTES}, for bytes and special tokens, "
                f"and at most {_MOST:,}, not {self.tokenizer.vocab_size}"
            )

    def _check_blocks(self) -> None:
        """Refuse blocks that do not fill a row, and what does not go with blocks."""
        objective, length = self.objective, self.data.length
        size, interval = objective.block_length, objective.interval
        if size < 0:
            raise UserError(f"objective.block_length must be at least 1, or 0 for none: {size}")
        if len(interval) != 2 or not 0 <= interval[0] <= interval[1] <= 1 or not interval[1]:
            raise UserError("objective.interval is two times, 0 <= first <= second <= 1")
        if not size:
            if interval != (0.0, 1.0):
                raise UserError("objective.interval goes with objective.block_length")
            return
        if objective.name != "nelbo":
            raise UserError("objective.block_length goes with objective.name = 'nelbo'")
        if length % size:
            fits = [n for n in range(1, length + 1) if length % n == 0]
            near = min(fits, key=lambda n: abs(n - size))
            raise UserError(
                f"rows of {length} tokens (data.length) are no whole number of blocks of {size} "
                f"(objective.block_length); blocks of {near} would fit, or rows of "
                f"{max(round(length / size), 1) * size}"
            )
        if self.model.time != "none":
            raise UserError("blocks are for decoders, which are not told the time: model.time")

    def _check_pairs(self) -> None:
        """Refuse what would have no effect on pairs, or only has one on them."""
        data = self.data
        if not data.pairs:
            if data.before or data.between:
                raise UserError("data.before and data.between go with data.pairs = true")
            return
        none = {"prefix_share": "0", "random_length_share": "0", "skip_empty_lines": "false"}
        for name, value in none.items():
            if getattr(data, name):
                raise UserError(f"data.{name} is for texts; for pairs set data.{name}={value}")
        if self.kind != "masked":
            raise UserError("data.pairs is for masked models, not for 'next-token' or blocks")

    def _check_rows(self) -> None:
        """Refuse what would have no effect on records, or would cut them."""
        data = self.data
        if data.rows not in ROWS:
            raise UserError(f"unknown data.rows {data.rows!r}{did_you_mean(data.rows, ROWS)}")
        if data.rows == "packed":
            return
        if data.pairs:
            raise UserError("data.pairs are rows of their own; leave data.rows out")
        none = {"random_length_share": "0", "skip_empty_lines": "false"}
        for name, value in none.items():
            if getattr(data, name):
                raise UserError(f"data.{name} is for packed rows; set data.{name}={value}")
        if self.kind != "masked":
            raise UserError("data.rows = 'records' is for masked models")

    def _check_parts(self) -> None:
        """Build what only the finished model would use, so that a mistake shows before training."""
        # Here, so that the recipes can be listed without loading torch.
        from unmask.diffusion.registry import check_names
        from unmask.models.time_conditioning import DESIGNS
        from unmask.sampling.samplers.registry import make_sampler

        check_names(
            self.process.name,
            self.schedule.as_card(),
            self.objective.num_steps,
            self.objective.cross_entropy_weight,
            self.model.attention,
            self.objective.block_length,
        )
        if self.model.attention != "full" and (
            self.objective.name != "nelbo" or self.model.time != "none"
        ):
            raise UserError(
                "model.attention = 'any-order' goes with objective.name = 'nelbo' and "
                "model.time = 'none'"
            )
        if self.schedule.learning_rate and self.schedule.name != "learned":
            raise UserError("schedule.learning_rate goes with schedule.name = 'learned'")
        if self.schedule.learning_rate < 0:
            raise UserError("schedule.learning_rate must be above 0, or 0 for the network's own")
        if self.model.time not in DESIGNS:
            raise UserError(
                f"unknown model.time {self.model.time!r}{did_you_mean(self.model.time, DESIGNS)}"
            )
        sampler = dict(self.sampler)
        if self.kind == "causal" or not sampler:
            return
        make_sampler(sampler.pop("name", "ancestral"), **sampler)


def names() -> list[str]:
    """Return the names of the recipes that come with the package."""
    folder = resources.files("unmask.training") / "recipes"
    return sorted(
        p.name.removesuffix(".toml") for p in folder.iterdir() if p.name.endswith(".toml")
    )


def summary(name: str) -> str:
    """Return what the recipe of that name says of itself, without checking the rest of it."""
    return str(_parse(name).get("summary", ""))


def load(name: str, settings: typing.Sequence[str] = ()) -> Recipe:
    """Load a recipe by name or path and apply ``section.key=value`` settings.

    Raises:
        UserError: If there is no such recipe, a key is unknown or a value has the wrong type.
    """
    if isinstance(settings, str):
        raise UserError(f"settings are a list of section.key=value, not {settings!r}")
    content = _read(name)
    content["name"] = content.get("name", Path(name).stem)
    for setting in settings:
        _apply(content, setting)
    return _build(Recipe, content, "").check()


def check_settings(settings: typing.Sequence[str], model: str | None) -> None:
    """Refuse settings that describe a model to start from, where another one is named.

    Raises:
        UserError: If a model is named and a setting is of its name, its shape or its tokenizer.
    """
    for setting in settings if model is not None else ():
        key = setting.partition("=")[0].strip()
        if key in ("model.name", "model.type", *_FRESH) or key.startswith(_FRESH_KEYS):
            raise UserError(
                f"{key} would have no effect on {model}, which has its own; leave out "
                f"--set {key}, or --model"
            )


def _read(name: str, heirs: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the content of a recipe on top of those that it extends."""
    if name in heirs:
        raise UserError(f"recipe {name} extends itself")
    content = _parse(name)
    base = content.pop("extends", None)
    if base is None:
        return content
    if not isinstance(base, str):
        raise UserError(f"'extends' must be the name of a recipe, not {base!r}")
    inherited = _read(base, (*heirs, name))
    for key in ("name", "summary", "sampler"):
        # What a recipe is called and how its model writes is its own.
        inherited.pop(key, None)
    schedule = content.get("schedule")
    if isinstance(schedule, dict) and "name" in schedule:
        # The parameters of one schedule mean nothing to another.
        inherited.pop("schedule", None)
    return _merged(inherited, content)


def _merged(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    both = {
        key: _merged(base[key], value)
        for key, value in top.items()
        if isinstance(value, dict) and isinstance(base.get(key), dict)
    }
    return base | top | both


def _parse(name: str) -> dict[str, Any]:
    path = Path(name)
    if path.suffix == ".toml":
        if not path.is_file():
            raise UserError(f"there is no recipe file {name}")
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read the recipe {name}: {error}") from error
    elif name in names():
        text = (resources.files("unmask.training") / "recipes" / f"{name}.toml").read_text("utf-8")
    else:
        raise UserError(f"unknown recipe {name!r}{did_you_mean(name, names())}")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"recipe {name} is not valid TOML: {error}") from error


def _apply(content: dict[str, Any], setting: str) -> None:
    key, equals, text = setting.partition("=")
    if not equals:
        raise UserError(f"a setting reads section.key=value, not {setting!r}")
    if "\n" in setting or not is_unicode(setting):
        raise UserError(f"a setting is one line of text, not {setting!r}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *sections, last = key.strip().split(".")
    for section in sections:
        content = content.setdefault(section, {})
        if not isinstance(content, dict):
            raise UserError(f"{setting!r}: {section} is not a section")
    content[last] = value


def _build(cls: type, content: dict[str, Any], where: str) -> Any:
    hints = typing.get_type_hints(cls)
    fields = {f.name for f in dataclasses.fields(cls)}
    for key in content:
        if key not in fields:
            raise UserError(f"unknown key {where + key!r} in the recipe{did_you_mean(key, fields)}")
    return cls(**{k: _convert(v, hints[k], where + k) for k, v in content.items()})


def _convert(value: Any, hint: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise UserError(f"{where!r} is a section of the recipe, not a value")
        return _build(typing.cast(type, hint), value, where + ".")
    if isinstance(hint, types.UnionType):
        hint = next(h for h in typing.get_args(hint) if h is not type(None))
    origin = typing.get_origin(hint) or hint
    if origin is tuple and isinstance(value, list):
        return tuple(_convert(v, typing.get_args(hint)[0], where) for v in value)
    if origin is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, origin) or (isinstance(value, bool) and origin is not bool):
        raise UserError(f"{where!r} must be of type {origin.__name__}, not {str(value)!r}")
    if origin is dict:
        kind = typing.get_args(hint)[1]
        return {key: _free(v, kind, f"{where}.{key}") for key, v in value.items()}
    return value


def _free(value: Any, hint: Any, where: str) -> Any:
    """Return a value whose key is not known here: of its type, or of any that JSON has."""
    if hint is not Any:
        return _convert(value, hint, where)
    try:
        json.dumps(value)
    except (TypeError, ValueError) as error:
        kind = type(value).__name__
        raise UserError(f"{where!r} cannot be a {kind} ({str(value)!r})") from error
    return value
