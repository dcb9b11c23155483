"""What a run learns from and is judged by: read first, put on rows once there is a tokenizer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from unmask.codec.text import TextCodec
from unmask.text_rows import Text
from unmask.training.data import (
    Batcher,
    Blocks,
    MakeBatch,
    check_field,
    joined,
    read_documents,
    split,
    tokenize,
)
from unmask.training.recipe import Recipe


class Items(Protocol):
    """A data set: rows of ids and what else belongs to each, by name."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Tensor]: ...


@dataclass(frozen=True)
class Material:
    """Data as ids.

    Attributes:
        items: What is learned from.
        batcher: Makes a batch of stacked items.
        noised: Shape (N,), integers; all ids that are noised, for schedules made from their counts.
        validation: Makes, of a number of rows at most, what the bound is measured on; None for no
            validation.
        facts: What the checkpoint's card says about it.
        notes: Lines about what is not learned from.
    """

    items: Items
    batcher: MakeBatch
    noised: Tensor
    validation: Callable[[int], Text] | None
    facts: dict[str, Any]
    notes: tuple[str, ...] = ()


def fingerprint(texts: Iterable[str]) -> str:
    """Return a hash of texts in their order."""
    digest = hashlib.blake2b(digest_size=16)
    for text in texts:
        content = text.encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()


@dataclass(frozen=True)
class Documents:
    """Texts to learn from, and one to validate on: of a source of its own, or the end of them."""

    texts: list[str]
    held_out: str

    @classmethod
    def read(cls, data: str, validation: str | None, field: str, recipe: Recipe) -> Documents:
        """Read the sources; see ``data.read_documents``."""
        check_field(field, data, *([] if validation is None else [validation]))
        documents, share = read_documents(data, field), recipe.data.validation_share
        if validation is not None:
            return cls(documents, joined(read_documents(validation, field)))
        return cls(*split(documents, share)) if share else cls(documents, "")

    @property
    def everything(self) -> list[str]:
        """All texts, those to validate on last."""
        return [*self.texts, self.held_out]

    def lay_out(self, codec: TextCodec, recipe: Recipe) -> Material:
        """Cut everything into rows of the recipe's length."""
        data, text = recipe.data, self.held_out
        stream = tokenize(self.texts, codec, data.skip_empty_lines)
        batcher = Batcher(
            data.prefix_share,
            data.prefix_min,
            data.prefix_max,
            data.random_length_share,
            len(codec.start),
        )
        most, of_rows = recipe.training.evaluation_rows, None
        if text.strip():
            # The beginning of the text is all that is ever encoded again.
            full = Text.from_string(text, codec, data.length, most)
            _, text = codec.beginning(text, most * (data.length - len(codec.start)))

            def of_rows(rows: int) -> Text:
                return full if rows >= most else Text.from_string(text, codec, data.length, rows)

        return Material(
            items=Blocks(stream, codec.start, data.length),
            batcher=batcher,
            noised=stream,
            validation=of_rows,
            facts={"data_tokens": len(stream)},
        )
