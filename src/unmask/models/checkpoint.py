"""A checkpoint is an ordinary Hugging Face directory with one more file, ``unmask.json``.

Weights are safetensors, everything else is JSON, nothing is ever pickled. A full disk or a killed
process leaves the previous checkpoint as it was; see ``files``.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from reprlib import repr as shortened
from typing import Any, TypeVar

from unmask import files
from unmask._names.earlier import card_today
from unmask.data.pixels import PixelCodec
from unmask.errors import UserError, explained
from unmask.validation import Option, Options, option, require, whole, word

FORMAT = 1
FILE = "unmask.json"
WORK = "training"
"""Folder in that of a model for logs and checkpoints of its training."""
RUN = "run.json"
"""File in it that describes the run."""
KINDS = ("masked", "block", "causal")
EXTRA = "unmask.safetensors"
"""Weights that plain transformers knows nothing of: time conditioning, schedule, word counts."""
EXPORTED = ("exported.json", "exported.xml", "exported.bin")
"""A copy of the network for another runtime, and what it is a copy of."""
REPLACED = (
    *(EXTRA, *EXPORTED, "generation_config.json", "added_tokens.json", "special_tokens_map.json"),
    *("chat_template.jinja", "model.safetensors", "model-*-of-*.safetensors"),
    *("model.safetensors.index.json", "tokenizer.json", "vocab.txt", "vocab.json", "merges.txt"),
    *("bpe.codes", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model", "spm_char.model"),
    *("entity_vocab.json", "word_shape.json", "word_pronunciation.json"),
)
"""Patterns of what belongs to a model: where a new one has no such file, it would be misread."""

T = TypeVar("T")
_REMEDY = "train or save the model again"
_VERSION = Option("", whole, low=1)


def _table(name: str, value: Any) -> dict[str, Any]:
    """Return a table."""
    if not isinstance(value, dict):
        raise UserError(f"{name} must be a table, not {shortened(value)}")
    return value


def _named(name: str, value: Any) -> dict[str, Any]:
    """Return a table with a name in it."""
    found = _table(name, value)
    return found | {"name": word(f"{name}.name", found.get("name"))}


def words_by_name(name: str, value: Any) -> dict[str, str]:
    """Return a table of texts."""
    return {key: word(f"{name}.{key}", text) for key, text in _table(name, value).items()}


def _pairs(name: str, value: Any) -> dict[str, str]:
    """Return the texts around a source, or an empty table."""
    found = words_by_name(name, value)
    if found and {*found} != {"before", "between"}:
        raise UserError(f"{name} must have the texts 'before' and 'between', not {found!r}")
    return found


def _records(name: str, value: Any) -> dict[str, list[int]]:
    """Return the lengths of records, or an empty table."""
    found = _table(name, value)
    lengths = found.get("lengths")
    if found and not (isinstance(lengths, list) and lengths):
        raise UserError(f"{name} must have a list 'lengths', not {found!r}")
    size = Option("", whole, low=1)
    return {key: [size(f"{name}.{key}", n) for n in sizes] for key, sizes in found.items()}


def _images(name: str, value: Any) -> dict[str, Any]:
    """Return the description of images, or an empty table."""
    found = _table(name, value)
    return PixelCodec(**found).as_card() if found else found


@dataclass(frozen=True)
class Card(Options):
    """The content of ``unmask.json``; a card that exists is valid.

    Raises:
        UserError: If a value has the wrong type or is out of range.
    """

    kind: str = option(
        "masked",
        "'masked' for a diffusion model, 'block' for one that generates block by block, 'causal' "
        "for an autoregressive one.",
        word,
        choices=KINDS,
    )
    process: str = option(
        "absorbing", "Forward process, 'absorbing', 'uniform' or 'gaussian'.", word
    )
    schedule: dict[str, Any] = option(
        partial(dict, name="linear"), "Name and parameters of the noise schedule.", _named
    )
    num_steps: int = option(
        0, "T of the bound that it was trained on; 0 for continuous time.", whole, low=0
    )
    time: str = option(
        "none", "How the network is conditioned on t; see models.time_conditioning.", word
    )
    attention: str = option(
        "full",
        "'full', or 'any-order' if a token attends only to those generated before it.",
        word,
    )
    sampler: dict[str, Any] = option(
        partial(dict, name="ancestral"),
        "Name of the default sampler, and options that differ from its defaults.",
        _table,
    )
    sequence_length: int | None = option(
        None, "Tokens of the sequences that it was trained on, if known.", whole, low=2
    )
    block_length: int = option(0, "Tokens in a block, of kind 'block'; else 0.", whole, low=0)
    pairs: dict[str, Any] = option(
        dict,
        "Of a model that generates a target from a source, the texts 'before' the source and "
        "'between' the two.",
        _pairs,
    )
    records: dict[str, Any] = option(
        dict,
        "Of a model that was trained on one text per row, some of their 'lengths' in tokens, "
        "equally likely.",
        _records,
    )
    images: dict[str, Any] = option(
        dict, "Of a model of images, their size, levels and classes; see data.pixels.", _images
    )
    training: dict[str, Any] = option(
        dict, "Recipe, data, steps, seed, time, software: how to make the model again.", _table
    )
    scores: dict[str, Any] = option(dict, "What it scored, with units in the names.", _table)

    def __post_init__(self) -> None:
        super().__post_init__()
        blocks = (self.kind == "block") == (self.block_length > 0)
        require((f"block_length = {self.block_length}", blocks, "kind = 'block', if it is not 0"))

    @classmethod
    def read(cls, directory: Path) -> Card | None:
        """Read ``unmask.json``, or return None where there is none (a foreign model).

        Raises:
            UserError: If the file is damaged or from a newer version of this package.
        """
        return read_versioned(directory / FILE, FORMAT, _REMEDY, lambda c: cls(**card_today(c)))

    def write(self, directory: Path) -> None:
        """Write ``unmask.json`` into a directory, whole or not at all.

        Raises:
            UserError: If the disk is full or not writable.
        """
        content = {"format": FORMAT, **asdict(self)}
        files.write_text(directory / FILE, json.dumps(content, indent=2) + "\n")


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """Return the object in a JSON file.

    Args:
        path: The file.
        remedy: What to do if it is damaged, for the message.

    Raises:
        UserError: If it cannot be read, or holds anything else.
    """
    with explained(f"{path} is damaged", remedy, (OSError, ValueError, RecursionError), keep=()):
        return _table("its content", json.loads(path.read_text(encoding="utf-8")))


def read_versioned(
    path: Path, newest: int, remedy: str, make: Callable[[dict[str, Any]], T]
) -> T | None:
    """Return what a JSON file of this package describes, None where there is no such file.

    Args:
        path: The file, whose object has the version of its form as ``format``.
        newest: The newest version that is read.
        remedy: What to do if the file is damaged, for the message.
        make: Makes the description from the rest of the object.

    Raises:
        UserError: If the file is damaged or from a newer version of this package.
    """
    if not path.exists():
        return None
    content = read_json(path, remedy)
    with explained(f"{path} is damaged", remedy, (TypeError, UserError), keep=()):
        version = _VERSION("format", content.pop("format", None))
        if version <= newest:
            return make(content)
    raise UserError(
        f"{path} has format {version}, newer than the {newest} this version reads; "
        "update with: pip install -U unmask"
    )


def write_extra(directory: Path, tensors: dict[str, Any]) -> None:
    """Write ``unmask.safetensors`` into a directory, if there is anything to write."""
    from safetensors.torch import save_file

    if tensors:
        save_file(
            {key: value.contiguous().cpu() for key, value in tensors.items()}, directory / EXTRA
        )


def read_extra(directory: Path) -> dict[str, Any]:
    """Return the tensors of ``unmask.safetensors``, none where there is no such file.

    Raises:
        UserError: If the file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = directory / EXTRA
    if not path.exists():
        return {}
    with explained(f"{path} is damaged", _REMEDY, (SafetensorError, OSError)):
        return load_file(path)


