"""The networks: real configurations, random weights, nothing downloaded."""

from __future__ import annotations

from functools import cache

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    ModernBertForMaskedLM,
    PreTrainedModel,
    RobertaConfig,
    RobertaForMaskedLM,
)
from transformers.utils import logging

from unmask.models import pixel_unet
from unmask.models.compat import computes_bfloat16
from unmask.models.extra_weights import equip
from unmask.models.runtimes.int8 import quantise
from unmask.models.runtimes.packed import pack
from unmask.training import recipe_file
from unmask.training.initialize import set_dropout

logging.set_verbosity_error()

VOCAB, MASK, SPECIAL = 50265, 50264, (0, 1, 2, 50264)
SMALL = {"hidden": 384, "layers": 6, "heads": 6, "vocab": 128}
PIXELS = (32, 32, 3)
BF16 = computes_bfloat16()
GPU = "cuda" if torch.cuda.is_available() else None


@cache
def roberta(layers: int = 12, kind: str = "float32") -> PreTrainedModel:
    """Return RoBERTa-base, or one with fewer layers."""
    torch.manual_seed(0)
    config = RobertaConfig(vocab_size=VOCAB, max_position_embeddings=514, num_hidden_layers=layers)
    return _as(RobertaForMaskedLM(config), kind)


@cache
def gpt2(layers: int = 12, kind: str = "float32") -> PreTrainedModel:
    """Return GPT-2 small, or one with fewer layers."""
    torch.manual_seed(0)
    return _as(GPT2LMHeadModel(GPT2Config(n_layer=layers)), kind)


@cache
def small_roberta(kind: str = "float32") -> PreTrainedModel:
    """Return a character-level encoder of 10.7 million parameters."""
    config = RobertaConfig(
        vocab_size=SMALL["vocab"],
        max_position_embeddings=514,
        hidden_size=SMALL["hidden"],
        num_hidden_layers=SMALL["layers"],
        num_attention_heads=SMALL["heads"],
        intermediate_size=4 * SMALL["hidden"],
    )
    return _as(RobertaForMaskedLM(config), kind)


@cache
def small_gpt2(kind: str = "float32") -> PreTrainedModel:
    """Return a GPT-2 of the same shape."""
    config = GPT2Config(
        vocab_size=SMALL["vocab"],
        n_embd=SMALL["hidden"],
        n_layer=SMALL["layers"],
        n_head=SMALL["heads"],
        bos_token_id=0,
        eos_token_id=0,
    )
    return _as(GPT2LMHeadModel(config), kind)


@cache
def bundled_size(kind: str = "float32") -> PreTrainedModel:
    """Return a network of the size of the bundled model, from its recipe."""
    tiny = recipe_file.load("tiny")
    ids = {f"{name}_token_id": i for i, name in enumerate(("cls", "pad", "sep"))}
    ids |= {"bos_token_id": 0, "eos_token_id": 2}
    config = AutoConfig.for_model(
        tiny.model.type, vocab_size=tiny.tokenizer.vocab_size, **ids, **tiny.model.config
    )
    return _as(ModernBertForMaskedLM(config), kind)


@cache
def pixels(name: str) -> PreTrainedModel:
    """Return the network of a recipe for images of 32 x 32 pixels, in training mode.

    Its dropout and its time conditioning are those of the recipe; there are no classes.
    """
    recipe = recipe_file.load(name)
    pixel_unet.register()
    shape = dict(zip(pixel_unet.SHAPE, (*PIXELS, recipe.images.levels, 0), strict=True))
    torch.manual_seed(0)
    config = AutoConfig.for_model(pixel_unet.TYPE, **shape, **recipe.model.config)
    model = AutoModelForMaskedLM.from_config(config)
    set_dropout(model, recipe.model.dropout)
    equip(model, recipe.model.time, recipe.schedule.as_card())
    return model.train()


@cache
def noise_regression(name: str) -> nn.Module:
    """Return the U-Net of ``pixels`` with 3 channels in and out, as for continuous images."""
    recipe, body = recipe_file.load(name), pixels(name).body.unet
    own = {"in_channels": PIXELS[2], "out_channels": PIXELS[2], "class_embed_type": None}
    model = type(body).from_config(dict(body.config) | own)
    set_dropout(model, recipe.model.dropout)
    return model.train()


def forget() -> None:
    """Release all networks."""
    makers = (roberta, gpt2, small_roberta, small_gpt2, bundled_size, pixels, noise_regression)
    for make in makers:
        make.cache_clear()


def _as(model: PreTrainedModel, kind: str) -> PreTrainedModel:
    """Return a model for torch, or for a backend of this package.

    Args:
        model: The network.
        kind: ``float32``, ``bfloat16``, ``packed`` or ``int8``; followed by ``on cuda`` for a
            GPU.
    """
    kind, _, device = kind.partition(" on ")
    model = model.eval().to(device or "cpu")
    if kind == "bfloat16":
        return model.bfloat16()
    return {"float32": lambda x: x, "packed": pack, "int8": quantise}[kind](model)
