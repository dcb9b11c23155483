"""The model that a run starts from: one on disk or on the hub, or a fresh one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
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

from unmask.data.codec import Codec
from unmask.data.pixels import PixelCodec
from unmask.data.text import TextCodec
from unmask.errors import UserError, did_you_mean
from unmask.models import loading, pixel_unet
from unmask.models.checkpoint import Card, read_extra
from unmask.models.decoder import add_mask_token, check_decoder
from unmask.models.extra_weights import equip, restore
from unmask.models.positions import entries_of, position_limit
from unmask.models.traits import check_masks, traits_of
from unmask.training.datasets import Source
from unmask.training.recipe import Recipe
from unmask.training.tokenizer import train_tokenizer

KEPT_APART = ("global_attn_every_n_layers", "num_attention_heads", "num_hidden_layers")
"""Keys that some configurations accept without listing them."""


@dataclass(frozen=True)
class StartingPoint:
    """The model that a run starts from, opened once.

    Attributes:
        name: Directory or hub id; None for a fresh model.
        card: Its card; None if it has none or only its architecture is kept.
        model: The network, with the time conditioning and the schedule of the recipe.
        codec: Its tokenizer.
    """

    name: str | None
    card: Card | None
    model: PreTrainedModel
    codec: Codec

    @classmethod
    def open(cls, recipe: Recipe, name: str | None, source: Source) -> StartingPoint:
        """Load the model, or make a fresh one with a tokenizer trained on the data.

        Args:
            recipe: Decides between the two where no name is given.
            name: Directory or hub id; None for the recipe's.
            source: The data, which a fresh tokenizer is trained on.

        Raises:
            UserError: If there is no such model, it is of the wrong kind, or too short for the
                rows.
        """
        name = name or recipe.model.name or None
        if name is None and not recipe.model.type:
            raise UserError("name a model to start from with --model")
        continues = name is not None and not recipe.model.from_scratch and recipe.kind != "causal"
        card = loading.load_card(name) if name is not None and continues else None
        if card is not None and recipe.kind == "masked":
            _check_same_method(recipe, card, str(name))
        codec: Codec
        if source.codec is None:
            model, tokenizer = _load(recipe, name) if name else _fresh(recipe, source.texts)
            codec = _codec(recipe, model, tokenizer, name or recipe.model.type)
        else:
            codec = source.codec
            model = _for_images(recipe, name, source.codec)
        if recipe.model.dropout is not None:
            set_dropout(model, recipe.model.dropout)
        start = cls(name, card, model, codec)
        if recipe.kind == "masked":
            images = None if source.codec is None else source.codec.as_card()
            about = recipe.model
            equip(model, about.time, recipe.schedule.as_card(), about.attention, images)
            start.load_extra_weights(recipe)
        _check_length(model, recipe, source.codec)
        return start

    def notes(self, recipe: Recipe) -> list[str]:
        """Return a note if the model is a decoder that was trained to predict the next token."""
        scratch = recipe.model.from_scratch or self.name is None
        if recipe.kind != "block" or scratch or (self.card and self.card.kind == "block"):
            return []
        return [
            f"{Path(str(self.name)).name} predicted the next token; with its weights a masked "
            "position learns to predict its own token, so train it before it generates"
        ]

    def load_extra_weights(self, recipe: Recipe) -> None:
        """Load the extra weights of the model, if its method is that of the recipe."""
        schedule = recipe.schedule.as_card()
        if self.card and (self.card.time, self.card.schedule) == (recipe.model.time, schedule):
            folder = Path(loading.locate(str(self.name)))
            if folder.is_dir():
                restore(self.model, read_extra(folder), str(self.name))


def check_modality(name: str, codec: PixelCodec | None) -> None:
    """Raise a UserError unless a model was trained on texts, or on images like those of a codec.

    Args:
        name: Directory or hub id of a model to start from.
        codec: The layout of the images; None for texts.
    """
    card = loading.load_card(name)
    found = card.images if card is not None else {}
    if codec is None and found:
        raise UserError(
            f"{name} was trained on images, and this recipe is for texts; choose another model, or "
            "a recipe such as md4-pixels"
        )
    if codec is not None and not found:
        raise UserError(
            f"{name} was not trained on images; leave the model out for a new one, or choose one "
            "that was"
        )
    if codec is not None and found != codec.as_card():
        theirs = PixelCodec(**found)
        raise UserError(
            f"{name} was trained on {theirs.in_words}, but these are {codec.in_words}; change the "
            "section images of the recipe, or choose another model"
        )


def _check_same_method(recipe: Recipe, card: Card, name: str) -> None:
    """Refuse to continue with a network that was trained for another method."""
    model = recipe.model
    for key, own, wanted, usual in (
        ("process.name", card.process, recipe.process.name, recipe.process.name),
        ("model.attention", card.attention, model.attention, "full"),
        ("model.time", card.time, model.time, "none"),
    ):
        if own not in (wanted, usual):
            raise UserError(
                f"{name} was trained with {key}={own}, this recipe has {key}={wanted}; choose a "
                f"recipe with the first, pass --set {key}={own}, or choose another model"
            )


def _codec(recipe: Recipe, model: PreTrainedModel, tokenizer: Any, name: str) -> TextCodec:
    """Return the codec of a tokenizer that has what the recipe and the model need."""
    masked = recipe.kind == "masked"
    if masked and tokenizer.mask_token_id is None:
        raise UserError(f"the tokenizer of {name} has no mask token, which diffusion needs")
    if recipe.kind == "block":
        add_mask_token(model, tokenizer)
        check_decoder(model)
    codec = TextCodec(tokenizer)
    if masked:
        # What is wrong with the network is reported first.
        traits_of(model)
    codec.check_entries(entries_of(model))
    if masked:
        check_masks(model, codec.mask_token_id)
    if recipe.kind == "causal" and not codec.start:
        raise UserError(
            f"the tokenizer of {name} has no start symbol to predict the first token from"
        )
    return codec


def _load(recipe: Recipe, name: str) -> tuple[PreTrainedModel, Any]:
    """Return a model, or with random weights its architecture, and its tokenizer."""
    return _load_model(recipe, name), loading.load_tokenizer(name)


def _load_model(recipe: Recipe, name: str) -> PreTrainedModel:
    """Return a model, or with random weights its architecture."""
    if not recipe.model.from_scratch:
        return loading.load_model(name, _head(recipe), recipe.model.new_head)
    config = loading.load_config(name)
    _check_kind(recipe, config, name)
    model: PreTrainedModel = _auto(recipe).from_config(config, trust_remote_code=False)
    return model


def _fresh(recipe: Recipe, documents: Iterable[str]) -> tuple[PreTrainedModel, Any]:
    """Return a new model of the recipe's configuration and a tokenizer trained on the data."""
    about = recipe.tokenizer
    tokenizer: Any = train_tokenizer(documents, about.vocab_size, about.keep_whole)
    start, end, pad = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    # Under the names of BERT's family too, or the configuration keeps ids of another vocabulary.
    special = {"bos": start, "cls": start, "eos": end, "sep": end, "pad": pad}
    known = {f"{kind}_token_id": value for kind, value in special.items()}
    return _made(recipe, known | {"vocab_size": len(tokenizer)}), tokenizer


