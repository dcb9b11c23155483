"""Pairs as training data: rows with the texts ``source`` and ``target``; the source stays clean.

``data.pairs`` describes the layout of a row; a recipe selects it with ``pairs = true``.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from unmask.data import unknown_tokens
from unmask.data.pairs import Pair, PairCodec, PairRows
from unmask.data.sources import Note, check_whole, read_records, without_text
from unmask.data.text import TextCodec
from unmask.data.text_rows import Text
from unmask.errors import UserError
from unmask.training.datasets import Material
from unmask.training.recipe import Recipe
from unmask.training.rows import Batch

ROLES = ("source", "target")
"""The columns of pairs."""


def read_pairs(
    source: str, split: str = "train", field: str = "text", note: Note = warnings.warn
) -> list[Pair]:
    """Return the pairs of a table, a folder of tables or a hub data set, in order.

    An empty cell is an empty text; see ``PairCodec.lay_out``.

    Args:
        source: A path or a hub data set id.
        split: The split of a hub data set.
        field: The column of the text; pairs have fixed names, so only the default is valid.
        note: Called with a line about files that are left out.

    Raises:
        UserError: If there is no such table, or a row lacks one of the two texts.
    """
    if field != "text":
        raise UserError(f"pairs have the fields source and target, so leave out --field {field}")
    return [
        Pair(_text(row, "source", number, source), _text(row, "target", number, source))
        for number, row in enumerate(read_records(source, split, ROLES, note), 1)
    ]


def _text(row: dict[str, object], field: str, number: int, source: str) -> str:
    text = row.get(field, 0)
    if text is None:
        return ""
    if not isinstance(text, str):
        raise without_text(number, source, field, row, "pairs need source and target")
    check_whole(text, number, source)
    return text


class PairDataset(Dataset[dict[str, Tensor]]):
    """Training pairs, one per row.

    An item is ``input_ids`` (L,), int64, ``editable`` (L,), bool, and ``tokens`` (), int64, the
    divisor of its nats.
    """

    def __init__(self, rows: PairRows) -> None:
        self.rows = rows
        self.editable = rows.editable

    def __len__(self) -> int:
        return len(self.rows.ids)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {
            "input_ids": self.rows.ids[index].long(),
            "editable": self.editable[index],
            "tokens": self.rows.tokens[index],
        }


class PairBatcher:
    """Takes pairs as they are: every row has its own prefix, the source, and no padding."""

    def __call__(self, items: dict[str, Tensor], generator: torch.Generator) -> Batch:
        """Return the batch of stacked items of ``PairDataset``."""
        return Batch(items["input_ids"], items["editable"], items["tokens"])


@dataclass(frozen=True)
class PairTexts:
    """Training pairs, and validation pairs from a source of their own or the end of the data."""

    pairs: list[Pair]
    held_out: list[Pair]
    codec = None

    @classmethod
    def read(
        cls, data: str, validation: str | None, field: str, recipe: Recipe, note: Note
    ) -> PairTexts:
        """Read the sources; see ``read_pairs``."""
        pairs = read_pairs(data, field=field, note=note)
        if validation is not None:
            return cls(pairs, read_pairs(validation, field=field, note=note))
        keep = len(pairs) - math.ceil(len(pairs) * recipe.data.validation_share)
        return cls(pairs[:keep], pairs[keep:])

    @property
    def texts(self) -> list[str]:
        """The training texts, for a fresh tokenizer."""
        return [text for pair in self.pairs for text in (pair.source, pair.target)]

    @property
    def everything(self) -> list[str]:
        """All texts, the validation texts last."""
        held_out = [text for pair in self.held_out for text in (pair.source, pair.target)]
        return [*self.texts, *held_out]

    def lay_out(self, codec: TextCodec, recipe: Recipe, _folder: Path) -> Material:
        """Lay out every pair that fits in a row, and count the others."""
        data = recipe.data
        layout = PairCodec(codec, data.before, data.between, data.length)
        rows = layout.lay_out(self.pairs)
        facts = {"data_tokens": int(rows.tokens.sum()), "pairs": rows.tally.counts}
        notes = rows.tally.left_out
        validation: Callable[[int], Text] | None = None
        if self.held_out:
            held_out = layout.lay_out(self.held_out, "validation pairs")
            facts["validation_pairs"] = held_out.tally.counts
            notes += held_out.tally.left_out
            validation = partial(Text.from_pairs, held_out, codec)
        noised = rows.ids[rows.editable]
        return Material(
            items=PairDataset(rows),
            batcher=PairBatcher(),
            noised=noised,
            validation=validation,
            facts=facts,
            notes=(*notes, *unknown_tokens.noted(codec, self.texts, noised)),
        )
