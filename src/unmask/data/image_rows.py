"""Images as rows of token ids, and the units that their nats are divided by."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from unmask.data.images import Images
from unmask.data.pixels import PixelCodec
from unmask.data.text_rows import Text
from unmask.errors import UserError

DTYPES = (np.uint8, np.int16, np.int32)


def rows_of(images: Images, codec: PixelCodec) -> Tensor:
    """Return the class and the sub-pixels of every image.

    Args:
        images: Of the size of the codec. Their classes are used if the codec has classes.
        codec: The layout of a row.

    Returns:
        Shape (N, 1 + H W C); uint8 where the ids fit, else int16 or int32.

    Raises:
        UserError: If the images have another size or type, or a class that the codec does not have.
    """
    if len(images.pixels):
        codec.checked(images.pixels[0])
    dtype = next(kind for kind in DTYPES if codec.entries - 1 <= np.iinfo(kind).max)
    rows = np.empty((len(images.pixels), codec.length), dtype)
    rows[:, 0] = codec.mask_token_id
    if codec.classes and images.labels is not None:
        known = {name: codec.levels + 1 + i for i, name in enumerate(codec.classes)}
        strange = [name for name in images.classes if name not in known]
        if strange:
            raise UserError(
                f"the images have a class {strange[0]!r} that the model does not know; it knows "
                f"{', '.join(codec.classes)}"
            )
        ids = np.array([known[name] for name in images.classes], dtype)
        rows[:, 0] = ids[images.labels]
    # Some at a time, since the levels are computed in float64.
    for begin in range(0, len(rows), 1024):
        some = images.pixels[begin : begin + 1024]
        rows[begin : begin + 1024, 1:] = codec.quantised(some).reshape(len(some), -1)
    return torch.from_numpy(rows)


def text_of(images: Images, codec: PixelCodec, max_rows: int | None = None) -> Text:
    """Return images as rows to score; the nats of an image are those of its sub-pixels.

    Args:
        images: The images; see ``rows_of``.
        codec: The layout of a row.
        max_rows: Keep this many images at most.

    Raises:
        UserError: As ``rows_of``; if there are no images.
    """
    if not len(images.pixels):
        raise UserError("there are no images to score")
    labels = None if images.labels is None else images.labels[:max_rows]
    some = replace(images, pixels=images.pixels[:max_rows], labels=labels)
    rows = rows_of(some, codec).long()
    editable = torch.ones_like(rows, dtype=torch.bool)
    editable[:, 0] = False
    count = editable.sum(1)
    return Text(
        rows=rows,
        editable=editable,
        valid=torch.ones_like(editable),
        documents=torch.arange(len(rows)),
        row_units={"tokens": count, "dims": count.double()},
        num_documents=len(rows),
        units={"tokens": int(count.sum()), "dims": int(count.sum())},
        unknown=0,
        lossy=False,
    )
