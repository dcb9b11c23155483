"""``unmask evaluate --samples``: the quality of images that a model generates."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unmask.cli import options
from unmask.errors import UserError
from unmask.validation import require

if TYPE_CHECKING:
    from unmask.data.images import Images
    from unmask.data.pixels import PixelCodec
    from unmask.evaluation.image_quality import Reference, SampleQuality


@dataclass(frozen=True)
class SampleTest:
    """Compares samples of models with the images of a data set.

    Args:
        data: The data set.
        split: Its images to compare with.
        column: Of the images, for tables.
        count: Samples of each model.
        seed: Of the samples and of the classifier.
        extractor: A TorchScript module for FID; None for none.
    """

    data: str
    split: str
    column: str
    count: int
    seed: int
    extractor: Path | None
    _known: dict[Any, Reference] = field(default_factory=dict)

    def __call__(self, name: str, pipeline: Any) -> tuple[SampleQuality, dict[str, Any]]:
        """Return the quality of the samples of a model, and the settings of its sampler."""
        from unmask.pipelines.image_samples import generate_images
        from unmask.render.console import progress_bar

        reference = self._reference(pipeline)
        classes = [one for one in pipeline.codec.classes if one in reference.train.classes]
        with progress_bar(options.console()) as progress:
            task = progress.add_task(f"samples of {name}", total=self.count)
            found = generate_images(
                pipeline,
                self.count,
                classes,
                seed=self.seed,
                advance=lambda count: progress.advance(task, count),
            )
        return reference.measure(found.images, found.classes), found.settings

    def _reference(self, pipeline: Any) -> Reference:
        """Return the images to compare with; models of the same images share them."""
        from unmask.cli.pictures import read_for
        from unmask.evaluation.features import STEPS
        from unmask.evaluation.image_quality import Reference
        from unmask.render.console import progress_bar

        key = (pipeline.codec.shape, pipeline.codec.levels)
        if key not in self._known:
            train, test = (
                at_levels(read_for(pipeline, self.data, split, self.column), pipeline.codec)
                for split in ("train", self.split)
            )
            if len(test) < 2:
                raise UserError("--samples needs two test images at least")
            with progress_bar(options.console()) as progress:
                task = progress.add_task("classifier", total=STEPS)
                self._known[key] = Reference.of(
                    train,
                    test,
                    extractor=self.extractor,
                    seed=self.seed,
                    steps=STEPS,
                    advance=lambda count: progress.advance(task, count),
                )
        return self._known[key]


def at_levels(images: Images, codec: PixelCodec) -> Images:
    """Return images in the levels of a model, as its samples are."""
    import numpy as np

    from unmask.data.pixels import MAX_LEVELS

    if codec.levels == MAX_LEVELS:
        return images
    pixels = [codec.decode(codec.quantised(codec.checked(image))) for image in images.pixels]
    return replace(images, pixels=np.stack(pixels))


def check(samples: int | None, extractor: Path | None, trained_on: str, split: str) -> None:
    """Raise a UserError for options of samples that do not go with the others."""
    require(
        ("--samples", samples is None or trained_on == "images", "a model of images"),
        ("--features", extractor is None or samples is not None, "--samples"),
        (
            "--samples",
            samples is None or split not in ("train", "all"),
            "a --split such as test: the classifier is trained on the split train",
        ),
    )


def tables(found: dict[str, SampleQuality | None]) -> list[str]:
    """Return the measurements, by the names of the models, as a table and its legend."""
    from unmask.evaluation import image_quality

    known = {name: quality for name, quality in found.items() if quality is not None}
    return [image_quality.table(known), image_quality.legend(known)]
