"""The sections of a recipe: every key with its type, range, default and help text."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar

from unmask.errors import UserError
from unmask.validation import Option, Options, Reader, flag, option, real, whole, word

OBJECTIVES = ("nelbo", "masked-mean", "next-token")
ROWS = ("packed", "records", "images")
_MOST = 1_000_000_000  # Of anything that is counted; the libraries count in 32 bits.
_BYTES = 260  # Entries of the smallest tokenizer: 256 bytes and four special tokens.


def _tuple_of(read: Reader) -> Reader:
    """Return a reader of lists, each item of which ``read`` reads."""

    def read_all(name: str, value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise UserError(f"{name} must be a list, not {value!r}")
        return tuple(read(name, item) for item in value)

    return read_all


def table(name: str, value: Any) -> dict[str, Any]:
    """Return a table of anything that JSON can hold."""
    try:
        return dict(json.loads(json.dumps(dict(value))))
    except (TypeError, ValueError) as error:
        raise UserError(f"{name} must be a table of JSON values ({error})") from error


def _numbers(name: str, value: Any) -> dict[str, float]:
    """Return a table of numbers."""
    return {key: real(f"{name}.{key}", number) for key, number in table(name, value).items()}


def _design(name: str, value: Any) -> str:
    """Return the name of a design of time conditioning."""
    # Here, so that a recipe can be read without loading torch.
    from unmask.models.time_conditioning import DESIGNS

    return str(Option("", word, choices=tuple(DESIGNS))(name, value))


@dataclass(frozen=True)
class ModelSection(Options):
    """The network."""

    section: ClassVar[str] = "model."

    name: str = option(
        "",
        "Directory or hub id of a pretrained model, 'bundled' for the one in the package; empty "
        "for a fresh one.",
        word,
    )
    type: str = option(
        "", "Architecture of a fresh model, as transformers names it, such as 'bert'.", word
    )
    config: dict[str, Any] = option(
        dict, "Configuration of a fresh model, passed to transformers as it is.", table
    )
    dropout: float | None = option(
        None,
        "Sets every dropout of the model; if left out, the configuration's own.",
        real,
        low=0,
        high=1,
        below=True,
    )
    time: str = option(
        "none",
        "Conditions the network on t: 'none', 'prefix', 'layerwise' or 'adaln'; see "
        "models.time_conditioning.",
        _design,
    )
    attention: str = option(
        "full",
        "'full', or 'any-order': a token attends to those before it in a random order, so that "
        "generation computes each of them once; see models.any_order.",
        word,
    )
    new_head: bool = option(
        False,
        "Accepts a pretrained body without a language-model head; a fresh head is trained.",
        flag,
    )
    from_scratch: bool = option(
        False, "Keeps the architecture and the tokenizer of 'name', but not its weights.", flag
    )
    save_dtype: str = option(
        "float32",
        "'float32' or, for half the file, 'float16'; the model always loads as float32.",
        word,
        choices=("float32", "float16"),
    )


@dataclass(frozen=True)
class TokenizerSection(Options):
    """The tokenizer of a fresh model, a byte-level BPE trained on the data."""

    section: ClassVar[str] = "tokenizer."

    vocab_size: int = option(
        8192,
        "Entries, the 256 bytes and the special tokens included.",
        whole,
        low=_BYTES,
        high=_MOST,
        unit="with the bytes and special tokens",
    )
    keep_whole: tuple[str, ...] = option(
        (), "Strings that are never split, such as '<unk>' in WikiText.", _tuple_of(word)
    )


@dataclass(frozen=True)
class DataSection(Options):
    """How documents become rows."""

    section: ClassVar[str] = "data."

    length: int = option(
        256, "Tokens in a row, the start symbol included.", whole, low=2, high=_MOST
    )
    prefix_share: float = option(
        0.0, "Share of rows that keep a clean prefix, as a prompt would be.", real, low=0, high=1
    )
    prefix_min: int = option(
        1, "Shortest prefix in tokens, the start symbol included.", whole, low=1, high=_MOST
    )
    prefix_max: int = option(
        0, "Longest prefix in tokens; 0 for all but the last token.", whole, low=0, high=_MOST
    )
    random_length_share: float = option(
        0.0, "Share of batches that are cut to a random length.", real, low=0, high=1
    )
    skip_empty_lines: bool = option(False, "Drops lines without text.", flag)
    validation_share: float = option(
        0.05,
        "Share of the text, records or pairs, at the end, that is kept for validation if there is "
        "no validation data.",
        real,
        low=0,
        high=1,
    )
    rows: str = option(
        "packed",
        "'packed': texts one after the other, cut into rows of 'length'; 'records': each text is a "
        "row, with its end, see data.records; 'images': each image is a row, see data.pixels.",
        word,
        choices=ROWS,
    )
    pairs: bool = option(
        False,
        "The data are rows with the texts 'source' and 'target': learns to generate the second "
        "from the first; see data.pairs.",
        flag,
    )
    before: str = option("", "Text before the source of a pair.", word)
    between: str = option(
        "",
        "Text between source and target of a pair; '<sep>' stands for the tokenizer's separator.",
        word,
    )


@dataclass(frozen=True)
class ImagesSection(Options):
    """Images, for ``data.rows = 'images'``."""

    section: ClassVar[str] = "images."

    levels: int = option(256, "Values of a sub-pixel; fewer quantise.", whole, low=2, high=256)
    resize: int = option(
        0, "Crops to the middle square and resizes to this side; 0 for no change.", whole, low=0
    )
    channels: int = option(
        0, "1 for grey, 3 for RGB; 0 for those of the data.", whole, low=0, high=3
    )
    classes: bool = option(False, "Conditions the network on the class of an image.", flag)
    label_dropout: float = option(
        0.1, "Share of images that are trained on without their class.", real, low=0, high=1
    )
    flip: bool = option(False, "Mirrors every other image left to right.", flag)


@dataclass(frozen=True)
class ObjectiveSection(Options):
    """What is minimised."""

    section: ClassVar[str] = "objective."

    name: str = option(
        "nelbo",
        "'nelbo' (the bound), 'masked-mean' (cross-entropy at a mask rate drawn from 'mask_rates', "
        "one a batch) or 'next-token' (autoregressive).",
        word,
        choices=OBJECTIVES,
    )
    num_steps: int = option(0, "T of the bound; 0 for continuous time.", whole, low=0, high=_MOST)
    cross_entropy_weight: float = option(
        0.0, "lambda of D3PM's hybrid loss, L_t + lambda CE per step.", real, low=0
    )
    mask_rates: tuple[float, ...] = option(
        (),
        "Mask rates of 'masked-mean', above 0 and at most 1.",
        _tuple_of(Option("", real, low=0, high=1, above=True)),
    )
    eighty_ten_ten: bool = option(False, "BERT's replacement rule, for 'masked-mean'.", flag)
    block_length: int = option(
        0,
        "Tokens in a block of block diffusion, for 'nelbo' and a decoder; 0 for none.",
        whole,
        low=0,
        high=_MOST,
    )
    interval: tuple[float, ...] = option(
        (0.0, 1.0),
        "Two times between which the time of a block is drawn in training. Less than [0, 1] has "
        "less variance, but the logged loss is then no bound; validation always uses all times.",
        _tuple_of(Option("", real, low=0, high=1)),
    )


@dataclass(frozen=True)
class ProcessSection(Options):
    """The forward process."""

    section: ClassVar[str] = "process."

    name: str = option(
        "absorbing",
        "'absorbing' (a token turns into a mask), 'uniform' (into any token) or, for images, "
        "'gaussian' (into a value nearby first).",
        word,
    )


@dataclass(frozen=True)
class ScheduleSection(Options):
    """The noise schedule; see ``diffusion.schedules`` and ``diffusion.registry``."""

    section: ClassVar[str] = "schedule."

    name: str = option(
        "linear",
        "A key of SCHEDULES in diffusion.schedules.continuous, such as 'linear', or of "
        "NOISE_SCHEDULES in diffusion.registry: on the grid of the T-step bound, or per token.",
        word,
    )
    parameters: dict[str, float] = option(
        dict, "Parameters of the schedule, such as 'exponent'.", _numbers
    )
    learning_rate: float = option(
        0.0, "Learning rate of a learned schedule; 0 for the network's own.", real, low=0
    )

    def as_card(self) -> dict[str, Any]:
        """Return name and parameters as they are stored in a checkpoint's card."""
        return {"name": self.name, **self.parameters}


