"""Calling a network: without dropout, with repeatable noise, with its head at some positions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from unmask.models.exclusive import exclusive
from unmask.models.time_conditioning import conditioning_of


def logits_of(
    model: PreTrainedModel, ids: Tensor, mask: Tensor | None = None, draws: bool = False
) -> Tensor:
    """Return the logits of a bare model, at time 1 if it has time conditioning.

    Args:
        model: A masked language model.
        ids: Shape (B, L), int64.
        mask: Shape (B, L), int64; 0 on padding, None for no padding.
        draws: Whether the model draws random numbers; see ``traits.Traits``.

    Returns:
        Shape (B, L, V).
    """
    conditioning = conditioning_of(model)
    t = torch.ones(len(ids), device=ids.device)
    at_time = nullcontext() if conditioning is None else conditioning.at(t)
    network: Any = model
    with at_time, repeatable(draws, ids.device):
        answer: Tensor = network(input_ids=ids, attention_mask=mask).logits
    return answer


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Context in which a model runs without dropout; each module gets its mode back afterwards."""
    training = [part for part in model.modules() if part.training]
    model.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


@contextmanager
def repeatable(draws: bool, device: torch.device) -> Iterator[None]:
    """Context in which a network that draws random numbers draws the same ones every time."""
    if not draws:
        yield
        return
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(0)
        yield


@contextmanager
def only_at(model: PreTrainedModel, at: Tensor | tuple[Tensor, ...] | None) -> Iterator[None]:
    """Context in which the model's head runs on the positions ``at`` only, as a single row.

    The hook would apply to calls of other threads too, so these wait.

    Args:
        model: A masked language model, bare.
        at: Shape (B, L), bool; or rows and columns, two of shape (N,), int64; None for all.
    """

    def keep(_module: nn.Module, _args: Any, output: Any) -> Any:
        output.last_hidden_state = output.last_hidden_state[at][None]
        return output

    with exclusive(model):
        handle = None if at is None else model.base_model.register_forward_hook(keep)
        try:
            yield
        finally:
            if handle is not None:
                handle.remove()
