"""The image pipeline of diffusion models: generate, infill and score.

pipeline = ImageUnmasker.from_pretrained("out/digits")
pipeline.generate(num_samples=16, label="3", guidance_scale=2).images   # (16, H, W, C), uint8
pipeline.infill(image, mask).images
pipeline.score(images).bits_per_dim
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unmask.data.image_rows import text_of
from unmask.data.images import Images
from unmask.data.pixels import PixelCodec
from unmask.data.text_rows import Text
from unmask.errors import UserError
from unmask.models import loading
from unmask.models.checkpoint import Card
from unmask.models.pixel_unet import check_shape
from unmask.models.positions import entries_of, position_limit
from unmask.models.runtimes import select
from unmask.pipelines.base import CACHES, denoiser_of, formulation_of
from unmask.pipelines.generation import GenerationPlan, Watch, plan_rows
from unmask.pipelines.picture_trace import PictureFrame, PictureTrack
from unmask.pipelines.prompts import Rows, row_seed
from unmask.pipelines.recorder import Recording
from unmask.pipelines.request import GenerationRequest
from unmask.pipelines.scoring import ScoringMixin
from unmask.sampling.canvas import Canvas, Frame
from unmask.validation import one_of, place

CELLS = 2**24
"""Sub-pixels times levels in one batch: 64 MiB of logits in float32."""


@dataclass(frozen=True)
class GeneratedImages:
    """The result of generation.

    Attributes:
        images: Shape (N, H, W, C), uint8.
        nfe: Network calls, whatever their batch size.
        seconds: Wall-clock time in the sampler and the network.
        seed: The seed that gives the same images again.
        settings: Sampler, steps and the other options in force.
        tracks: One recording per image.
    """

    images: np.ndarray
    nfe: int
    seconds: float
    seed: int
    settings: dict[str, Any] = field(default_factory=dict)
    tracks: tuple[PictureTrack, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the recordings, fit for JSON."""
        return {
            "images": self.images.tolist(),
            "nfe": self.nfe,
            "seconds": round(self.seconds, 4),
            "seed": self.seed,
            "settings": self.settings,
        }


