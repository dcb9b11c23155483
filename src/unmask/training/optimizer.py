"""Muon for the matrices of a network, AdamW for the rest, as one optimiser for the Trainer.

Both are torch's own. Muon steps along an orthogonalised momentum, scaled so that the learning rate
means the same as AdamW's; embeddings, norms, biases and the output layer stay with AdamW.

References: Jordan et al. 2024, "Muon"; Liu et al. 2025, "Muon is Scalable for LLM Training",
arXiv:2502.16982 (the scaling).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel


class Together(torch.optim.Optimizer):
    """Several optimisers over disjoint parameters as one.

    Args:
        optimizers: Each keeps its own state; their parameter groups are shared with this object, so
            that a learning-rate schedule reaches all of them.
    """

    def __init__(self, *optimizers: torch.optim.Optimizer) -> None:
        self.optimizers = optimizers
        # Some schedules read the highest rate from here.
        defaults = {"lr": optimizers[0].defaults["lr"]}
        super().__init__([group for o in optimizers for group in o.param_groups], defaults)

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step with each."""
        loss = closure() if closure is not None else None
        for optimizer in self.optimizers:
            optimizer.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return the states of all, in order."""
        return {"optimizers": [optimizer.state_dict() for optimizer in self.optimizers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the states of all and share their parameter groups again."""
        for optimizer, state in zip(self.optimizers, state_dict["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        self.param_groups = [group for o in self.optimizers for group in o.param_groups]


def muon(
    model: PreTrainedModel, learning_rate: float, weight_decay: float, beta2: float
) -> Together:
    """Return Muon on the body's matrices and AdamW on everything else.

    Args:
        model: The network.
        learning_rate: The highest learning rate, of both.
        weight_decay: Decoupled weight decay of the matrices.
        beta2: Second moment decay of AdamW.
    """
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    tables.add(id(model.get_output_embeddings().weight))
    matrices = [p for p in model.parameters() if p.ndim == 2 and id(p) not in tables]
    chosen = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    return Together(
        torch.optim.Muon(
            matrices,
            lr=learning_rate,
            weight_decay=weight_decay,
            adjust_lr_fn="match_rms_adamw",
        ),
        torch.optim.AdamW(rest, lr=learning_rate, betas=(0.9, beta2), weight_decay=0.0, fused=True),
    )


def with_own_rate(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, rate: float) -> None:
    """Give one parameter of an optimiser a learning rate of its own, and no weight decay."""
    for group in optimizer.param_groups:
        kept = [p for p in group["params"] if p is not parameter]
        if len(kept) < len(group["params"]):
            own = {**group, "params": [parameter], "lr": rate, "weight_decay": 0.0}
            group["params"] = kept
            home = _home(optimizer, group)
            home.add_param_group(own)
            if home is not optimizer:
                optimizer.param_groups.append(home.param_groups[-1])
            return


def _home(optimizer: torch.optim.Optimizer, group: dict[str, Any]) -> torch.optim.Optimizer:
    """Return the optimiser that steps a group: itself, or one of several that act together."""
    parts = optimizer.optimizers if isinstance(optimizer, Together) else (optimizer,)
    return next(part for part in parts if any(own is group for own in part.param_groups))
