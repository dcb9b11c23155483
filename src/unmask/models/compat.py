"""Private and version-dependent names of the libraries, all in this one place.

Every function here has a canary test in ``tests/models/test_compat.py``, which fails and names the
function when a release of torch, transformers or datasets moves a name. Two more names cannot be
here, since a subclass overrides or sets them: ``Trainer._save_checkpoint`` and
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
from transformers.modeling_outputs import BaseModelOutput, MaskedLMOutput
from transformers.pytorch_utils import Conv1D
from transformers.trainer_utils import SchedulerType
from transformers.training_args import OptimizerNames
from transformers.utils import logging
from transformers.utils.hub import cached_file

__all__ = [
    "BaseModelOutput",
    "BaseStreamer",
    "Conv1D",
    "MaskedLMOutput",
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
    """Return whether loading failed because a model needs custom code, which is not run."""
    return isinstance(error, ValueError) and "trust_remote_code" in str(error)


def masked_types() -> list[str]:
    """Return the types of all architectures with a masked language model."""
    return sorted(config.model_type for config in MODEL_FOR_MASKED_LM_MAPPING)


def can_classify(config: Any) -> bool:
    """Return whether a configuration has a sequence classifier."""
    return type(config) in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING


def wrapped_in(model: nn.Module) -> nn.Module | None:
    """Return the model inside DistributedDataParallel or torch.compile, None if there is none."""
    inner: nn.Module | None = getattr(model, "module", getattr(model, "_orig_mod", None))
    return inner


def cache_argument(model: PreTrainedModel) -> str:
    """Return the argument name of a decoder's key-value cache.

    ``past_key_values`` was renamed to ``cache`` in transformers 5.
    """
    return "cache" if "cache" in _parameters(model) else "past_key_values"


def switch_token_dropout_off(model: nn.Module) -> None:
    """Remove the scaling of ESM's embeddings by the share of masks.

    ESM zeroes the embeddings of masks and multiplies the others by 0.88 / (1 - masked share): about
    1 at the 12 % of its training, 88 if one of 100 tokens is visible, and NaN if none is. Here
    masks stay zero and the factor is 1. The configuration is unchanged.
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
    """Return the names that are not declared arguments of the model's ``forward``."""
    return [name for name in names if name not in _parameters(model)]


def _parameters(model: PreTrainedModel) -> Any:
    forward: Any = model.forward
    return inspect.signature(forward).parameters


# --- attention ---


def attention_of(model: PreTrainedModel) -> str | None:
    """Return the attention implementation of a model: ``sdpa``, ``eager``, ..."""
    return model.config._attn_implementation


def lets_attention_be_replaced(model: PreTrainedModel) -> bool:
    """Return whether the layers of a model call attention functions registered by name."""
    return bool(model._supports_attention_backend)


# --- files ---


def fetched(name: str, file: str) -> Path | None:
    """Return one file of a model on the hub, from the cache or downloaded.

    Args:
        name: A hub id.
        file: Name of the file.

    Returns:
        None if the model has no such file, or if the hub cannot be reached and the file is not in
        the cache.
    """
    try:
        found = cached_file(name, file)
    except OSError:
        return None
    return None if found is None else Path(found)


# --- training ---


def schedule_names() -> list[str]:
    """Return the names of the learning-rate schedules.

    The schedule that follows the validation bound is left out: it needs the bound at every step.
    """
    return [kind.value for kind in SchedulerType if kind is not SchedulerType.REDUCE_ON_PLATEAU]


def optimizer_names() -> list[str]:
    """Return the names of the optimisers of ``TrainingArguments``."""
    return [kind.value for kind in OptimizerNames]


def reporters(arguments: TrainingArguments) -> list[Any]:
    """Return the callback classes of the services that a training run reports to.

    Raises:
        ValueError: If there is no such service.
    """
    return list(get_reporting_integration_callbacks(arguments.report_to))


def load_weights(trainer: Trainer, folder: Path) -> None:
    """Load the weights of a checkpoint into the model of a trainer, extra weights included."""
    trainer._load_from_checkpoint(str(folder))


def use_one_gpu(arguments: TrainingArguments) -> None:
    """Keep the Trainer from splitting rows over several GPUs of one process."""
    arguments._n_gpu = min(arguments.n_gpu, 1)


# --- capabilities of the processor and of this build of torch ---


def computes_bfloat16() -> bool:
    """Return whether the processor has instructions for bfloat16."""
    known = torch.cpu.get_capabilities()
    return bool(known.get("avx512_bf16") or known.get("amx_tile"))


def is_traced() -> bool:
    """Return whether the current call is traced, exported or compiled."""
    traced = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return bool(traced or torch.compiler.is_compiling())


def can_pack() -> bool:
    """Return whether this build of torch can pack weights; see ``runtimes.packed``."""
    names = ("_reorder_linear_weight", "_linear_pointwise")
    known = torch.backends.mkldnn.is_available()
    return known and all(hasattr(torch.ops.mkldnn, name) for name in names)


def packed_weight(weight: Tensor) -> Tensor:
    """Return a packed copy of a matrix W (out, in), float32, for ``packed_product``."""
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
    """Return a counter that increases with every in-place change of a tensor."""
    return tensor._version


# --- output of the libraries ---


def set_bars(shown: bool) -> bool:
    """Show or hide the progress bars of transformers; return whether they were shown before."""
    before = bool(logging.is_progress_bar_enabled())
    switch: Any = logging.enable_progress_bar if shown else logging.disable_progress_bar
    switch()
    return before


def quiet_transformers() -> None:
    """Switch off the progress bars of transformers and all log messages below errors."""
    logging.disable_progress_bar()
    logging.set_verbosity_error()


def mend_generation_config(model: PreTrainedModel) -> None:
    """Replace a ``generation_config.json`` that the library refuses to save by the defaults."""
    kept = getattr(model, "generation_config", None)
    if kept is None:
        return
    try:
        kept.validate(strict=True)
    except ValueError:
        model.generation_config = type(kept).from_model_config(model.config)
