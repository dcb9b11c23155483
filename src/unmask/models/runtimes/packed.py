"""Linear layers in float32 with weights packed for the processor, for generation on a CPU.

A product with few rows spends its time on rearranging the weights for the instructions of the
processor. oneDNN can do that once and keep the result. Only the order of summation differs from
torch's own product; results agree to rounding, about 1e-6 here.
"""

from __future__ import annotations

import os
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import PreTrainedModel

from unmask.errors import UserError
from unmask.models import compat
from unmask.models.compat import Conv1D


class PackedLinear(nn.Linear):
    """A linear layer that keeps a packed copy of its weights.

    The copy is made on first use and again when the weights have changed. With gradients, on
    another device and in another precision the layer computes as torch does.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return x W^T + b, shape (..., out), for x of shape (..., in)."""
        if not _can_pack(x, self.weight):
            return linear(x, self.weight, self.bias)
        return compat.packed_product(x, _packed(self, self.weight), self.bias)


class PackedConv1D(Conv1D):
    """The same for GPT-2's linear layer, whose weights are transposed."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x W + b, shape (..., out), for x of shape (..., in)."""
        if not _can_pack(x, self.weight):
            plain: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
            return plain
        return compat.packed_product(x, _packed(self, self.weight.T), self.bias)


def pack(model: PreTrainedModel) -> PreTrainedModel:
    """Make every linear layer of a model compute with a packed copy; returns the model.

    The model's weights, names and hooks are unchanged, so it is trained and saved as before.

    Raises:
        UserError: If this build of torch has no oneDNN.
    """
    if not available():
        raise UserError("this build of torch has no oneDNN, which --backend torch-packed needs")
    limit_memory()
    for layer in layers_of(model):
        layer.__class__ = PackedConv1D if isinstance(layer, Conv1D) else PackedLinear
    return model


def layers_of(model: nn.Module) -> list[nn.Linear | Conv1D]:
    """Return the layers that ``pack`` changes, in the order of the model."""
    return [m for m in model.modules() if type(m) is nn.Linear or type(m) is Conv1D]


def width(layer: nn.Linear | Conv1D) -> int:
    """Return the number of input features of a layer."""
    return int(layer.weight.shape[0 if isinstance(layer, Conv1D) else 1])


def plain(layer: nn.Linear | Conv1D, x: Tensor) -> Tensor:
    """Return the output of a layer of ``layers_of``, without hooks."""
    result: Tensor = layer.forward(x)
    return result


def product(layer: nn.Linear | Conv1D, x: Tensor) -> Tensor:
    """Return the output of the packed layer, without changing the layer and without hooks."""
    kind: Any = PackedConv1D if isinstance(layer, Conv1D) else PackedLinear
    result: Tensor = kind.forward(layer, x)
    return result


def forget(model: nn.Module) -> None:
    """Free the packed copies of a model; a packed layer makes a new one on its next call."""
    for layer in model.modules():
        _COPIES.pop(layer, None)


def available() -> bool:
    """Return whether this build of torch can pack."""
    return compat.can_pack()


def limit_memory() -> None:
    """Limit the caches of oneDNN and torch; only effective before a process uses oneDNN."""
    # For every number of rows each keeps half a megabyte, up to a thousand times. They read these
    # variables once, when oneDNN is first used.
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, "12")


def _can_pack(x: Tensor, weight: Tensor) -> bool:
    learning = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    same = x.dtype == weight.dtype == torch.float32 and x.device.type == weight.device.type == "cpu"
    traced = compat.is_traced()
    return same and not learning and not traced and not torch.is_autocast_enabled("cpu")


# Not stored in the layers, since such tensors cannot be copied or saved.
_COPIES: WeakKeyDictionary[nn.Module, tuple[tuple[int, int], Tensor]] = WeakKeyDictionary()


def _packed(layer: nn.Linear | Conv1D, weight: Tensor) -> Tensor:
    """Return a layer's packed copy of ``weight``, shape (out, in)."""
    made_from = (compat.version_of(layer.weight), layer.weight.data_ptr())
    known = _COPIES.get(layer)
    if known is None or known[0] != made_from:
        known = _COPIES[layer] = (made_from, compat.packed_weight(weight))
    return known[1]
