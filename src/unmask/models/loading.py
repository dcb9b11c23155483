"""Loading a model directory or hub id, with one clear sentence for everything that can be wrong.

``from_pretrained`` of transformers does the loading; this module explains its errors. It accesses
the network only for a name that cannot be a local path.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from unmask.errors import UserError
from unmask.files import settle
from unmask.models import compat
from unmask.models.checkpoint import EXTRA, FILE, Card, read_extra, read_json
from unmask.models.extra_weights import equip, restore

BUNDLED = "bundled"
"""Name of the small model in the package."""
MAX_LAYERS = 10_000
"""More layers than any network has; building more would take hours."""


def locate(name: str) -> str:
    """Return the folder of the bundled model for its name, else the name with ``~`` expanded.

    An interrupted save to the folder is completed or undone first.

    Raises:
        UserError: If the name is empty, or such a folder cannot be written to.
    """
    if not name.strip():
        raise UserError("the name of the model is empty; give a folder or a hub id")
    if name == BUNDLED and not os.path.exists(name):
        return str(resources.files("unmask") / BUNDLED)
    place = os.path.expanduser(name)
    settle(Path(place))
    return place


def best_device() -> str:
    """Return ``cuda`` if available, else ``cpu``; other devices lack float64."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def place(model: PreTrainedModel, device: str | None) -> PreTrainedModel:
    """Move a model to a device, the best one if None.

    Raises:
        UserError: If there is no such device, or it cannot compute in float64.
    """
    device = best_device() if device is None else device
    try:
        torch.ones(1, dtype=torch.float64, device=device).tolist()
        moved: PreTrainedModel = nn.Module.to(model, device)
    except Exception as error:
        # A backend that is not built in raises errors of any type.
        raise UserError(f"cannot use the device {device!r}: {_first_line(error)}") from error
    return moved


@contextmanager
def no_bars() -> Iterator[None]:
    """Context without the progress bars of transformers, for short operations."""
    shown = compat.set_bars(False)
    try:
        yield
    finally:
        compat.set_bars(shown)


