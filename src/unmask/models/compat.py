"""Names of the libraries that are private or depend on their version, each in this one place.

Every function here has a canary test in ``tests/models/test_compat.py``: when a release of torch,
transformers or datasets moves a name, that test fails and says which one. Two more names cannot
stand here, since a subclass overrides or sets them: ``Trainer._save_checkpoint`` and
``Trainer.model_accepts_loss_kwargs`` in ``training/trainer.py``; they have canaries too.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    PreTrainedModel,
    Trainer,
    TrainingArguments,
)
from transformers.generation.streamers import BaseStreamer
from transformers.integrations.integration_utils import get_reporting_integration_callbacks
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.pytorch_utils import Conv1D
from transformers.trainer_utils import SchedulerType
from transformers.training_args import OptimizerNames
from transformers.utils import logging
from transformers.utils.hub import cached_file

__all__ = [
    "BaseStreamer",
    "Conv1D",
    "attention_of",
    "cache_argument",
    "can_classify",
    "can_pack",
    "computes_bfloat16",
    "fetched",
    "is_traced",
    "lets_attention_be_replaced",
    "lm_heads",
    "load_weights",
    "masked_types",
    "mend_generation_config",
    "missing_arguments",
    "optimizer_names",
    "packed_product",
    "packed_weight",
    "product_of_int8",
    "quiet_transformers",
    "reporters",
    "schedule_names",
    "sdpa_attention_forward",
    "sdpa_mask",
    "set_bars",
    "switch_token_dropout_off",
    "use_one_gpu",
    "version_of",
    "wants_own_code",
    "wrapped_in",
]

# --- models and their configurations ---


def lm_heads(config: Any) -> set[str]:
    """Return which of ``masked`` and ``causal`` language models a configuration has a class for."""
    known = {"masked": MODEL_FOR_MASKED_LM_MAPPING, "causal": MODEL_FOR_CAUSAL_LM_MAPPING}
    return {name for name, mapping in known.items() if type(config) in mapping}


def wants_own_code(error: BaseException) -> bool:
    """Return whether loading failed because a model has code of its own, which was not run."""
    return isinstance(error, ValueError) and "trust_remote_code" in str(error)


def masked_types() -> list[str]:
    """Return the types of all architectures that have a masked language model."""
    return sorted(config.model_type for config in MODEL_FOR_MASKED_LM_MAPPING)


def can_classify(config: Any) -> bool:
    """Return whether a configuration has a class for classifying sequences."""
    return type(config) in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING


def wrapped_in(model: nn.Module) -> nn.Module | None:
    """Return the model inside DistributedDataParallel or torch.compile, None if there is none."""
    inner: nn.Module | None = getattr(model, "module", getattr(model, "_orig_mod", None))
    return inner


def cache_argument(model: PreTrainedModel) -> str:
    """Return the name by which a decoder takes its key-value cache.

    ``past_key_values`` was renamed to ``cache`` in transformers 5.
    """
    return "cache" if "cache" in _parameters(model) else "past_key_values"


def switch_token_dropout_off(model: nn.Module) -> None:
    """Give the visible embeddings of ESM the size of its training, whatever is masked.

    ESM zeroes the embeddings of masks and multiplies the others by 0.88 / (1 - masked share): about
    1 at the 12 % of its training, 88 where one of 100 tokens is visible, and not a number where
    none is. Here masks stay zero and the factor is 1. The configuration keeps its word.
    """
    module: Any
    for module in model.modules():
        if getattr(module, "token_dropout", None) is not True:
            continue
        module.token_dropout = False
        mask = module.mask_token_id

        def zeroed(_module: nn.Module, args: Any, output: Tensor, mask: Any = mask) -> Tensor:
            return output.masked_fill((args[0] == mask)[..., None], 0.0)

        module.word_embeddings.register_forward_hook(zeroed)


def missing_arguments(model: PreTrainedModel, *names: str) -> list[str]:
    """Return those of the names that are no declared argument of the model's ``forward``."""
    return [name for name in names if name not in _parameters(model)]


def _parameters(model: PreTrainedModel) -> Any:
    forward: Any = model.forward
    return inspect.signature(forward).parameters


