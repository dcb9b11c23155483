"""Conditioning an encoder on the time t by hooks, without touching its code.

    none       no conditioning; the prediction depends on the visible tokens only
    prefix     a token e(t) before all others, attended to like them, its output dropped
    layerwise  h <- h + MLP_l(sinusoid(t))            h: output of the attention of layer l
    adaln      h <- (1 + scale(t)) * h + shift(t)     h: output of each norm in or after the layers
    input      the network has an input for the time, such as a U-Net

``layerwise`` and ``adaln`` are initialised to zero, so that a pretrained network is unchanged at
the start. If all tokens share one schedule, nothing is lost without t; otherwise the optimal
prediction depends on t.
Layers are found by their number, attention and norms by their class names.

References: He et al. 2022, "DiffusionBERT", arXiv:2211.15029 (prefix and layerwise); Shi et al.
2024, "MD4", arXiv:2406.04329, and Peebles & Xie 2022, arXiv:2212.09748 (adaln).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from unmask.errors import UserError
from unmask.models.exclusive import exclusive
from unmask.validation import Option, word

DESIGNS = ("none", "prefix", "layerwise", "adaln", "input")
NAME = "unmask_time"
"""The submodule of the model under which its time conditioning is trained and saved."""

_DESIGN = Option("", word, choices=DESIGNS)
_EXTRA = (f"{NAME}.", "unmask_schedule.", "unmask_pixels.")
_FEATURES, _INNER, _COND = 64, 256, 64

Signals = list[tuple[Tensor, ...]]
"""The signals of one call in the order of the hooks; each tensor of shape (B, D)."""


class TimeConditioning(nn.Module):
    """The weights and hooks that condition a model on the time; see ``attach``.

    The hooks are permanent: such a model cannot be called without a time. They read the time of the
    innermost ``at``, so calls in several threads wait for each other. Gradient checkpointing runs
    layers again in the backward pass, which then has to be inside ``at`` too.

    Attributes:
        design: One of ``DESIGNS``.
        extra_tokens: Number of the model's positions that it uses.
    """

    design: str
    extra_tokens = 0

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self._time: Tensor | None = None
        self._signals: Signals = []
        # Bound methods rather than closures, so that a deep copy of the model has its own hooks.
        body.register_forward_pre_hook(self._begin)

    @contextmanager
    def at(self, t: Tensor) -> Iterator[None]:
        """Context in which row i of every call of the model is at time ``t[i]``.

        Args:
            t: Times, shape (B,), in [0, 1]; 0 = clean, 1 = all masked. Any floating dtype.
        """
        with exclusive(self):
            before = self._time
            self._time = t
            try:
                yield
            finally:
                self._time = before
                self._signals = []

    def _current(self) -> Tensor:
        """Return the time of the current call."""
        if self._time is None:
            raise UserError(
                f"this model is conditioned on the time ({NAME}: {self.design}); "
                "call it within conditioning.at(t)"
            )
        return self._time

    def _begin(self, _body: nn.Module, _args: Any) -> None:
        time = self._current()
        # A bfloat16 sinusoid would be too coarse: always in the precision of the weights.
        with torch.autocast(time.device.type, enabled=False):
            self._signals = self(time)

    def _sinusoid(self, t: Tensor, width: int) -> Tensor:
        """Return ``sinusoid`` in the dtype of the weights, shape (B, width)."""
        return sinusoid(t, width).to(next(self.parameters()).dtype)

    def _signal(self, index: int, like: Tensor) -> list[Tensor]:
        """Return the signals of a hook, to broadcast over the axes between batch and width."""
        if not self._signals:
            raise UserError("a layer ran without a time; its backward pass must be within at(t)")
        signals = self._signals[index]
        if signals[0].shape[-1] != like.shape[-1]:
            # The layer has another width than the model, or its width is not the last axis.
            raise UserError(f"the time conditioning {self.design!r} does not fit this architecture")
        inner = (1,) * (like.ndim - 2)
        return [x.to(like.dtype).view(len(x), *inner, -1) for x in signals]


class _Prefix(TimeConditioning):
    """A token before all others, whose embedding is an MLP of the time."""

    design = "prefix"
    extra_tokens = 1

    def __init__(self, model: PreTrainedModel) -> None:
        body: Any = model.base_model
        if "inputs_embeds" not in inspect.signature(body.forward).parameters:
            raise _missing(model, self.design, "an input for embeddings")
        super().__init__(body)
        words: Any = body.get_input_embeddings()
        self.token = _mlp(words.embedding_dim)
        with torch.no_grad():
            # Scaled like the embedding of a token, which the network can read.
            spread = self.token(sinusoid(torch.linspace(0, 1, 101), _FEATURES).float()).std()
            gain = words.weight.float().std().cpu() / spread
            last: Any = self.token[-1]
            last.weight.mul_(gain)
            last.bias.mul_(gain)
        body.register_forward_pre_hook(self._lengthen, with_kwargs=True)
        body.register_forward_hook(self._shorten)

    def forward(self, t: Tensor) -> Signals:
        return [(self.token(self._sinusoid(t, _FEATURES)),)]

    def _lengthen(self, body: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        given = dict(zip(inspect.signature(body.forward).parameters, args, strict=False)) | kwargs
        ids, words, mask = (
            given.pop(key, None) for key in ("input_ids", "inputs_embeds", "attention_mask")
        )
        words = body.get_input_embeddings()(ids) if words is None else words
        (token,) = self._signal(0, words)
        if mask is not None:
            mask = torch.cat([mask.new_ones(len(mask), 1), mask], 1)
        # (B, 1 + L, E)
        return (), given | {"inputs_embeds": torch.cat([token, words], 1), "attention_mask": mask}

    def _shorten(self, _body: nn.Module, _args: Any, output: Any) -> Any:
        output.last_hidden_state = output.last_hidden_state[:, 1:]
        return output


class _Layerwise(TimeConditioning):
    """An MLP of the time for each layer, added to the output of its attention."""

    design = "layerwise"

    def __init__(self, model: PreTrainedModel) -> None:
        found = [_attention(layer) for layer in _layers(model, self.design)]
        attentions = [attention for attention in found if attention is not None]
        if len(attentions) < len(found):
            raise _missing(model, self.design, "an attention in each layer")
        super().__init__(model.base_model)
        self._width = width = int(model.config.hidden_size)
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Linear(width, 2 * width), nn.ReLU(), _zeros(nn.Linear(2 * width, width))
            )
            for _ in attentions
        )
        for index, attention in enumerate(attentions):
            attention.register_forward_hook(partial(self._add, index))

    def forward(self, t: Tensor) -> Signals:
        time = self._sinusoid(t, self._width)
        return [(layer(time),) for layer in self.layers]

    def _add(self, index: int, _module: nn.Module, _args: Any, output: Any) -> Any:
        hidden, *rest = output if isinstance(output, tuple) else (output,)
        (time,) = self._signal(index, hidden)
        return (hidden + time, *rest) if isinstance(output, tuple) else hidden + time


class _AdaLN(TimeConditioning):
    """A scale and a shift after every norm, from a shared small embedding of the time."""

    design = "adaln"

    def __init__(self, model: PreTrainedModel) -> None:
        norms = _norms(model.base_model, _layers(model, self.design))
        if not norms:
            raise _missing(model, self.design, "norms in the layers")
        super().__init__(model.base_model)
        self._widths = [norm.weight.numel() for norm in norms]
        self.cond = _mlp(_COND)
        self.heads = _zeros(nn.Linear(_COND, 2 * sum(self._widths)))
        for index, norm in enumerate(norms):
            norm.register_forward_hook(partial(self._modulate, index))

    def forward(self, t: Tensor) -> Signals:
        cond = nn.functional.silu(self.cond(self._sinusoid(t, _FEATURES)))
        scales, shifts = self.heads(cond).chunk(2, -1)
        pairs = zip((1 + scales).split(self._widths, 1), shifts.split(self._widths, 1), strict=True)
        return list(pairs)

    def _modulate(self, index: int, _module: nn.Module, _args: Any, output: Tensor) -> Tensor:
        if output.ndim < 3:
            # Some networks apply a norm to a table of relative positions, which is not conditioned.
            return output
        scale, shift = self._signal(index, output)
        return torch.addcmul(shift, output, scale)


class _Input(TimeConditioning):
    """The network's own input for the time, an attribute ``time`` of its body; no weights."""

    design = "input"

    def __init__(self, model: PreTrainedModel) -> None:
        if not hasattr(model.base_model, "time"):
            raise _missing(model, self.design, "an input for the time")
        super().__init__(model.base_model)

    def _begin(self, body: nn.Module, _args: Any) -> None:
        body.time = self._current()


