"""Loading a model directory or hub id, with one clear sentence for everything that can be wrong.

``from_pretrained`` of transformers does the loading; this module explains its errors. It accesses
the network only for a name that cannot be a local path.
"""

from __future__ import annotations

import math
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

from unmask.errors import UserError, explained, reason_of
from unmask.files import settle
from unmask.models import compat, pixel_unet
from unmask.models.checkpoint import EXTRA, FILE, Card, read_extra, read_json
from unmask.models.extra_weights import equip, restore
from unmask.validation import Option, real
from unmask.validation import place as read_name

BUNDLED = "bundled"
"""Name of the small model in the package."""
PACKAGED = (BUNDLED, "bundled-digits")
"""Names of the models in the package: of texts, and of images."""
MAX_LAYERS = 10_000
"""More layers than any network has; building more would take hours."""
_WANTED = {
    "masked": "an encoder with a masked-language-model head is needed here (BERT, RoBERTa, "
    "ModernBERT, ...)",
    "causal": "a decoder is needed here",
}
_LONGEST = Option("", real, high=math.inf)


def locate(name: str) -> str:
    """Return the folder of a model in the package for its name, else the name with ``~`` expanded.

    An interrupted save to the folder is completed or undone first.

    Raises:
        UserError: If the name is empty, or such a folder cannot be written to.
    """
    read_name("the model", name.strip())
    if name in PACKAGED and not os.path.exists(name):
        return str(resources.files("unmask") / name)
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
    # A backend that is not built in raises errors of any type.
    with explained(f"cannot use the device {device!r}"):
        torch.ones(1, dtype=torch.float64, device=device).tolist()
        moved: PreTrainedModel = nn.Module.to(model, device)
    return moved


@contextmanager
def no_bars() -> Iterator[None]:
    """Context without the progress bars of transformers, for short operations."""
    shown = compat.set_bars(False)
    try:
        yield
    finally:
        compat.set_bars(shown)


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Load a tokenizer from a directory or hub id.

    Raises:
        UserError: If there is none.
    """
    name = locate(name)
    local, what = is_local(name), f"cannot load a tokenizer from {name}"
    # A folder without tokenizer files raises errors of any type.
    with explained(what, keep=(), reason=_reason):
        tokenizer = AutoTokenizer.from_pretrained(
            name, local_files_only=local, trust_remote_code=False
        )
        _LONGEST("model_max_length", tokenizer.model_max_length)
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        # The library silently makes an empty tokenizer if files are missing.
        raise UserError(f"{what}: its files are missing or empty")
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


def load_text_card(name: str) -> Card | None:
    """Return ``load_card`` of a model of texts.

    Raises:
        UserError: As ``load_card``; if the model was trained on images.
    """
    card = load_card(name)
    if card is not None and card.images:
        kind = "ImageAutoregressor" if card.kind == "causal" else "ImageUnmasker"
        raise UserError(
            f"{name} was trained on images, and this is for models of texts; use generate, infill, "
            f"score or evaluate, or open it as an {kind} in Python"
        )
    return card


def load_equipped(name: str, card: Card) -> tuple[PreTrainedModel, torch.Tensor | None]:
    """Load a diffusion model with its extra weights, and its token counts.

    Raises:
        UserError: As ``load_model``; if extra weights are missing, damaged or do not fit.
    """
    model = load_model(name, "causal" if card.kind == "block" else "masked")
    equip(model, card.time, card.schedule, card.attention, card.images)
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
        raise UserError(f"{name} is {other}; {_WANTED[kind]}")
    if kind == "masked" and _looks_back_only(config):
        raise UserError(
            f"{name} sees only the tokens before a position (is_decoder is true in config.json); "
            "set it to false if the weights were trained with attention in both directions"
        )
    auto = AutoModelForMaskedLM if kind == "masked" else AutoModelForCausalLM
    model, report = load_weights(auto, name)
    _check_report(name, model, report, new_head)
    # These settings of the configuration do not concern the weights.
    model.config.return_dict = True
    compat.mend_generation_config(model)
    return model.eval()


def load_weights(auto: Any, name: str) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Load a model in float32, with the report of transformers on its weights.

    Args:
        auto: The class of transformers that opens it, such as ``AutoModelForMaskedLM``.
        name: A name of ``locate``.

    Raises:
        UserError: If the weights are damaged or do not fit the configuration.
    """
    local = is_local(name)
    # A damaged file raises errors of any type.
    with explained(f"cannot load the weights of {name}", reason=_reason), no_bars():
        loaded: tuple[PreTrainedModel, dict[str, Any]] = auto.from_pretrained(
            name,
            local_files_only=local,
            output_loading_info=True,
            dtype="float32",
            trust_remote_code=False,
        )
    return loaded


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
        content = read_json(Path(name) / "config.json", "take another copy of it")
        check_layers(content, damage)
        if content.get("model_type") == pixel_unet.TYPE:
            pixel_unet.register()
    lost = f"there is no folder {name}, and no model of that name could be fetched from the hub"
    # Architectures raise errors of any type for a wrong value.
    with explained(f"cannot read {name}/config.json" if local else lost, reason=_reason):
        config = AutoConfig.from_pretrained(name, local_files_only=local, trust_remote_code=False)
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


def _reason(error: BaseException) -> str:
    """Return why transformers failed, with what to do."""
    if compat.wants_own_code(error):
        return (
            "it needs code of its own (auto_map), which is not run; take a model whose "
            "architecture is part of transformers"
        )
    return (
        "they do not fit its config.json"
        if "ignore_mismatched_sizes" in str(error)
        else reason_of(error)
    )