class ImageUnmasker(ScoringMixin):
    """A network over sub-pixels that generates, infills and scores images.

    Args:
        model: A masked language model over the ids of ``codec``.
        codec: Size, levels and classes of its images.
        card: Process, schedule, default sampler and history.
        counts: How often each level occurs in the training images, shape (V,), for the schedules
            that are made from it.
        backend: What computes the network; see ``runtimes.select.label``.
        cache: As for ``Unmasker``.

    Raises:
        UserError: If there is no such cache, or the network is for other images.
    """

    unconditioned = (
        "guidance weighs an image with and without its class, and no class is given: give a label, "
        "or leave the scale out"
    )

    def __init__(
        self,
        model: Any,
        codec: PixelCodec,
        card: Card,
        counts: Tensor | None = None,
        backend: str = "torch",
        cache: str = "exact",
    ) -> None:
        one_of("cache", cache, CACHES)
        codec.check_entries(entries_of(model))
        check_shape(model.config, codec)
        model, positions = model.eval(), position_limit(model)
        counts = None if counts is None else counts.to(model.device)
        denoiser = denoiser_of(model, codec, card, None, positions)
        formulation = formulation_of(model, codec, card, denoiser, counts)
        super().__init__(
            model, codec, card, denoiser, formulation, cache, backend, positions, counts
        )

    @classmethod
    def from_pretrained(
        cls, name: str, device: str | None = None, backend: str = "auto", cache: str = "exact"
    ) -> ImageUnmasker:
        """Open a model of images; the arguments are those of ``Unmasker.from_pretrained``.

        Raises:
            UserError: If there is no such model, it was not trained on images, it is damaged, or
                the backend cannot compute it.
        """
        name = place("the model", name)
        card = loading.load_card(name)
        if card is None or not card.images:
            raise UserError(f"{name} was not trained on images; open it as an Unmasker")
        if card.kind == "causal":
            raise UserError(f"{name} is autoregressive; open it as an ImageAutoregressor")
        backend, device = select.choose(backend, name, device, exported_too=False)
        model, counts = loading.load_equipped(name, card)
        model = loading.place(model, device)
        backend = select.settle(backend, model, card)
        select.prepare(backend, name, model)
        codec = PixelCodec(**card.images)
        return cls(model, codec, card, counts, select.label(backend, name), cache)

    def condition(self, canvas: Canvas) -> Tensor:
        """Return where guidance hides the class: the first token of a row that has one."""
        found = torch.zeros_like(canvas.masked)
        found[:, 0] = canvas.ids[:, 0] != self.codec.mask_token_id
        return found

    def generate(
        self,
        *,
        num_samples: int = 1,
        label: str | int | None = None,
        seed: int = 0,
        watch: Watch | None = None,
        **options: Any,
    ) -> GeneratedImages:
        """Generate images.

        Args:
            num_samples: How many. Image i depends on (seed, i) alone.
            label: Name or number of their class; None for no class.
            seed: Of the random numbers.
            watch: Called with every frame and the seconds so far.
            options: Of the sampler, as for ``Unmasker.generate``, and ``guidance_scale``: 1 is the
                model as it is, 0 ignores the class, above 1 exaggerates it.

        Raises:
            UserError: If an option is out of range, or there is no such class.
        """
        free = np.ones(self.codec.dims, dtype=bool)
        nothing = np.zeros(self.codec.dims, dtype=np.int64)
        request = GenerationRequest(num_samples=num_samples, seed=seed, settings=options)
        return self._written(request, self.codec.class_id(label), nothing, free, watch)

    def infill(
        self,
        image: Any,
        mask: Any,
        *,
        num_samples: int = 1,
        label: str | int | None = None,
        seed: int = 0,
        watch: Watch | None = None,
        **options: Any,
    ) -> GeneratedImages:
        """Generate the masked part of an image; the rest keeps its values to the bit.

        Args:
            image: Shape (H, W, C) or (H, W), uint8.
            mask: Shape (H, W) or (H, W, C), bool; True where a sub-pixel is to be generated. See
                ``data.image_masks`` for colourisation and super-resolution.

        The other arguments are those of ``generate``.

        Raises:
            UserError: As ``generate``; if the image or the mask has another size, or nothing is
                masked.
        """
        image = self.codec.checked(image)
        free = self._free(mask)
        request = GenerationRequest(num_samples=num_samples, seed=seed, settings=options)
        ids = self.codec.quantised(image).ravel()
        done = self._written(request, self.codec.class_id(label), ids, free, watch)
        kept = ~free.reshape(self.codec.shape)
        # A model of few levels sees the image quantised; what is visible is returned as it was.
        done.images[:, kept] = image[kept]
        return done

    def rows(self, text: Any, window: int | None = None, stride: int | None = None) -> Text:
        """Return the rows of images (N, H, W, C), uint8, or of an ``Images`` with classes.

        Raises:
            UserError: If the images are of another size, or a window or a stride is given.
        """
        for name, value in (("window", window), ("stride", stride)):
            if value is not None:
                self.require("scoring_window", name)
        return image_rows(text, self.codec)

    def _rows_of(self, data: Any) -> Text:
        return self.rows(data)

    def _free(self, mask: Any) -> np.ndarray:
        """Return a mask of sub-pixels, shape (H W C,), bool."""
        found, shape = np.asarray(mask, dtype=bool), self.codec.shape
        if found.shape not in (shape, shape[:2]):
            size = " x ".join(map(str, found.shape))
            raise UserError(
                f"the mask is {size}, but the image {shape[0]} x {shape[1]}; give a mask of its "
                "size"
            )
        if found.ndim == 2:
            found = np.repeat(found[..., None], shape[2], 2)
        if not found.any():
            raise UserError("the mask hides nothing, so there is nothing to generate")
        return found.ravel()

    def _written(
        self,
        request: GenerationRequest,
        class_id: int,
        ids: np.ndarray,
        free: np.ndarray,
        watch: Watch | None,
    ) -> GeneratedImages:
        """Generate the free sub-pixels of one image several times, in batches."""
        self._check(request)
        size = max(1, CELLS // (self.codec.dims * self.codec.levels))
        parts = []
        for first in range(0, request.num_samples, size):
            count = min(size, request.num_samples - first)
            seeds = [row_seed(request.seed, first + i) for i in range(count)]
            rows = lay_out(self.codec, seeds, class_id, ids, free).to(self.device)
            plan = plan_rows(rows, request, self)
            parts.append(self._recorded(plan, watch))
        (settings, *_), images, recordings = zip(*parts, strict=True)
        label = settings["sampler"]
        return GeneratedImages(
            images=np.concatenate(images),
            nfe=sum(recording.frames[-1].nfe for recording in recordings),
            seconds=sum(recording.seconds[-1] for recording in recordings),
            seed=request.seed,
            settings=settings | {"num_samples": request.num_samples},
            tracks=tuple(
                self._track(recording, label, row)
                for recording in recordings
                for row in range(len(recording.frames[-1].ids))
            ),
        )

    def _check(self, request: GenerationRequest) -> None:
        """Refuse the options that are for texts."""
        for name in ("ban", "unban", "repetition_penalty"):
            if request.settings.get(name) is not None:
                self.require(name if name == "repetition_penalty" else "constraints", name)

    def _recorded(
        self, plan: GenerationPlan, watch: Watch | None
    ) -> tuple[dict[str, Any], np.ndarray, Recording]:
        recording = plan.record(watch)
        ids = recording.frames[-1].ids[:, 1:].cpu().numpy()
        images = np.stack([self.codec.decode(row) for row in ids])
        return plan.settings, images, recording

    def _track(self, recording: Recording, label: str, row: int) -> PictureTrack:
        pairs = zip(recording.frames, recording.seconds, strict=True)
        return PictureTrack(
            label, tuple(picture(self.codec, frame, seconds, row) for frame, seconds in pairs)
        )

    def save_pretrained(self, directory: str | Path, *, overwrite: bool = False) -> None:
        """Save as an ordinary Hugging Face directory with ``unmask.json`` in it."""
        self._save(directory, overwrite)


def image_rows(images: Any, codec: PixelCodec) -> Text:
    """Return the rows of images (N, H, W, C), uint8, or of an ``Images`` with classes.

    Raises:
        UserError: If the images have another size or type, or an unknown class.
    """
    found = images if isinstance(images, Images) else Images(np.asarray(images))
    if found.pixels.ndim != 4:
        raise UserError("images are an array (N, H, W, C); for a single one pass image[None]")
    return text_of(found, codec)


def picture(codec: PixelCodec, frame: Frame, seconds: float, row: int) -> PictureFrame:
    """Return one row of a frame as a picture."""
    masked, editable = frame.undecided[row, 1:], frame.canvas.editable[row, 1:]
    return PictureFrame(
        step=frame.step,
        seconds=seconds,
        nfe=frame.nfe,
        pixels=codec.decode(frame.ids[row, 1:].cpu().numpy()),
        undecided=masked.cpu().numpy().reshape(codec.shape),
        given=(~editable).cpu().numpy().reshape(codec.shape),
    )


def lay_out(
    codec: PixelCodec, seeds: Sequence[int], class_id: int, ids: np.ndarray, free: np.ndarray
) -> Rows:
    """Return rows of one image with masks, a row for each seed.

    Args:
        codec: The layout of a row.
        seeds: Of the images to be generated.
        class_id: The id in place of the class.
        ids: Sub-pixels of the image, shape (H W C,), int64.
        free: Those to be generated, shape (H W C,), bool.
    """
    masked = np.concatenate([[False], free])
    row = np.where(masked, codec.mask_token_id, np.concatenate([[class_id], ids]))
    count, size = len(seeds), int(free.sum())
    masks = torch.from_numpy(masked).repeat(count, 1)
    canvas = Canvas(torch.from_numpy(row).repeat(count, 1), masks, masks, torch.ones_like(masks))
    return Rows(canvas, torch.tensor(seeds), [[i] for i in range(count)], [(size,)] * count)


def blank(codec: PixelCodec) -> Rows:
    """Return one row of masks, to try a sampler on."""
    nothing = np.zeros(codec.dims, dtype=np.int64)
    return lay_out(codec, [0], codec.mask_token_id, nothing, nothing == 0)
