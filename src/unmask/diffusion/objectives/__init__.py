"""Objectives: the bounds that a denoiser is trained on and evaluated by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unmask._names.lazy import lazy

if TYPE_CHECKING:
    from unmask.diffusion.objectives.any_order import order_nelbo as order_nelbo
    from unmask.diffusion.objectives.any_order import order_token_nats as order_token_nats
    from unmask.diffusion.objectives.block import block_nelbo as block_nelbo
    from unmask.diffusion.objectives.chain_rule import block_token_nats as block_token_nats
    from unmask.diffusion.objectives.chain_rule import pseudo_token_nats as pseudo_token_nats
    from unmask.diffusion.objectives.chain_rule import (
        sequential_token_nats as sequential_token_nats,
    )
    from unmask.diffusion.objectives.masked import Loss as Loss
    from unmask.diffusion.objectives.masked import continuous_nelbo as continuous_nelbo
    from unmask.diffusion.objectives.masked import discrete_nelbo as discrete_nelbo
    from unmask.diffusion.objectives.masked import exact_k_nelbo as exact_k_nelbo
    from unmask.diffusion.objectives.masked import exact_k_token_nats as exact_k_token_nats
    from unmask.diffusion.objectives.masked import masked_mean as masked_mean
    from unmask.diffusion.objectives.per_token import rloo_nelbo as rloo_nelbo
    from unmask.diffusion.objectives.per_token import (
        tokenwise_discrete_nelbo as tokenwise_discrete_nelbo,
    )
    from unmask.diffusion.objectives.per_token import (
        tokenwise_last_step_nelbo as tokenwise_last_step_nelbo,
    )
    from unmask.diffusion.objectives.per_token import tokenwise_nelbo as tokenwise_nelbo
    from unmask.diffusion.objectives.transition import transition_nelbo as transition_nelbo
    from unmask.diffusion.objectives.transition import uniform_nelbo as uniform_nelbo

__getattr__, __dir__ = lazy(__name__)
