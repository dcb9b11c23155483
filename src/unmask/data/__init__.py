"""Modalities as token ids, and the files that data come from; loaded on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unmask._names.lazy import lazy

if TYPE_CHECKING:
    from unmask.data.codec import Codec as Codec
    from unmask.data.documents import Documents as Documents
    from unmask.data.documents import joined as joined
    from unmask.data.documents import read_documents as read_documents
    from unmask.data.images import Images as Images
    from unmask.data.images import read_image as read_image
    from unmask.data.images import read_images as read_images
    from unmask.data.pairs import Pair as Pair
    from unmask.data.pairs import PairCodec as PairCodec
    from unmask.data.pixels import PixelCodec as PixelCodec
    from unmask.data.records import RecordCodec as RecordCodec
    from unmask.data.sources import read_records as read_records
    from unmask.data.templates import Blank as Blank
    from unmask.data.text import TextCodec as TextCodec
    from unmask.data.text_rows import Text as Text

__getattr__, __dir__ = lazy(__name__)