def attach(model: PreTrainedModel, design: str) -> TimeConditioning | None:
    """Condition a model on the time, by a submodule ``unmask_time``.

    Args:
        model: A masked language model, bare.
        design: One of ``DESIGNS``.

    Returns:
        The new module, None for ``none``.

    Raises:
        UserError: If there is no such design, the model lacks the parts that it needs, or the model
            has time conditioning already. The model is then unchanged.
    """
    _DESIGN("time conditioning", design)
    present = conditioning_of(model)
    if present is not None:
        raise UserError(f"the model has time conditioning already, {present.design!r}")
    if design == "none":
        return None
    kinds: tuple[type[Any], ...] = (_Prefix, _Layerwise, _AdaLN, _Input)
    kind = next(kind for kind in kinds if kind.design == design)
    conditioning: TimeConditioning = kind(model).to(model.device, model.dtype)
    model.add_module(NAME, conditioning)
    return conditioning


def conditioning_of(model: nn.Module) -> TimeConditioning | None:
    """Return the time conditioning of a bare model, None if it has none."""
    return getattr(model, NAME, None)


def split_state(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the weights of an ordinary checkpoint, and those added by this package."""
    extra = {key: value for key, value in state.items() if key.startswith(_EXTRA)}
    return {key: value for key, value in state.items() if key not in extra}, extra


def sinusoid(t: Tensor, width: int) -> Tensor:
    """Return sines and cosines of 1000 t.

        [sin(1000 t f_i), cos(1000 t f_i)],   f_i = 10000^(-i / (width / 2 - 1)),  i < width / 2

    Args:
        t: Times, shape (B,).
        width: Even.

    Returns:
        Shape (B, width), float64.
    """
    steps = torch.linspace(0, 1, width // 2, dtype=torch.float64, device=t.device)
    angles = 1000 * t.double()[:, None] * torch.exp(-math.log(10_000) * steps)
    return torch.cat([angles.sin(), angles.cos()], 1)


def _mlp(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(_FEATURES, _INNER), nn.SiLU(), nn.Linear(_INNER, width))


def _zeros(linear: nn.Linear) -> nn.Linear:
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


def _layers(model: PreTrainedModel, design: str) -> nn.ModuleList:
    """Return the outermost module list that has as many entries as the model has layers."""
    count = getattr(model.config, "num_hidden_layers", None)
    for module in model.base_model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    # A shared layer (ALBERT) is listed once but runs at several depths.
    raise _missing(model, design, "a list of its layers")


def _attention(layer: nn.Module) -> nn.Module | None:
    return next((m for m in layer.children() if "attention" in type(m).__name__.lower()), None)


def _norms(body: nn.Module, layers: nn.ModuleList) -> list[Any]:
    """Return every norm with a weight in the layers, then the final norms if there are any."""
    found = [m for m in layers.modules() if _is_norm(m)]
    for parent in body.modules():
        children = list(parent.children())
        for place, child in enumerate(children):
            # Modules declared after the layers, in any enclosing module, run after them.
            if any(m is layers for m in child.modules()):
                found += [m for m in children[place + 1 :] if _is_norm(m)]
    return found


def _is_norm(module: nn.Module) -> bool:
    weighted = getattr(module, "weight", None) is not None
    return weighted and type(module).__name__.lower().endswith("norm")


def _missing(model: PreTrainedModel, design: str, part: str) -> UserError:
    others = ", ".join(other for other in DESIGNS if other != design)
    return UserError(
        f"{type(model).__name__} does not have {part}, which the time conditioning {design!r} "
        f"needs; choose one of {others}"
    )
