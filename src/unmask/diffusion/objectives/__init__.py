"""Objectives: the bounds that a denoiser is trained on and evaluated by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unmask._names.lazy import lazy

if TYPE_CHECKING:
    from unmask.diffusion.objectives.any_order import order_nelbo, order_token_nats
    from unmask.diffusion.objectives.block import block_nelbo
    from unmask.diffusion.objectives.chain_rule import (
        block_token_nats,
        pseudo_token_nats,
        sequential_token_nats,
    )
    from unmask.diffusion.objectives.masked import (
        Loss,
        continuous_nelbo,
        discrete_nelbo,
        exact_k_nelbo,
        exact_k_token_nats,
        masked_mean,
    )
    from unmask.diffusion.objectives.per_token import (
        rloo_nelbo,
        tokenwise_discrete_nelbo,
        tokenwise_last_step_nelbo,
        tokenwise_nelbo,
    )
    from unmask.diffusion.objectives.transition import transition_nelbo, uniform_nelbo

__all__ = [
    "Loss",
    "block_nelbo",
    "block_token_nats",
    "continuous_nelbo",
    "discrete_nelbo",
    "exact_k_nelbo",
    "exact_k_token_nats",
    "masked_mean",
    "order_nelbo",
    "order_token_nats",
    "pseudo_token_nats",
    "rloo_nelbo",
    "sequential_token_nats",
    "tokenwise_discrete_nelbo",
    "tokenwise_last_step_nelbo",
    "tokenwise_nelbo",
    "transition_nelbo",
    "uniform_nelbo",
]

__getattr__, __dir__ = lazy(__name__)
