"""Embeddings and positions of a network, found by watching which tables it reads.

A configuration gives these under many names, and sometimes wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

from unmask.errors import UserError
from unmask.models.forward import evaluating, logits_of
from unmask.models.time_conditioning import conditioning_of

_LENGTHS = (4, 16, 2)
"""Lengths of the probes, in order: a network for an experiment may have few positions."""


def entries_of(model: PreTrainedModel) -> int:
    """Return the number of ids that a model has embeddings for."""
    table: Any = model.get_input_embeddings()
    return len(table if isinstance(table, Tensor) else table.weight)


def probe_ids(model: PreTrainedModel, length: int) -> Tensor:
    """Return ordinary ids spread over the vocabulary, in no order, shape (1, length)."""
    kinds = ("pad", "mask", "bos", "eos", "cls", "sep", "unk")
    # A model with several end symbols has a list of them.
    stated = [getattr(model.config, f"{kind}_token_id", None) for kind in kinds]
    special = {i for ids in stated for i in (ids if isinstance(ids, list) else [ids])}
    known = [i for i in range(entries_of(model)) if i not in special]
    step = torch.arange(1, length + 1, dtype=torch.float64)
    # Multiples of the golden ratio modulo 1.
    place = (step * 0.6180339887498949 % 1 * len(known)).long()
    return torch.tensor(known)[place][None].to(model.device)


def position_limit(model: PreTrainedModel) -> int | None:
    """Return the number of tokens that a model has positions for, None if it has no limit."""
    with evaluating(model), torch.no_grad():
        limit = positions_of(model)[0]
    config: Any = model.config
    stated = getattr(config.get_text_config(), "max_position_embeddings", None)
    if stated is not None:
        stated -= _extra_tokens(model)
    return min((n for n in (limit, stated) if n is not None), default=None)


class _Lookups(TorchFunctionMode):
    """Records which rows of every embedding table are read, and how many the table has."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[Tensor, int]] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if func is embedding:
            self.found.append((args[0], len(args[1])))
        return func(*args, **(kwargs or {}))

    def in_order(self, length: int) -> list[tuple[int, int]]:
        """Return size and first row of the tables whose rows were read consecutively."""
        tables = []
        for index, size in self.found:
            # Some networks append padding of their own.
            read = index.reshape(-1, index.shape[-1])[0, :length] if index.ndim else index[None]
            if len(read) == length and bool((read.diff() == 1).all()):
                tables.append((size, int(read[0])))
        return tables


def positions_of(model: PreTrainedModel) -> tuple[int | None, int]:
    """Return the number of tokens that a model has positions for, and the first position id.

    A table of positions is one whose rows are read consecutively. Without such a table the first
    position id is 0, and only the configuration sets a limit.
    """
    for length in _LENGTHS:
        try:
            tables = tables_in_order(model, probe_ids(model, length))
        except (UserError, torch.OutOfMemoryError):
            raise
        except Exception:
            # A model that computes nothing is refused by ``traits.probe``.
            continue
        extra = _extra_tokens(model)
        return min(((size - first - extra, first) for size, first in tables), default=(None, 0))
    return None, 0


def tables_in_order(model: PreTrainedModel, row: Tensor) -> list[tuple[int, int]]:
    """Return size and first row of the tables whose rows are read consecutively for ``row``."""
    noted = _Lookups()
    with noted:
        logits_of(model, row)
    return noted.in_order(row.shape[1] + _extra_tokens(model))


def _extra_tokens(model: PreTrainedModel) -> int:
    conditioning = conditioning_of(model)
    return 0 if conditioning is None else conditioning.extra_tokens
