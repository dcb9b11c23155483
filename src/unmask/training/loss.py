"""The training loss of a batch under a recipe, in nats per token."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unmask.diffusion.formulation import Formulation
from unmask.diffusion.objectives.masked import masked_mean
from unmask.models.causal import next_token_nats
from unmask.training.recipe import Recipe
from unmask.training.rows import Batch


@dataclass(frozen=True)
class Loss:
    """The objective of a recipe.

    Attributes:
        recipe: Names the objective.
        formulation: Forward process and bound.
        denoiser_of: Makes a denoiser of the network.
    """

    recipe: Recipe
    formulation: Formulation
    denoiser_of: Callable[[nn.Module], Any]

    def __call__(
        self, model: nn.Module, batch: Batch, times: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Return the objective of a batch in nats per token, a scalar tensor.

        Args:
            model: The network, bare or wrapped.
            batch: The rows.
            times: Shape (B,).
            generator: Chooses what is masked.
        """
        rows, editable, tokens, valid = batch
        if self.recipe.kind == "causal":
            return next_token_nats(model, rows, editable).sum() / tokens.sum().clamp_min(1)
        denoiser, objective = self.denoiser_of(model), self.recipe.objective
        if objective.name == "nelbo":
            _, nats = self.formulation.objective(
                denoiser, x0=rows, t=times, editable=editable, generator=generator, valid=valid
            )
            return nats.sum() / tokens.sum().clamp_min(1)
        # One rate per batch, chosen by the first time, which is uniform.
        mask_rates = objective.mask_rates
        rate = mask_rates[math.ceil(times[0].item() * len(mask_rates)) - 1]
        loss = masked_mean(
            denoiser,
            self.formulation.process,
            rows,
            rate,
            editable,
            generator,
            valid,
            eighty_ten_ten=objective.eighty_ten_ten,
        )
        return loss.per_token
