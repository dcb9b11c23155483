"""Any Hugging Face causal language model as the autoregressive baseline, in the same units."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


def next_token_nats(model: nn.Module, rows: Tensor, editable: Tensor) -> Tensor:
    """Return the exact -log p of the editable tokens given all to their left, nats per row (B,).

    Args:
        model: A causal language model.
        rows: Ids, shape (B, L), int64, padding at the right only.
        editable: Shape (B, L), bool; the tokens that are predicted. Column 0 has no context and is
            not predicted.
    """
    logits: Any = model(input_ids=rows[:, :-1]).logits
    at = editable[:, 1:]
    nats = cross_entropy(logits[at].float(), rows[:, 1:][at], reduction="none")
    total = torch.zeros(len(rows), dtype=nats.dtype, device=rows.device)
    return total.index_add(0, at.nonzero()[:, 0], nats)
