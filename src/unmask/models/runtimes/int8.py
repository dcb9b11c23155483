r"""Linear layers in eight bits, for generation on a CPU.

    y = (X W^T) * s_x * s_w + b     X = round(x / s_x), s_x = max|x| / 127 for every token
                                    W = round(w / s_w), s_w = max|w| / 127 for every output

Symmetric, in integers from -127 to 127, and exact between the two roundings ("vector-wise" in
Dettmers et al. 2022, "LLM.int8()", arXiv:2208.07339, Section 2). With a scale for every token, not
one for the whole tensor, a row does not depend on its batch, and an outlier in one token does not
reduce the precision of the others.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from unmask.diffusion.capabilities import require
from unmask.errors import UserError, explained
from unmask.models.compat import Conv1D, product_of_int8
from unmask.models.extra_weights import kinds_of
from unmask.models.traits import shortest_row


class Int8Linear(nn.Module):
    """A linear layer with weights in eight bits, without gradients.

    Args:
        linear: The layer in floating point, or GPT-2's with transposed weights; it is unchanged.
    """

    weight: Tensor
    scale: Tensor

    def __init__(self, linear: nn.Linear | Conv1D) -> None:
        super().__init__()
        weights = linear.weight.detach().float()
        weights = weights.T.contiguous() if isinstance(linear, Conv1D) else weights
        self.out_features, self.in_features = weights.shape
        weight, scale = _in_eight_bits(weights)
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale[:, 0])
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """Return x W^T + b, shape (..., out), for x of shape (..., in)."""
        rows, scale = _in_eight_bits(x.reshape(-1, self.in_features))
        # Multiplying integers by floats converts them in the same pass.
        y = product_of_int8(rows, self.weight) * scale
        y = y.mul_(self.scale) if self.bias is None else torch.addcmul(self.bias, y, self.scale)
        return y.view(*x.shape[:-1], self.out_features)


def quantise(model: PreTrainedModel) -> PreTrainedModel:
    """Replace every linear layer of a model on the CPU by an ``Int8Linear``; returns the model.

    Raises:
        UserError: If the model has time conditioning, reads the weights of its linear layers, or
            this build of torch has no fast product of integers. The model may then be changed.
    """
    require(kinds_of(model), "eight_bits")
    if not torch.backends.mkldnn.is_available():
        raise UserError("this build of torch has no oneDNN, which --backend torch-int8 needs")
    layers: dict[nn.Module, Int8Linear] = {}
    for parent in list(model.modules()):
        for name, layer in parent.named_children():
            if type(layer) is nn.Linear or type(layer) is Conv1D:
                setattr(parent, name, layers.setdefault(layer, Int8Linear(layer)))
    _try(model)
    return model


@torch.no_grad()
def _try(model: PreTrainedModel) -> None:
    """Call a model once, since some read the weights of a layer instead of calling it."""
    what = f"{type(model).__name__} cannot compute in eight bits"
    with explained(what, "use --backend torch", (UserError,), keep=()):
        shortest_row(model)


def _in_eight_bits(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows of x (N, D) as int8 and their scales (N, 1)."""
    scale = x.abs().amax(1, keepdim=True).div_(127).clamp_min_(torch.finfo(x.dtype).tiny)
    return (x / scale).round_().to(torch.int8), scale
