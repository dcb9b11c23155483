"""A text as the rows of a model, and the units that its nats are divided by.

The text is cut into rows, each predicted from its own start symbol. With a stride, rows overlap:
each predicts ``stride`` tokens conditioned on the tokens before them in the row.

Characters and words are those that the tokens stand for. A tokenizer that does not give a text back
is marked as lossy; where it also drops line ends and runs of blanks, which cost it nothing, these
are not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from unmask.data import unknown_tokens
from unmask.data.pairs import PairRows
from unmask.data.records import Records
from unmask.data.text import TextCodec
from unmask.errors import UserError
from unmask.validation import whole


@dataclass(frozen=True)
class Text:
    """A text as rows of a model, and what its nats are divided by.

    Attributes:
        rows: Shape (N, L), int64, padded at the right.
        editable: Shape (N, L), bool; the tokens that are predicted.
        valid: Shape (N, L), bool; False on padding.
        tokens: Shape (N,), int64; what the nats of each row are divided by.
        documents: Shape (N,), int64; the document that each row begins in.
        row_characters: Shape (N,), float64; the share of each row in ``characters``.
        row_words: Shape (N,), float64; the share of each row in ``words``.
        num_documents: Documents of the text; more than rows begin in if they are short.
        characters: Unicode characters that the tokens stand for.
        words: Words separated by white space, plus one for every line end.
        unknown: Tokens that the tokenizer could not represent; above 0 the units per character and
            per word flatter the model.
        lossy: Whether the tokens do not give the text back.
        notes: What a reader has to know of unknown tokens; empty if they are few.
    """

    rows: Tensor
    editable: Tensor
    valid: Tensor
    tokens: Tensor
    documents: Tensor
    row_characters: Tensor
    row_words: Tensor
    num_documents: int
    characters: int
    words: int
    unknown: int
    lossy: bool
    notes: tuple[str, ...] = ()

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
            max_rows: Keep only this many rows and the characters and words of just these.
            stride: Tokens that each row after the first predicts, conditioned on those before them
                in the row; None for rows that do not overlap.

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
        """Cut documents into rows, one document behind the other; see ``from_string``.

        Each of several documents ends its line, and rows remember the document that they begin in.
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
        if stride is not None and not 1 <= stride <= body:
            raise UserError(f"stride must be from 1 to {body}, the tokens of a row, not {stride}")
        begin = torch.tensor(row_starts(len(ids), body, stride or body))
        columns = begin[:, None] + torch.arange(body)
        valid = columns < len(ids)
        rows = torch.where(valid, ids[columns.clamp_max(len(ids) - 1)], codec.pad_token_id)
        # A row predicts what the rows before it have not.
        done = torch.cat([begin[:1], begin[:-1] + body])
        editable = valid & (columns >= done[:, None])
        start = torch.tensor(codec.start, dtype=torch.int64).expand(len(rows), -1)
        # One short row needs no padding up to the full length.
        used = len(codec.start) + int(valid.sum(1).max())
        ends = torch.tensor([len(part) for part in encoded]).cumsum(0)
        size = _measure(documents, encoded, ids, codec)
        spelt = [codec.decode(row[free].tolist()) for row, free in zip(rows, editable, strict=True)]
        return cls(
            rows=torch.cat([start, rows], 1)[:, :used],
            editable=pad(editable, (start.shape[1], 0), value=False)[:, :used],
            valid=pad(valid, (start.shape[1], 0), value=True)[:, :used],
            tokens=editable.sum(1),
            documents=torch.bucketize(done, ends, right=True),
            row_characters=_shares([len(text) for text in spelt], size.characters),
            row_words=_shares([_words(text) for text in spelt], size.words),
            num_documents=len(documents),
            **vars(size),
        )

    @classmethod
    def from_pairs(cls, pairs: PairRows, codec: TextCodec, max_rows: int | None = None) -> Text:
        """Take the targets as the text, each of them given its source.

        The nats are those of the target, its end and the fillers after it, so that the bound is
        on the target with its length; they are divided by the tokens of target and end.

        Args:
            pairs: The rows; see ``data.pairs.PairCodec.lay_out``.
            codec: The tokenizer.
            max_rows: Keep only the first so many.
        """
        ids, editable = pairs.ids[:max_rows].long(), pairs.editable[:max_rows]
        targets = pairs.targets[:max_rows]
        size = _measure(targets, codec.encode_all(targets), ids[editable], codec)
        return cls(
            rows=ids,
            editable=editable,
            valid=torch.ones_like(editable),
            tokens=pairs.tokens[:max_rows],
            documents=torch.arange(len(ids)),
            row_characters=_shares([len(text) for text in targets], size.characters),
            row_words=_shares([_words(text) for text in targets], size.words),
            num_documents=len(ids),
            **vars(size),
        )

    @classmethod
    def from_records(cls, records: Records, codec: TextCodec, max_rows: int | None = None) -> Text:
        """Take texts that are a row each; the nats are those of a text and its end.

        They are divided by the tokens of the text and its end, and by the characters and words of
        the text alone.

        Args:
            records: The rows; see ``data.records.RecordCodec.lay_out``.
            codec: The tokenizer.
            max_rows: Keep only the first so many.
        """
        valid, texts = records.valid[:max_rows], records.texts[:max_rows]
        editable = valid.clone()
        editable[:, : len(codec.start)] = False
        size = _measure(texts, codec.encode_all(texts), records.ids[:max_rows][editable], codec)
        return cls(
            rows=records.ids[:max_rows],
            editable=editable,
            valid=valid,
            tokens=editable.sum(1),
            documents=torch.arange(len(texts)),
            row_characters=_shares([len(text) for text in texts], size.characters),
            row_words=_shares([_words(text) for text in texts], size.words),
            num_documents=len(texts),
            **vars(size),
        )


