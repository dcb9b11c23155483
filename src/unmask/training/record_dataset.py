"""Records as training data: every text is a row with its end; see ``data.records``.

A recipe selects it with ``data.rows = "records"``. A line of a text file is a record, like a row of
a table and a record of a FASTA file.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from unmask.data import unknown_tokens
from unmask.data.documents import Documents, Piece, whole_documents
from unmask.data.records import RecordCodec, quantiles
from unmask.data.tally import Tally
from unmask.data.text import TextCodec
from unmask.data.text_rows import Text
from unmask.training.datasets import Material, Texts
from unmask.training.recipe import Recipe
from unmask.training.rows import Batcher
from unmask.training.splitting import Cut
from unmask.training.stream import encoded, stored


class RecordDataset(Dataset[dict[str, Tensor]]):
    """Training records, one per row.

    An item is ``input_ids`` (L,), int64, padded at the right, and ``valid`` (L,), bool, False on
    padding.

    Args:
        stream: The ids of all records, each with its end, one after the other; shape (T,).
        lengths: Ids of each record, shape (N,), int64.
        codec: The layout.
    """

    def __init__(self, stream: Tensor, lengths: Tensor, codec: RecordCodec) -> None:
        self.stream = stream
        self.ends = lengths.cumsum(0)
        self.lengths = lengths
        self.start = torch.tensor(codec.codec.start, dtype=torch.int64)
        self.empty = torch.full((codec.length,), codec.codec.pad_token_id)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        end, size = int(self.ends[index]), int(self.lengths[index])
        body = torch.cat([self.start, self.stream[end - size : end].long()])
        ids = self.empty.clone()
        ids[: len(body)] = body
        return {"input_ids": ids, "valid": torch.arange(len(ids)) < len(body)}


@dataclass(frozen=True)
class RecordTexts(Texts):
    """Training records and validation records; see ``datasets.Texts``."""

    by_line = True

    @staticmethod
    def find_cut(source: Documents, share: float) -> Cut:
        """Return where the validation records begin: the last ``share`` of all records."""
        count = sum(piece.last for piece in source.pieces())
        return Cut(count - math.ceil(count * share), 0)

    @property
    def texts(self) -> Iterator[str]:
        """The training texts, for a fresh tokenizer."""
        return whole_documents(self.learned())

    def lay_out(self, codec: TextCodec, recipe: Recipe, folder: Path) -> Material:
        """Lay out every record that fits in a row, and count the others."""
        data, layout = recipe.data, RecordCodec(codec, recipe.data.length)
        lengths: array[int] = array("q")
        counts = {"total": 0, "empty": 0, "too_long": 0}
        stream = stored(_bodies(self.learned(), layout, lengths, counts), folder)
        tally = Tally("records", layout.length, **counts).check()
        sizes = torch.from_numpy(np.array(lengths))
        facts = {"data_tokens": len(stream), "records": tally.counts}
        notes = tally.left_out
        validation: Callable[[int], Text] | None = None
        # As many as are scored, and some more for those that do not fit.
        some = list(islice(whole_documents(self.held_out()), 4 * recipe.training.evaluation_rows))
        if some:
            held_out = layout.lay_out(some, "validation records")
            notes = [*notes, *held_out.tally.left_out]
            validation = partial(Text.from_records, held_out, codec)
        return Material(
            items=RecordDataset(stream, sizes, layout),
            batcher=Batcher(
                data.prefix_share, data.prefix_min, data.prefix_max, 0, len(codec.start)
            ),
            noised=stream,
            validation=validation,
            facts=facts,
            notes=(*notes, *unknown_tokens.noted(codec, self.texts, stream)),
            records={"lengths": quantiles(sizes - 1)},
        )


def _bodies(
    pieces: Iterator[Piece], layout: RecordCodec, lengths: array[int], counts: dict[str, int]
) -> Iterator[list[int]]:
    """Yield the ids of each record that fits, with its end; note lengths and count the rest."""
    end = layout.codec.end
    assert end is not None
    held: list[int] = []
    for ids, last in encoded(pieces, layout.codec):
        if len(held) < layout.room:
            # Of a record that is too long, no more is kept.
            held += ids.tolist()
        if not last:
            continue
        counts["total"] += 1
        counts["empty"] += not held
        counts["too_long"] += len(held) >= layout.room
        if 0 < len(held) < layout.room:
            lengths.append(len(held) + 1)
            yield [*held, end]
        held = []
