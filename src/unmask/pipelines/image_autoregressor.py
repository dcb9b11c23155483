"""The autoregressive baseline on sub-pixels: raster order, exact scores in the same units.

Reference: Chen et al. 2020, "Generative Pretraining from Pixels" (ImageGPT).
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unmask.data.pixels import PixelCodec
from unmask.data.text_rows import Text
from unmask.diffusion import capabilities
from unmask.diffusion.capabilities import IMAGES
from unmask.errors import UserError
from unmask.models import loading
from unmask.models.checkpoint import Card
from unmask.models.positions import entries_of
from unmask.pipelines.causal import CausalPipeline
from unmask.pipelines.images import GeneratedImages, image_rows
from unmask.pipelines.layout_options import SampleOptions
from unmask.pipelines.prompts import row_seed
from unmask.sampling.samplers.base import TokenOptions
from unmask.sampling.token_sampling import Draw
from unmask.validation import place, read_options

DRAWING = ("temperature", "top_k", "top_p", "min_p")
"""Options of ``generate`` that say how a value is drawn."""
ROWS = 64
"""Images in one batch."""


class ImageAutoregressor(CausalPipeline):
    """A causal language model over sub-pixels that generates and scores images.

    Args:
        model: Any ``*ForCausalLM`` over the ids of ``codec``.
        codec: Size, levels and classes of its images.
        card: Its history.
    """

    def __init__(self, model: Any, codec: PixelCodec, card: Card) -> None:
        codec.check_entries(entries_of(model))
        super().__init__(model.eval(), codec, card, "torch", codec.length)

    @classmethod
    def from_pretrained(cls, name: str, device: str | None = None) -> ImageAutoregressor:
        """Open a causal model of images from a directory or hub id.

        Raises:
            UserError: If there is no such model, it is damaged, or it was not trained on images.
        """
        name = place("the model", name)
        card = loading.load_card(name)
        if card is None or not card.images or card.kind != "causal":
            raise UserError(f"{name} is no autoregressive model of images")
        model = loading.place(loading.load_model(name, "causal"), device)
        return cls(model, PixelCodec(**card.images), card)

    def generate(
        self,
        *,
        num_samples: int = 1,
        label: str | int | None = None,
        seed: int = 0,
        **options: Any,
    ) -> GeneratedImages:
        """Generate images, one network call for each sub-pixel.

        Args:
            num_samples: How many.
            label: Name or number of their class; None for no class.
            seed: Of the random numbers.
            options: ``temperature``, ``top_k``, ``top_p`` and ``min_p``; see
                ``sampling.samplers.base.TokenOptions``.

        Raises:
            UserError: If there is no such option, one is out of range, or there is no such class.
        """
        asked = SampleOptions(num_samples=num_samples, seed=seed)
        known = {name: TokenOptions.options()[name] for name in DRAWING}
        draw = Draw(**read_options(known, options, "autoregressive"))
        first = self.codec.class_id(label)
        begun = time.perf_counter()
        parts = [
            self._sample(first, min(ROWS, asked.num_samples - done), asked.seed, done, draw)
            for done in range(0, asked.num_samples, ROWS)
        ]
        rows = torch.cat(parts)[:, 1:].cpu().numpy()
        return GeneratedImages(
            images=np.stack([self.codec.decode(row) for row in rows]),
            nfe=len(parts) * self.codec.dims,
            seconds=time.perf_counter() - begun,
            seed=asked.seed,
            settings={
                "sampler": "autoregressive",
                "num_samples": asked.num_samples,
                "temperature": draw.temperature,
                "top_k": draw.top_k,
                "top_p": draw.top_p,
                **({"min_p": draw.min_p} if draw.min_p else {}),
            },
        )

    def _sample(self, first: int, count: int, seed: int, number: int, draw: Draw) -> Tensor:
        """Return the rows that transformers generates after the class, (count, L)."""
        ids = torch.full((count, 1), first, device=self.device)
        greedy = draw.temperature == 0
        filters = {"temperature": draw.temperature, "top_k": draw.top_k or 0, "top_p": draw.top_p}
        filters |= {"min_p": draw.min_p} if draw.min_p else {}
        with torch.random.fork_rng():
            # Not the sum of seed and number: the batches of one seed would be those of the next.
            torch.manual_seed(row_seed(seed, number))
            rows: Tensor = self.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=not greedy,
                min_new_tokens=self.codec.dims,
                max_new_tokens=self.codec.dims,
                pad_token_id=self.codec.pad_token_id,
                suppress_tokens=list(range(self.codec.levels, self.codec.entries)),
                **({} if greedy else filters),
            )
        return rows

    def rows(self, text: Any, window: int | None = None, stride: int | None = None) -> Text:
        """Return the rows of images; see ``ImageUnmasker.rows``."""
        for name, value in (("window", window), ("stride", stride)):
            if value is not None:
                capabilities.require((IMAGES,), "scoring_window", name)
        return image_rows(text, self.codec)

    def _rows_of(self, data: Any) -> Text:
        return self.rows(data)
