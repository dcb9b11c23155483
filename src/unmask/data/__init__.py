"""Modalities as token ids, and the files that data come from; loaded on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unmask.data.codec import Codec
    from unmask.data.documents import Documents, joined, read_documents
    from unmask.data.pairs import Pair, PairCodec
    from unmask.data.records import RecordCodec
    from unmask.data.sources import read_records
    from unmask.data.templates import Blank
    from unmask.data.text import TextCodec
    from unmask.data.text_rows import Text

__all__ = [
    "Blank",
    "Codec",
    "Documents",
    "Pair",
    "PairCodec",
    "RecordCodec",
    "Text",
    "TextCodec",
    "joined",
    "read_documents",
    "read_records",
]

_HOMES = {
    "Blank": "templates",
    "Codec": "codec",
    "Documents": "documents",
    "Pair": "pairs",
    "PairCodec": "pairs",
    "RecordCodec": "records",
    "Text": "text_rows",
    "TextCodec": "text",
    "joined": "documents",
    "read_documents": "documents",
    "read_records": "sources",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
