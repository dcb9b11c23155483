"""The precision of a training run, tried on one row before anything is written.

Not every network runs in the precision that suits the machine: one takes a Fourier transform,
another creates constants of its own in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import default_collate
from transformers import PreTrainedModel

from unmask.diffusion.schedules.grids import stratified_times
from unmask.errors import UserError
from unmask.models import compat
from unmask.training.datasets import Material
from unmask.training.loss import Loss

NOT_FINITE = "the loss is not finite"


def use_bf16(setting: str) -> bool:
    """Return whether to compute in bfloat16: ``on``, ``off``, or what suits this machine."""
    if setting != "auto":
        return setting == "on"
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return compat.computes_bfloat16()


def settle(
    loss: Loss, model: PreTrainedModel, material: Material, report: Callable[[str], None]
) -> bool:
    """Return whether to train in bfloat16, after one forward and one backward pass on one row.

    Args:
        loss: The objective; its recipe names the precision.
        model: The network, on the device on which it is trained.
        material: The data.
        report: Called with a line if the network cannot be trained in bfloat16.

    Raises:
        UserError: If the network cannot be trained in the wanted precision, or in none.
    """
    setting, kind = loss.recipe.training.bf16, model.config.model_type
    wanted = use_bf16(setting)
    in_bf16 = _attempt(loss, model, material, bf16=True) if wanted else None
    if wanted and in_bf16 is None:
        return True
    if setting == "on":
        raise UserError(
            f"a {kind} model cannot be trained in bfloat16 here ({in_bf16}); "
            "pass --set training.bf16=off"
        )
    failed = _attempt(loss, model, material, bf16=False)
    if failed not in (None, NOT_FINITE):
        length = loss.recipe.data.length
        raise UserError(
            f"a {kind} model cannot be trained on rows of {length} tokens here ({failed})"
        )
    # If the loss is finite in neither, the first step raises.
    if wanted and failed is None:
        report(f"a {kind} model cannot be trained in bfloat16 here, so it is trained in float32")
    return False


def _attempt(loss: Loss, model: PreTrainedModel, material: Material, bf16: bool) -> str | None:
    """Return the error of a step on one row, None if there is none."""
    device = model.device
    items: dict[str, Any] = default_collate([material.items[0]])
    items = {name: value.to(device) for name, value in items.items()}
    generator = torch.Generator(device).manual_seed(loss.recipe.training.seed)
    batch = material.batcher(items, generator)
    training = model.training
    # Dropout must not advance the generators of the run.
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                nats = loss(model.train(), batch, stratified_times(1, generator), generator)
            nats.backward()
            finite = bool(torch.isfinite(nats))
        except (UserError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            # Each architecture raises its own kind of error.
            return (str(error).splitlines() or [type(error).__name__])[0]
        finally:
            model.zero_grad(set_to_none=True)
            model.train(training)
    return None if finite else NOT_FINITE