# --- attention ---


def attention_of(model: PreTrainedModel) -> str | None:
    """Return the name of the attention that a model computes: ``sdpa``, ``eager``, ..."""
    return model.config._attn_implementation


def lets_attention_be_replaced(model: PreTrainedModel) -> bool:
    """Return whether the layers of a model call the attention that is registered under a name."""
    return bool(model._supports_attention_backend)


# --- files ---


def fetched(name: str, file: str) -> Path | None:
    """Return one file of a model on the hub, from the cache or downloaded.

    Args:
        name: A hub id.
        file: Name of the file.

    Returns:
        None if the model has no such file, or the hub cannot be reached and the file is not in the
        cache.
    """
    try:
        found = cached_file(name, file)
    except OSError:
        return None
    return None if found is None else Path(found)


# --- training ---


def schedule_names() -> list[str]:
    """Return the names of the learning-rate schedules.

    The one that waits for the validation bound is left out: it needs the bound after every step.
    """
    return [kind.value for kind in SchedulerType if kind is not SchedulerType.REDUCE_ON_PLATEAU]


def optimizer_names() -> list[str]:
    """Return the names of the optimisers of ``TrainingArguments``."""
    return [kind.value for kind in OptimizerNames]


def reporters(arguments: TrainingArguments) -> list[Any]:
    """Return the callback classes of the services that a run reports to.

    Raises:
        ValueError: If there is no such service.
    """
    return list(get_reporting_integration_callbacks(arguments.report_to))


def load_weights(trainer: Trainer, folder: Path) -> None:
    """Give the model of a trainer the weights of a checkpoint, those of parts of ours included."""
    trainer._load_from_checkpoint(str(folder))


def use_one_gpu(arguments: TrainingArguments) -> None:
    """Keep the Trainer from splitting rows over several GPUs of one process."""
    arguments._n_gpu = min(arguments.n_gpu, 1)


# --- what the processor and this build of torch can do ---


def computes_bfloat16() -> bool:
    """Return whether the processor has instructions for bfloat16."""
    known = torch.cpu.get_capabilities()
    return bool(known.get("avx512_bf16") or known.get("amx_tile"))


def is_traced() -> bool:
    """Return whether what runs now is only followed, to be made a graph for elsewhere."""
    traced = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return bool(traced or torch.compiler.is_compiling())


def can_pack() -> bool:
    """Return whether this build of torch lays out weights for the processor; see ``packed``."""
    names = ("_reorder_linear_weight", "_linear_pointwise")
    known = torch.backends.mkldnn.is_available()
    return known and all(hasattr(torch.ops.mkldnn, name) for name in names)


def packed_weight(weight: Tensor) -> Tensor:
    """Return a copy of a matrix W (out, in), float32, laid out for ``packed_product``."""
    copy: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous())
    return copy


def packed_product(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    """Return x W^T + b, shape (..., out), for x (..., in) and the ``packed_weight`` of W."""
    result: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
    return result


def product_of_int8(x: Tensor, weight: Tensor) -> Tensor:
    """Return x W^T, shape (N, out), int32, for x (N, in) and W (out, in), both int8."""
    return torch._int_mm(x, weight.T)


def version_of(tensor: Tensor) -> int:
    """Return a number that grows with every change of a tensor in place."""
    return tensor._version


# --- what the libraries print ---


def set_bars(shown: bool) -> bool:
    """Show or hide the progress bars of transformers; return whether they were shown before."""
    before = bool(logging.is_progress_bar_enabled())
    switch: Any = logging.enable_progress_bar if shown else logging.disable_progress_bar
    switch()
    return before


def quiet_transformers() -> None:
    """Switch off the progress bars of transformers, and all its log messages but errors."""
    logging.disable_progress_bar()
    logging.set_verbosity_error()


def mend_generation_config(model: PreTrainedModel) -> None:
    """Take the defaults where ``generation_config.json`` holds what the library will not save."""
    kept = getattr(model, "generation_config", None)
    if kept is None:
        return
    try:
        kept.validate(strict=True)
    except ValueError:
        model.generation_config = type(kept).from_model_config(model.config)