def window_of(window: int | None, usual: int, limit: int | None, block_length: int = 0) -> int:
    """Return how many tokens a row has.

    Args:
        window: What the caller named, None for the usual number.
        usual: That number.
        limit: Positions of the model, None for no limit.
        block_length: Tokens in a block of a model that reads blocks, else 0.

    Raises:
        UserError: If it is out of range.
    """
    if window is None:
        return usual
    window = whole("window", window)
    if block_length and window != usual:
        raise UserError(f"a model of blocks scores rows of {usual} tokens; leave window out")
    if window < 2 or (limit is not None and window > limit):
        most = "" if limit is None else f", and at most {limit}, the positions of the model"
        raise UserError(f"window must be at least 2 tokens{most}, not {window}")
    return window


def row_starts(count: int, body: int, stride: int) -> list[int]:
    """Return the first token of each row of ``body`` tokens that together hold ``count`` tokens."""
    return [k * stride for k in range(1 + -(-max(count - body, 0) // stride))]


@dataclass(frozen=True)
class _Size:
    characters: int
    words: int
    lossy: bool
    unknown: int
    notes: tuple[str, ...]


def _measure(
    texts: Sequence[str], encoded: Sequence[list[int]], scored: Tensor, codec: TextCodec
) -> _Size:
    """Return the size of what tokens stand for, without white space that makes no token differ.

    Args:
        texts: What is scored.
        encoded: Their ids.
        scored: The ids that are scored, with end symbols if there are any, of any shape.
        codec: The tokenizer.
    """
    unknown_ids = unknown_tokens.count(codec, scored)
    notes = unknown_tokens.notes(codec, texts, unknown_ids, scored.numel())
    lossy = [codec.decode(ids) != text for text, ids in zip(texts, encoded, strict=True)]
    if any(lossy):
        bare = [" ".join(text.split()) for text in texts]
        same = [ids == known for ids, known in zip(codec.encode_all(bare), encoded, strict=True)]
        texts = [
            short if equal else text for text, short, equal in zip(texts, bare, same, strict=True)
        ]
    return _Size(sum(map(len, texts)), sum(map(_words, texts)), any(lossy), unknown_ids, notes)


def _words(text: str) -> int:
    return len(text.split()) + text.count("\n")


def _shares(counts: Sequence[int], total: int) -> Tensor:
    """Return numbers that add up to a total, in the proportions of counts, (N,), float64."""
    numbers = torch.tensor(counts, dtype=torch.float64)
    return numbers * (total / numbers.sum().clamp_min(1))
