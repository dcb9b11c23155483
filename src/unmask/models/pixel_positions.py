"""Positions in a picture for an encoder of texts: which row, column and channel a token is.

    embedding of token i  +  row(i) + column(i) + channel(i)

An encoder knows only how far apart two tokens are in a row of sub-pixels, so that the pixel above
is as far as the width of the picture. Three small tables are added to its embeddings by a hook,
without touching its code; the class at the beginning gets nothing.

Reference: Chen et al. 2020, "Generative Pretraining from Pixels", has learned positions too; Child
et al. 2019, arXiv:1904.10509, add those of row, column and channel.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from unmask.data.pixels import PixelCodec
from unmask.errors import UserError

NAME = "unmask_pixels"
"""The submodule of the model under which the tables are trained and saved."""


class PixelPositions(nn.Module):
    """The tables of rows, columns and channels.

    Args:
        codec: Height, width and channels.
        width: Of the embeddings.
    """

    index: Tensor

    def __init__(self, codec: PixelCodec, width: int) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(size, width) for size in codec.shape)
        for table in self.tables:
            nn.init.normal_(table.weight, std=0.02)  # type: ignore[arg-type]
        grids = torch.meshgrid(*map(torch.arange, codec.shape), indexing="ij")
        self.register_buffer("index", torch.stack(grids).flatten(1), persistent=False)

    def forward(self, length: int) -> Tensor:
        """Return what is added to the first tokens of a row, shape (length, E)."""
        places = self.index[:, : length - 1]
        parts = [table(place) for table, place in zip(self.tables, places, strict=True)]
        return nn.functional.pad(torch.stack(parts).sum(0), (0, 0, 1, 0))

    def add(self, _module: nn.Module, _args: Any, output: Tensor) -> Tensor:
        """Return the embeddings (B, L, E) of a layer with the positions added: a forward hook."""
        return output + self(output.shape[1]).to(output.dtype)


def attach(model: PreTrainedModel, codec: PixelCodec) -> None:
    """Add the tables to a model that has no pictures of its own, by a submodule ``unmask_pixels``.

    Raises:
        UserError: If the model has no table of embeddings.
    """
    words: Any = model.get_input_embeddings()
    if not isinstance(words, nn.Embedding):
        raise UserError(
            f"{type(model).__name__} has no table of embeddings, which pixels need; choose another "
            "model.type"
        )
    positions = PixelPositions(codec, words.embedding_dim).to(model.device, model.dtype)
    model.add_module(NAME, positions)
    # A bound method rather than a closure, so that a deep copy of the model has its own hook.
    words.register_forward_hook(positions.add)