@contextmanager
def no_panic() -> Iterator[None]:
    """Context that turns a panic of a Rust library into an ordinary error.

    Raises:
        RuntimeError: For a panic, which is not an ``Exception``.
    """
    try:
        yield
    except Exception:
        raise
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise RuntimeError(f"a library failed: {error}") from error


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Load a tokenizer from a directory or hub id.

    Raises:
        UserError: If there is none.
    """
    name = locate(name)
    try:
        with no_panic():
            tokenizer = AutoTokenizer.from_pretrained(
                name, local_files_only=is_local(name), trust_remote_code=False
            )
    except Exception as error:
        if compat.wants_own_code(error):
            raise _own_code(f"the tokenizer of {name}") from error
        # A folder without tokenizer files raises errors of any type.
        raise UserError(f"cannot load a tokenizer from {name}: {_first_line(error)}") from error
    longest = tokenizer.model_max_length
    if not isinstance(longest, int | float):
        raise UserError(f"cannot load a tokenizer from {name}: model_max_length is {longest!r}")
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        # The library silently makes an empty tokenizer if files are missing.
        raise UserError(f"cannot load a tokenizer from {name}: its files are missing or empty")
    model = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
    if model is not None and getattr(model, "dropout", None):
        # With BPE dropout, a text would get other tokens each time.
        model.dropout = None
    return tokenizer


def load_card(name: str) -> Card | None:
    """Return the contents of ``unmask.json``, None for a model without it.

    Raises:
        UserError: If the file is damaged; for a hub id, as ``load_config``.
    """
    name = locate(name)
    if is_local(name):
        return Card.read(Path(name))
    # A missing model or network is reported once, not for every file.
    load_config(name)
    found = compat.fetched(name, FILE)
    return None if found is None else Card.read(found.parent)


def load_equipped(name: str, card: Card) -> tuple[PreTrainedModel, torch.Tensor | None]:
    """Load a diffusion model with its extra weights, and its token counts.

    Raises:
        UserError: As ``load_model``; if extra weights are missing, damaged or do not fit.
    """
    model = load_model(name, "causal" if card.kind == "block" else "masked")
    equip(model, card.time, card.schedule, card.attention)
    place = locate(name)
    if is_local(place):
        extra = read_extra(Path(place))
    else:
        found = compat.fetched(place, EXTRA)
        extra = {} if found is None else read_extra(found.parent)
    return model.eval(), restore(model, extra, name)


def load_model(name: str, kind: str, new_head: bool = False) -> PreTrainedModel:
    """Load a model in float32, in evaluation mode.

    Args:
        name: A directory or hub id.
        kind: ``masked`` or ``causal``.
        new_head: Accept a body without a language-model head, which is then initialised at random.

    Raises:
        UserError: If there is no model, it is of the other kind, or its weights are damaged.
    """
    name = locate(name)
    config = load_config(name)
    known = model_kinds(config)
    if kind not in known:
        other = "an autoregressive model" if "causal" in known else f"a {config.model_type} model"
        want = "an encoder with a masked-language-model head" if kind == "masked" else "a decoder"
        raise UserError(
            f"{name} is {other}; {want} is needed here (BERT, RoBERTa, ModernBERT, ...)"
            if kind == "masked"
            else f"{name} is {other}; {want} is needed here"
        )
    if kind == "masked" and _looks_back_only(config):
        raise UserError(
            f"{name} sees only the tokens before a position (is_decoder is true in config.json); "
            "set it to false if the weights were trained with attention in both directions"
        )
    auto = AutoModelForMaskedLM if kind == "masked" else AutoModelForCausalLM
    try:
        with no_bars():
            loaded: Any = auto.from_pretrained(
                name,
                local_files_only=is_local(name),
                output_loading_info=True,
                dtype="float32",
                trust_remote_code=False,
            )
    except Exception as error:
        # A damaged file raises errors of any type.
        if "ignore_mismatched_sizes" in str(error):
            raise UserError(f"the weights of {name} do not fit its config.json") from error
        raise UserError(f"cannot load the weights of {name}: {_first_line(error)}") from error
    model, report = loaded
    _check_report(name, model, report, new_head)
    # These settings of the configuration do not concern the weights.
    model.config.return_dict = True
    compat.mend_generation_config(model)
    return model.eval()


def load_config(name: str) -> Any:
    """Load a model's configuration.

    Raises:
        UserError: If there is no such model, or no network for a hub id.
    """
    name = locate(name)
    local = is_local(name)
    if local and not (Path(name) / "config.json").is_file():
        raise UserError(f"{name} holds no model: there is no config.json in it")
    damage = f"{name}/config.json is damaged"
    if local:
        check_layers(read_json(Path(name) / "config.json", "take another copy of it"), damage)
    try:
        config = AutoConfig.from_pretrained(name, local_files_only=local, trust_remote_code=False)
    except Exception as error:
        if compat.wants_own_code(error):
            raise _own_code(name) from error
        # Architectures raise errors of any type for a wrong value.
        if local:
            raise UserError(f"cannot read {name}/config.json: {_first_line(error)}") from error
        raise UserError(
            f"there is no folder {name}, and no model of that name could be fetched from the hub: "
            f"{_first_line(error)}"
        ) from error
    check_layers(vars(config), damage)
    return config


def check_layers(values: Mapping[str, Any], what: str) -> None:
    """Raise a UserError for more layers than any network has.

    Args:
        values: A configuration, or its arguments; with too many layers some take hours to build.
        what: The beginning of the message.
    """
    for key, value in values.items():
        if "layer" in key and isinstance(value, int) and value > MAX_LAYERS:
            raise UserError(f"{what} ({key} is {value})")


def model_kinds(config: Any) -> set[str]:
    """Return which of ``masked`` and ``causal`` models a configuration can build.

    An encoder that also has a decoder head (BERT, RoBERTa) counts as masked only.
    """
    heads = compat.lm_heads(config)
    return {"masked"} if "masked" in heads else heads


def _looks_back_only(config: Any) -> bool:
    return bool(getattr(config, "is_decoder", False)) and not getattr(
        config, "is_encoder_decoder", False
    )


def is_local(name: str) -> bool:
    """Return whether a name is a path: it exists, or it cannot be a hub id.

    Raises:
        UserError: If it looks like a path and does not exist.
    """
    path = os.path.expanduser(name)
    if os.path.isdir(path):
        return True
    if os.path.exists(path):
        raise UserError(f"{name} is a file; a model is a folder with config.json and its weights")
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or name.endswith("/"):
        raise UserError(f"there is no model folder {name}")
    return False


def _check_report(
    name: str, model: PreTrainedModel, report: dict[str, Any], new_head: bool
) -> None:
    """Refuse weights that do not fit the configuration, which would leave random layers."""
    missing = sorted(report.get("missing_keys", ()))
    mismatched = sorted(str(key) for key in report.get("mismatched_keys", ()))
    if mismatched:
        raise UserError(f"the weights of {name} do not fit its config.json, e.g. {mismatched[0]}")
    only_head = not any(key.startswith(f"{model.base_model_prefix}.") for key in missing)
    if missing and not (only_head and new_head):
        hint = "; it is a body without a head: train one with --set model.new_head=true"
        raise UserError(
            f"the weights of {name} are not those of its config.json: {missing[0]} and "
            f"{len(missing) - 1} more are missing{hint if only_head else ''}"
        )


def _own_code(what: str) -> UserError:
    return UserError(
        f"{what} needs code of its own (auto_map), which is not run; take a model whose "
        "architecture is part of transformers"
    )


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # A line that ends in a colon only introduces the reason.
    reason = " ".join(lines[:2]) if lines and lines[0].endswith(":") else "".join(lines[:1])
    return reason.rstrip(".") or type(error).__name__
