"""The model that a run starts from: one on disk or on the hub, or a fresh one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    PretrainedConfig,
    PreTrainedModel,
)

from unmask.data.text import TextCodec
from unmask.errors import UserError, did_you_mean
from unmask.models import loading
from unmask.models.checkpoint import Card, read_extra
from unmask.models.decoder import add_mask_token, check_decoder
from unmask.models.encoder import check_vocabulary
from unmask.models.extra_weights import equip, restore
from unmask.models.traits import check_masks, entries_of, position_limit, traits_of
from unmask.training.recipe import Recipe
from unmask.training.tokenizer import train_tokenizer

KEPT_APART = ("global_attn_every_n_layers", "num_attention_heads", "num_hidden_layers")
"""Keys that some configurations accept without listing them."""


def open_model(
    recipe: Recipe, name: str | None, documents: Iterable[str]
) -> tuple[PreTrainedModel, TextCodec]:
    """Load the model to start from, or make a fresh one with a tokenizer trained on the data.

    Args:
        recipe: Decides between the two where no name is given.
        name: Directory or hub id; None takes the recipe's.
        documents: What a fresh tokenizer is trained on.

    Raises:
        UserError: If there is no such model, it is of the wrong kind, or too short for the rows.
    """
    if name is None and recipe.model.name and recipe.model.type:
        raise UserError("a recipe has either model.name or model.type, not both")
    name = name or recipe.model.name
    if name:
        if recipe.kind == "masked" and not recipe.model.from_scratch:
            _check_same_method(recipe, name)
        if recipe.model.from_scratch:
            model = _random(recipe, name)
        else:
            model = loading.load_model(name, _head(recipe), recipe.model.new_head)
        tokenizer = loading.load_tokenizer(name)
    elif recipe.model.type:
        whole = recipe.tokenizer.keep_whole
        tokenizer = train_tokenizer(documents, recipe.tokenizer.vocab_size, whole)
        model = _fresh(recipe, tokenizer)
    else:
        raise UserError("name a model to start from with --model")
    if recipe.kind == "masked" and tokenizer.mask_token_id is None:
        raise UserError(f"the tokenizer of {name} has no mask token, which diffusion needs")
    if recipe.kind == "block":
        add_mask_token(model, tokenizer)
        check_decoder(model)
    codec = TextCodec(tokenizer)
    if recipe.kind == "masked":
        # Whatever is wrong with the network is said first.
        traits_of(model)
    check_vocabulary(codec, entries_of(model))
    if recipe.kind == "masked":
        check_masks(model, codec.mask_token_id)
    if recipe.kind == "causal" and not codec.start:
        raise UserError(
            f"the tokenizer of {name} has no start symbol to predict the first token from"
        )
    if recipe.model.dropout is not None:
        set_dropout(model, recipe.model.dropout)
    if recipe.kind == "masked":
        equip(model, recipe.model.time, recipe.schedule.as_card(), recipe.model.attention)
        if name and not recipe.model.from_scratch:
            _take_over(model, recipe, name)
    _check_length(model, recipe.data.length)
    return model, codec


def _check_same_method(recipe: Recipe, name: str) -> None:
    """Refuse to go on with a checkpoint whose network was trained to answer another question."""
    card = loading.load_card(name)
    if card is None:
        return
    if card.process != recipe.process.name:
        raise UserError(
            f"{name} was trained with the {card.process} process, this recipe's is "
            f"{recipe.process.name}; choose a recipe of that process, or another model"
        )
    if card.attention != "full" and card.attention != recipe.model.attention:
        raise UserError(
            f"{name} was trained to write in any order, which this recipe does not do; pass "
            f"--set model.attention={card.attention}, or choose another model"
        )
    if card.time not in ("none", recipe.model.time):
        raise UserError(
            f"{name} is told the time by {card.time!r}, which this recipe does not do; pass "
            f"--set model.time={card.time}, or choose another model"
        )


def _take_over(model: PreTrainedModel, recipe: Recipe, name: str) -> None:
    """Load what the checkpoint to start from has beside its ordinary weights, if it is the same."""
    place = Path(loading.locate(name))
    card = Card.read(place) if place.is_dir() else None
    if card is None or (card.time, card.schedule) != (recipe.model.time, recipe.schedule.as_card()):
        return
    restore(model, read_extra(place), name)


def _random(recipe: Recipe, name: str) -> PreTrainedModel:
    """Return the architecture of a model with random weights."""
    config = loading.load_config(name)
    _check_kind(recipe, config, name)
    return _auto(recipe).from_config(config, trust_remote_code=False)


def _fresh(recipe: Recipe, tokenizer: Any) -> PreTrainedModel:
    start, end, pad = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    # Also under the names of BERT's family, or the configuration keeps ids of another vocabulary.
    special = {"bos": start, "cls": start, "eos": end, "sep": end, "pad": pad}
    known = {f"{kind}_token_id": value for kind, value in special.items()}
    loading.check_layers(recipe.model.config, f"cannot make a {recipe.model.type} model")
    try:
        # Transformers takes any name and keeps it without effect, so names are checked here.
        declared = {*AutoConfig.for_model(recipe.model.type).to_dict(), *KEPT_APART}
        for key in recipe.model.config:
            if key not in declared:
                raise UserError(f"unknown key 'model.config.{key}'{did_you_mean(key, declared)}")
        config = AutoConfig.for_model(
            recipe.model.type, **known, vocab_size=len(tokenizer), **recipe.model.config
        )
        _check_kind(recipe, config, "model.type")
        return _auto(recipe).from_config(config, trust_remote_code=False)
    except UserError:
        raise
    except Exception as error:
        # A value of the wrong type makes each architecture raise something of its own.
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"cannot make a {recipe.model.type} model: {reason}") from error


def _check_kind(recipe: Recipe, config: PretrainedConfig, name: str) -> None:
    head, kinds = _head(recipe), loading.model_kinds(config)
    if head not in kinds:
        blocks = ", or set objective.block_length to write in blocks" if "causal" in kinds else ""
        raise UserError(
            f"{name} is a {config.model_type} model, which cannot be {head}; choose another{blocks}"
        )


def _head(recipe: Recipe) -> str:
    """Return which kind of network a recipe trains: blocks need a decoder, as ``causal`` does."""
    return "masked" if recipe.kind == "masked" else "causal"


def _auto(recipe: Recipe) -> Any:
    return AutoModelForMaskedLM if _head(recipe) == "masked" else AutoModelForCausalLM


def about_conversion(recipe: Recipe, name: str | None) -> list[str]:
    """Return what is to be said about a decoder that was made to predict the next token.

    Args:
        recipe: What it is to become.
        name: What it is made from, None for a fresh one.
    """
    if recipe.kind != "block" or recipe.model.from_scratch or not name:
        return []
    card = loading.load_card(name)
    if card is not None and card.kind == "block":
        return []
    return [
        f"{Path(name).name} predicted the next token; from its weights on it learns that a masked "
        "position predicts its own token, so it has to be trained before it writes"
    ]


def set_dropout(model: nn.Module, rate: float) -> None:
    """Set every dropout of a model, also the rates that attention hands to a fused kernel."""
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
