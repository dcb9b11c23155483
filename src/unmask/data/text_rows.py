"""A text as rows of token ids, and the units that its nats are divided by.

The text is cut into rows, each predicted from its own start symbol. With a stride, rows overlap:
each predicts ``stride`` tokens conditioned on the tokens before them in the row.

Units per character and per word count the text that the tokens encode. A tokenizer that does not
reproduce the text is marked as lossy; if it also drops line ends and repeated spaces, which cost it
no nats, these are not counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from unmask.data import unknown_tokens
from unmask.data.pairs import PairRows
from unmask.data.records import Records
from unmask.data.text import TextCodec
from unmask.errors import UserError
from unmask.validation import Option, whole


@dataclass(frozen=True)
class Text:
    """A text as rows of token ids, and the units that its nats are divided by.

    Attributes:
        rows: Shape (N, L), int64, padded on the right.
        editable: Shape (N, L), bool; the tokens to predict.
        valid: Shape (N, L), bool; False on padding.
        documents: Shape (N,), int64; the document that each row begins in.
        row_units: The share of each row in ``units``, shape (N,); int64 for ``tokens``, else
            float64.
        num_documents: Documents of the text; if they are short, a row may hold several.
        units: The size of the text: ``tokens``, and the units of the codec, here Unicode
            ``characters`` and ``words`` (separated by white space, plus one for every line end).
        unknown: Number of unknown tokens. If there are any, the units per character and per word
            flatter the model.
        lossy: Whether the tokenizer does not reproduce the text.
        notes: A warning about unknown tokens; empty if they are few.
    """

    rows: Tensor
    editable: Tensor
    valid: Tensor
    documents: Tensor
    row_units: dict[str, Tensor]
    num_documents: int
    units: dict[str, int]
    unknown: int
    lossy: bool
    notes: tuple[str, ...] = ()

    @property
    def tokens(self) -> Tensor:
        """The tokens that the nats of each row are divided by, shape (N,), int64."""
        return self.row_units["tokens"]

    @classmethod
    def from_string(
        cls,
        text: str,
        codec: TextCodec,
        length: int,
        max_rows: int | None = None,
        stride: int | None = None,
    ) -> Text:
        """Cut a text into rows of at most ``length`` tokens, the start symbol included.

        Args:
            text: The text.
            codec: The tokenizer.
            length: Tokens in a full row.
            max_rows: Keep this many rows at most, and count the characters and words of these.
            stride: Tokens that each row after the first predicts, conditioned on those before them
                in the row; None for rows without overlap.

        Raises:
            UserError: If the text is empty, or the stride does not fit the length.
        """
        if max_rows is not None:
            encoded, text = codec.beginning(text, max_rows * (length - len(codec.start)))
            return cls._of([encoded], [text], codec, length, stride)
        return cls._of([codec.encode(text)], [text], codec, length, stride)

    @classmethod
    def from_documents(
        cls, documents: Sequence[str], codec: TextCodec, length: int, stride: int | None = None
    ) -> Text:
        """Cut concatenated documents into rows; see ``from_string``.

        Several documents are separated by line ends. Rows know the document that they begin in.
        """
        if len(documents) > 1:
            documents = [text if text.endswith("\n") else text + "\n" for text in documents]
        return cls._of(codec.encode_all(documents), documents, codec, length, stride)

    @classmethod
    def _of(
        cls,
        encoded: Sequence[list[int]],
        documents: Sequence[str],
        codec: TextCodec,
        length: int,
        stride: int | None,
    ) -> Text:
        ids = torch.tensor([i for part in encoded for i in part], dtype=torch.int64)
        if len(ids) == 0:
            raise UserError("there is no text to score")
        body = length - len(codec.start)
        if stride is not None:
            Option("", whole, low=1, high=body, unit="within the tokens of a row")("stride", stride)
        begin = torch.tensor(row_starts(len(ids), body, stride or body))
        columns = begin[:, None] + torch.arange(body)
        valid = columns < len(ids)
        rows = torch.where(valid, ids[columns.clamp_max(len(ids) - 1)], codec.pad_token_id)
        # A row predicts only the tokens that no earlier row has predicted.
        done = torch.cat([begin[:1], begin[:-1] + body])
        editable = valid & (columns >= done[:, None])
        start = torch.tensor(codec.start, dtype=torch.int64).expand(len(rows), -1)
        # One short row needs no padding up to the full length.
        used = len(codec.start) + int(valid.sum(1).max())
        ends = torch.tensor([len(part) for part in encoded]).cumsum(0)
        parts = [codec.decode(row[free].tolist()) for row, free in zip(rows, editable, strict=True)]
        return cls(
            rows=torch.cat([start, rows], 1)[:, :used],
            editable=pad(editable, (start.shape[1], 0), value=False)[:, :used],
            valid=pad(valid, (start.shape[1], 0), value=True)[:, :used],
            documents=torch.bucketize(done, ends, right=True),
            num_documents=len(documents),
            **_measured(documents, ids, editable.sum(1), codec, encoded, parts),
        )

    @classmethod
    def from_pairs(cls, pairs: PairRows, codec: TextCodec, max_rows: int | None = None) -> Text:
        """Score the targets, each conditioned on its source.

        The nats are those of the target, its end and the filler, so that the bound is on the target
        with its length. They are divided by the tokens of the target and its end.

        Args:
            pairs: The rows; see ``data.pairs.PairCodec.lay_out``.
            codec: The tokenizer.
            max_rows: Keep this many rows at most.
        """
        ids, editable = pairs.ids[:max_rows].long(), pairs.editable[:max_rows]
        targets = pairs.targets[:max_rows]
        return cls(
            rows=ids,
            editable=editable,
            valid=torch.ones_like(editable),
            documents=torch.arange(len(ids)),
            num_documents=len(ids),
            **_measured(targets, ids[editable], pairs.tokens[:max_rows], codec),
        )

    @classmethod
    def from_records(cls, records: Records, codec: TextCodec, max_rows: int | None = None) -> Text:
        """Score records, each a row of its own; the nats are those of a record and its end.

        They are divided by the tokens of the record and its end, and by the characters and words of
        the record alone.

        Args:
            records: The rows; see ``data.records.RecordCodec.lay_out``.
            codec: The tokenizer.
            max_rows: Keep this many rows at most.
        """
        valid, texts = records.valid[:max_rows], records.texts[:max_rows]
        editable = valid.clone()
        editable[:, : len(codec.start)] = False
        ids = records.ids[:max_rows]
        return cls(
            rows=ids,
            editable=editable,
            valid=valid,
            documents=torch.arange(len(texts)),
            num_documents=len(texts),
            **_measured(texts, ids[editable], editable.sum(1), codec),
        )


def window_of(window: int | None, usual: int, limit: int | None, block_length: int = 0) -> int:
    """Return the number of tokens in a row.

    Args:
        window: The requested number, None for the default.
        usual: The default.
        limit: Positions of the model, None for no limit.
        block_length: Block length of a block diffusion model, else 0.

    Raises:
        UserError: If it is out of range.
    """
    if window is None:
        return usual
    known = Option("", whole, low=2, high=limit, unit="within the positions of the model")
    window = int(known("window", window))
    if block_length and window != usual:
        raise UserError(f"a block diffusion model scores rows of {usual} tokens; leave window out")
    return window


def row_starts(count: int, body: int, stride: int) -> list[int]:
    """Return the first token of each of the rows of ``body`` tokens that cover ``count`` tokens."""
    return [k * stride for k in range(1 + -(-max(count - body, 0) // stride))]


def _measured(
    texts: Sequence[str],
    scored: Tensor,
    tokens: Tensor,
    codec: TextCodec,
    encoded: Sequence[list[int]] | None = None,
    parts: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Return the units of ``Text``, ``unknown``, ``lossy`` and ``notes``, by name.

    White space that changes no token is not counted.

    Args:
        texts: The texts to score.
        scored: The ids to score, with end symbols if there are any, of any shape.
        tokens: Tokens that the nats of each row are divided by, shape (N,), int64.
        codec: The tokenizer.
        encoded: The ids of the texts, if they are known.
        parts: The text that each of the N rows predicts; the texts themselves if None.
    """
    encoded = codec.encode_all(texts) if encoded is None else encoded
    parts = texts if parts is None else parts
    unknown_ids = unknown_tokens.count(codec, scored)
    notes = unknown_tokens.notes(codec, texts, unknown_ids, scored.numel())
    lossy = [codec.decode(ids) != text for text, ids in zip(texts, encoded, strict=True)]
    if any(lossy):
        bare = [" ".join(text.split()) for text in texts]
        same = [ids == known for ids, known in zip(codec.encode_all(bare), encoded, strict=True)]
        texts = [
            short if equal else text for text, short, equal in zip(texts, bare, same, strict=True)
        ]
    sizes = Counter[str]()
    for text in texts:
        sizes.update(codec.units(text))
    of_parts = [codec.units(part) for part in parts]
    shares = {unit: _shares([own[unit] for own in of_parts], sizes[unit]) for unit in sizes}
    return {
        "row_units": {"tokens": tokens, **shares},
        "units": {"tokens": int(tokens.sum()), **sizes},
        "unknown": unknown_ids,
        "lossy": any(lossy),
        "notes": notes,
    }


def _shares(counts: Sequence[int], total: int) -> Tensor:
    """Return ``total`` split in the proportions of ``counts``, shape (N,), float64."""
    numbers = torch.tensor(counts, dtype=torch.float64)
    return numbers * (total / numbers.sum().clamp_min(1))
