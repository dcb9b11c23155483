"""A checkpoint is an ordinary Hugging Face directory with one more file, ``unmask.json``.

Weights are safetensors, everything else is JSON, nothing is ever pickled. A full disk or a killed
process leaves the previous checkpoint as it was; see ``files``.
"""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from unmask import files
from unmask.errors import UserError
from unmask.files import write_failure

FORMAT = 1
FILE = "unmask.json"
WORK = "training"
"""Folder beside a model for what its training leaves."""
RUN = "run.json"
"""File in it that says what the run is."""
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

_SAMPLER_ALIASES = {
    "random-quota": "random",
    "confidence": "threshold",
    "schedule-confidence": "maskgit",
    "confidence-factor": "fast-dllm-factor",
    "remask-capped": "remdm-cap",
    "remask-rescaled": "remdm-rescale",
    "remask-least-sure": "remdm-conf",
    "remask-loop": "remdm-loop",
    "remask-next-rate": "remdm-next-rate",
    "remask-forward-backward": "forward-backward",
    "keep-likeliest": "p2",
    "confidence-edit": "threshold-edit",
}
_OPTION_ALIASES = {
    "measure": "confidence_metric",
    "order_temperature": "alg_temperature",
    "edit_below": "edit_threshold",
}


@dataclass(frozen=True)
class Card:
    """What ``unmask.json`` says.

    Attributes:
        kind: ``masked`` for a diffusion model, ``block`` for one that writes block after block,
            ``causal`` for an autoregressive one.
        process: Forward process, ``absorbing`` or ``uniform``.
        schedule: Name and parameters of the schedule.
        num_steps: T of the bound that it was trained on; 0 for continuous time.
        time: How the network is told the time; see ``models.time_conditioning``.
        attention: ``full``, or ``any-order`` where a token sees only those written before it.
        sampler: Name of the default sampler, and options that differ from its preset.
        length: The block length in tokens that the model was trained on, None if unknown.
        block_length: Tokens in a block, of kind ``block``; else 0.
        pairs: Of a model that writes a target for a source, the texts ``before`` the source and
            ``between`` the two; empty for any other.
        records: Of a model that was trained on texts of a row each, some of their ``lengths`` in
            tokens, each as likely as another; empty for any other.
        training: Recipe, data, steps, seed, time, software: how to make the model again.
        scores: What it scored, with units in the names.
    """

    kind: str = "masked"
    process: str = "absorbing"
    schedule: dict[str, Any] = field(default_factory=lambda: {"name": "linear"})
    num_steps: int = 0
    time: str = "none"
    attention: str = "full"
    sampler: dict[str, Any] = field(default_factory=lambda: {"name": "ancestral"})
    length: int | None = None
    block_length: int = 0
    pairs: dict[str, Any] = field(default_factory=dict)
    records: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, directory: Path) -> Card | None:
        """Read ``unmask.json``, or return None where there is none (a foreign model).

        Raises:
            UserError: If the file is damaged or from a newer version of this package.
        """
        path = directory / FILE
        if not path.exists():
            return None
        content = read_json(path, "train or save the model again")
        version = content.pop("format", None)
        if type(version) is not int or version < 1:
            raise UserError(
                f"{path} is damaged (format {version!r}); train or save the model again"
            )
        if version > FORMAT:
            raise UserError(
                f"{path} has format {version}, newer than the {FORMAT} this version reads; "
                "update with: pip install -U unmask"
            )
        content["sampler"] = _renamed(content.get("sampler", cls().sampler))
        try:
            card = cls(**content)
        except TypeError as error:
            raise UserError(f"{path} holds a key that is not known: {error}") from error
        for key, value in vars(cls()).items():
            # Not isinstance: to Python True is a whole number.
            if value is not None and type(getattr(card, key)) is not type(value):
                raise UserError(f"{path} is damaged ({key!r} is not a {type(value).__name__})")
        if card.length is not None and (type(card.length) is not int or card.length < 2):
            raise UserError(f"{path} is damaged ('length' is {card.length!r})")
        if card.kind not in KINDS or (
            (card.kind == "block") != (card.block_length > 0) or card.block_length < 0
        ):
            raise UserError(
                f"{path} is damaged (kind {card.kind!r} with a block length of {card.block_length})"
            )
        if "name" not in card.schedule:
            raise UserError(f"{path} is damaged (its schedule has no name)")
        marks = [card.pairs.get(key) for key in ("before", "between")]
        if card.pairs and not (len(card.pairs) == 2 and all(isinstance(m, str) for m in marks)):
            raise UserError(f"{path} is damaged (pairs have a 'before' and a 'between', not more)")
        lengths = card.records.get("lengths")
        if card.records and not (
            isinstance(lengths, list) and lengths and all(type(n) is int and n > 0 for n in lengths)
        ):
            raise UserError(f"{path} is damaged (records have 'lengths', whole numbers above 0)")
        return card

    def write(self, directory: Path) -> None:
        """Write ``unmask.json`` into a directory, whole or not at all.

        Raises:
            UserError: If the disk is full or not writable.
        """
        content = {"format": FORMAT, **asdict(self)}
        files.write_text(directory / FILE, json.dumps(content, indent=2) + "\n")


def _renamed(sampler: Any) -> Any:
    """Return the sampler of a saved card under the names of today."""
    if not isinstance(sampler, dict):
        return sampler
    found = {_OPTION_ALIASES.get(key, key): value for key, value in sampler.items()}
    name = found.get("name")
    return found | {"name": _SAMPLER_ALIASES.get(name, name)} if isinstance(name, str) else found


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """Return the object in a JSON file.

    Args:
        path: The file.
        remedy: What to do if it is damaged, for the message.

    Raises:
        UserError: If it cannot be read, or holds anything else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path} is damaged ({reason}); {remedy}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged (it holds no JSON object); {remedy}")
    return content


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
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged ({error}); train or save the model again") from error


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
    try:
        if directory.is_dir():
            tempfile.TemporaryFile(dir=directory).close()
        else:
            missing.mkdir()
            missing.rmdir()
    except OSError as error:
        raise UserError(
            f"cannot write to {directory} ({write_failure(error)}); choose another folder"
        ) from error


def _contents(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir() if path.name not in files.OWN]


def _holds_model(directory: Path) -> bool:
    """Return whether a folder is a model's, finished or in training, and not a user's own."""
    try:
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        return isinstance(config, dict) and "model_type" in config
    except (OSError, ValueError):
        alone = _contents(directory) == [WORK]
        # A run of an older version said nothing of itself.
        signs = ("checkpoint-*/trainer_state.json", RUN)
        return alone and any(any((directory / WORK).glob(sign)) for sign in signs)


def staged(directory: Path) -> AbstractContextManager[Path]:
    """Return a context: an empty folder, whose files become the model in ``directory``.

    Raises:
        UserError: As ``files.staged``.
    """
    return files.staged(directory, REPLACED)
