"""Any Hugging Face causal language model as the autoregressive baseline, in the same units."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import pad

from unmask.diffusion.denoiser import token_nats
from unmask.models.compat import BaseStreamer


def next_token_nats(model: nn.Module, rows: Tensor, editable: Tensor) -> Tensor:
    """Return the exact -log p of every editable token given all tokens to its left, nats, (B, L).

    Args:
        model: A causal language model.
        rows: Ids, shape (B, L), int64, with padding on the right only.
        editable: Shape (B, L), bool; the tokens to predict. Column 0 has no context and is not
            predicted.
    """
    logits: Any = model(input_ids=rows[:, :-1]).logits
    at = editable[:, 1:]
    return pad(token_nats(logits[at], rows[:, 1:], at), (1, 0))


class Stopwatch(BaseStreamer):
    """A streamer of transformers that records the first row and the time of each token.

    Args:
        notice: Called with the seconds so far and all ids of the first row, prompt included.
    """

    def __init__(self, notice: Callable[[float, list[int]], None]) -> None:
        self._notice = notice
        self._ids: list[int] = []
        self._begun = time.perf_counter()

    def put(self, value: Tensor) -> None:
        """Take the prompt, shape (B, L), or one new token of every row, shape (B,)."""
        self._ids += value[0].tolist() if value.ndim > 1 else value[:1].tolist()
        self._notice(time.perf_counter() - self._begun, list(self._ids))

    def end(self) -> None:
        """Nothing is buffered."""