def _for_images(recipe: Recipe, name: str | None, codec: PixelCodec) -> PreTrainedModel:
    """Return a model of images, loaded or of the recipe's configuration."""
    if name is None:
        return _made(recipe, {"bos_token_id": None, "eos_token_id": None, **_shape(recipe, codec)})
    model = _load_model(recipe, name)
    codec.check_entries(entries_of(model))
    return model


def _shape(recipe: Recipe, codec: PixelCodec) -> dict[str, Any]:
    """Return the keys of a configuration that follow from the images."""
    if recipe.model.type == pixel_unet.TYPE:
        pixel_unet.register()
        values = (*codec.shape, codec.levels, len(codec.classes))
        return dict(zip(pixel_unet.SHAPE, values, strict=True))
    # Nothing is padded. The embedding of a padding token is not trained, so the mask is none.
    return {
        "vocab_size": codec.entries,
        "max_position_embeddings": codec.length,
        **{f"{kind}_token_id": None for kind in ("pad", "cls", "sep")},
    }


def _made(recipe: Recipe, known: dict[str, Any]) -> PreTrainedModel:
    """Return a new model of the recipe's configuration, with what the data decide."""
    loading.check_layers(recipe.model.config, f"cannot make a {recipe.model.type} model")
    try:
        # Transformers accepts any name and ignores it, so names are checked here.
        declared = {*AutoConfig.for_model(recipe.model.type).to_dict(), *KEPT_APART}
        for key in recipe.model.config:
            if key not in declared:
                raise UserError(f"unknown key 'model.config.{key}'{did_you_mean(key, declared)}")
        config = AutoConfig.for_model(recipe.model.type, **known, **recipe.model.config)
        _check_kind(recipe, config, "model.type")
        model: PreTrainedModel = _auto(recipe).from_config(config, trust_remote_code=False)
        return model
    except UserError:
        raise
    except Exception as error:
        # A value of the wrong type makes each architecture raise something of its own.
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"cannot make a {recipe.model.type} model: {reason}") from error


def _check_kind(recipe: Recipe, config: PretrainedConfig, name: str) -> None:
    head, kinds = _head(recipe), loading.model_kinds(config)
    if head not in kinds:
        blocks = ", or set objective.block_length for blocks" if "causal" in kinds else ""
        raise UserError(
            f"{name} is a {config.model_type} model, which cannot be {head}; choose another{blocks}"
        )


def _head(recipe: Recipe) -> str:
    """Return which kind of network a recipe trains: blocks need a decoder as ``causal`` does."""
    return "masked" if recipe.kind == "masked" else "causal"


def _auto(recipe: Recipe) -> Any:
    return AutoModelForMaskedLM if _head(recipe) == "masked" else AutoModelForCausalLM


def set_dropout(model: nn.Module, rate: float) -> None:
    """Set every dropout of a model, also the rates that attention passes to a fused kernel."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = rate
        for name, value in vars(module).items():
            # Attention modules keep their rate as a number that they pass to the fused kernel.
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, rate)


def _check_length(model: PreTrainedModel, recipe: Recipe, images: PixelCodec | None) -> None:
    limit = position_limit(model)
    length = recipe.data.length if images is None else images.length
    if limit is None or length <= limit:
        return
    if images is not None:
        raise UserError(
            f"an image has {length} tokens, but the model has only {limit} positions; pass "
            "--set images.resize=N, or take another model"
        )
    raise UserError(
        f"data.length is {length}, but the model has only {limit} positions; "
        f"pass --set data.length={limit}"
    )
