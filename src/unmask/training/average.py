"""An exponential moving average of the weights, which is validated and exported in their place.

    a_n = d_n a_{n-1} + (1 - d_n) w_n,    d_n = min(decay, (1 + n) / (10 + n)),    n = 0, 1, ...

after optimiser step n. With the warm-up of the decay, the average of a short run covers about its
last ninth; without it, the average would still be close to the initial weights.

Reference: Polyak and Juditsky 1992; the warm-up is that of TensorFlow's ExponentialMovingAverage.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from transformers import TrainerCallback

from unmask.errors import UserError

FILE = "average.safetensors"


class WeightAverage(TrainerCallback):
    """Averages the trainable weights of a model, in float32 next to them.

    Args:
        model: The network, whose weights are changed in place.
        decay: Decay after the warm-up, in (0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        # Not ``AveragedModel``: its copy of the network would lose the hooks of the adapters.
        self._weights = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self._average = [p.detach().float().clone() for p in self._weights.values()]
        self._decay = decay

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        step = state.global_step
        decay = min(self._decay, (1 + step) / (10 + step))
        weights: list[Tensor] = [p.detach() for p in self._weights.values()]
        get_ema_multi_avg_fn(decay)(self._average, weights, step)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the average in the place of the weights within the body."""
        own = [p.detach().clone() for p in self._weights.values()]
        self.apply()
        try:
            yield
        finally:
            self._copy(own)

    def apply(self) -> None:
        """Put the average in the place of the weights."""
        self._copy(self._average)

    def save(self, folder: Path) -> None:
        """Write the average into the folder of a checkpoint."""
        save_file(dict(zip(self._weights, self._average, strict=True)), folder / FILE)

    def load(self, folder: Path) -> None:
        """Load the average of a checkpoint.

        Raises:
            UserError: If it is missing, damaged, or of another network.
        """
        try:
            saved = load_file(folder / FILE)
        except (OSError, SafetensorError) as error:
            raise _unusable(folder) from error
        if {k: v.shape for k, v in saved.items()} != {k: v.shape for k, v in self._weights.items()}:
            raise _unusable(folder)
        for average, name in zip(self._average, self._weights, strict=True):
            average.copy_(saved[name])

    @torch.no_grad()
    def _copy(self, values: list[Tensor]) -> None:
        for weight, value in zip(self._weights.values(), values, strict=True):
            weight.copy_(value)


def _unusable(folder: Path) -> UserError:
    return UserError(
        f"{folder / FILE} is missing or damaged; remove {folder.name} to resume from the "
        "checkpoint before it, or start anew"
    )