@dataclass(frozen=True)
class TrainingSection(Options):
    """Optimisation, all of it done by the Trainer of transformers."""

    section: ClassVar[str] = "training."

    steps: int = option(
        0, "Optimiser steps; 0 means that 'epochs' decides.", whole, low=0, high=_MOST
    )
    minutes: float = option(
        0.0,
        "Time budget in minutes; 0 for none. Warm-up and decay of the learning rate follow the "
        "clock, and so do validation and saving; see training.stopping.",
        real,
        low=0,
        high=_MOST,
    )
    epochs: float = option(
        1.0, "Passes over the data, used when 'steps' is 0.", real, low=0, high=_MOST
    )
    batch_size: int = option(
        16, "Rows in a batch; all rows if the data has fewer.", whole, low=1, high=_MOST
    )
    gradient_accumulation: int = option(
        1, "Batches whose gradients one step adds up.", whole, low=1, high=_MOST
    )
    learning_rate: float = option(5e-5, "The highest learning rate.", real, low=0, above=True)
    lr_schedule: str = option(
        "linear",
        "Learning-rate schedule, as transformers names it; with a time budget one of "
        "rates.CLOCKED. 'warmup_stable_decay' falls over the last rates.DECAY of the run.",
        word,
    )
    warmup_steps: int = option(
        0,
        "Steps of linear warm-up, where they are no more than 'warmup_share'.",
        whole,
        low=0,
        high=_MOST,
    )
    warmup_share: float = option(
        0.1,
        "Largest share of the run (steps, or time with a budget) that warm-up takes.",
        real,
        low=0,
        high=1,
    )
    weight_decay: float = option(0.0, "Decoupled weight decay.", real, low=0)
    beta2: float = option(0.999, "Second moment decay of Adam.", real, low=0, high=1, below=True)
    max_grad_norm: float = option(1.0, "Gradient clipping; 0 for none.", real, low=0)
    optimizer: str = option("adamw_torch_fused", "'muon', or a name that transformers knows.", word)
    ema: float = option(
        0.0,
        "Decay of an exponential moving average of the weights, which is validated and saved in "
        "their place; 0 for none. The decay is lower at first; see training.average.",
        real,
        low=0,
        high=1,
        below=True,
    )
    bf16: str = option(
        "auto",
        "'auto' where the hardware computes in bfloat16 natively, 'on' or 'off'.",
        word,
        choices=("auto", "on", "off"),
    )
    log_every: int = option(10, "Steps between two log lines.", whole, low=1, high=_MOST)
    evaluate_every: int = option(
        0, "Steps between two validations; 0 validates at the end only.", whole, low=0, high=_MOST
    )
    evaluation_rows: int = option(
        128, "Rows of the validation data in each validation.", whole, low=1, high=_MOST
    )
    save_every: int = option(
        0, "Steps between two checkpoints; 0 saves at the end only.", whole, low=0, high=_MOST
    )
    report_to: str = option(
        "none", "Where else to log, as transformers names it: 'tensorboard', 'wandb', ...", word
    )
    seed: int = option(0, "Seeds weights, data order and masks.", whole, low=0, high=2**32 - 1)