def claim(directory: Path, overwrite: bool) -> None:
    """Make sure that a new model may be written to a directory.

    Raises:
        UserError: If it holds anything and ``overwrite`` is False, or anything but a model; if it
            cannot be made or written to.
    """
    check_folder(directory)
    if directory.is_dir():
        files.settle(directory)
    if not directory.is_dir() or not _contents(directory):
        return
    if not overwrite:
        raise UserError(
            f"{directory} is not empty; choose another folder, or pass --overwrite "
            "(overwrite=True in Python)"
        )
    if not _holds_model(directory):
        raise UserError(
            f"{directory} holds something other than a model, so it is not overwritten; choose "
            "another folder"
        )


def check_folder(directory: Path) -> None:
    """Raise a UserError unless a file can be made in a folder, which may not be there yet."""
    if os.path.exists(directory) and not os.path.isdir(directory):
        raise UserError(f"{directory} is a file; choose a folder")
    missing = directory.absolute()
    while not os.path.exists(missing.parent):
        missing = missing.parent
    with explained(f"cannot write to {directory}", "choose another folder", (OSError,)):
        if directory.is_dir():
            tempfile.TemporaryFile(dir=directory).close()
        else:
            missing.mkdir()
            missing.rmdir()


def _contents(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir() if path.name not in files.OWN]


def _holds_model(directory: Path) -> bool:
    """Return whether a folder is a model's, finished or in training, and not a user's own."""
    try:
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        return isinstance(config, dict) and "model_type" in config
    except (OSError, ValueError):
        alone = _contents(directory) == [WORK]
        # A run of an older version has no description.
        signs = ("checkpoint-*/trainer_state.json", RUN)
        return alone and any(any((directory / WORK).glob(sign)) for sign in signs)


def staged(directory: Path) -> AbstractContextManager[Path]:
    """Return a context: an empty folder, whose files become the model in ``directory``.

    Raises:
        UserError: As ``files.staged``.
    """
    return files.staged(directory, REPLACED)
