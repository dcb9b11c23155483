"""Modalities as token ids, and the files that data come from; loaded on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unmask._names.lazy import lazy

if TYPE_CHECKING:
    from unmask.data.codec import Codec
    from unmask.data.documents import Documents, joined, read_documents
    from unmask.data.images import Images, read_image, read_images
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
    "Images",
    "Pair",
    "PairCodec",
    "RecordCodec",
    "Text",
    "TextCodec",
    "joined",
    "read_documents",
    "read_image",
    "read_images",
    "read_records",
]

__getattr__, __dir__ = lazy(__name__)
