"""How near generated images are to real ones: accuracy of their classes and distances of features.

A finite set of images has a distance above 0 from another of the same law, the more so the fewer
images it has. Therefore the distance of as many training images is reported beside that of samples.
It is no strict limit: the classifier was trained on these images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unmask.data.images import Images
from unmask.errors import optional_library
from unmask.evaluation.features import (
    STEPS,
    Advance,
    Components,
    Extractor,
    Features,
    SmallClassifier,
    train_classifier,
)
from unmask.evaluation.image_distances import (
    NEIGHBOURS,
    fid,
    frechet_distance,
    precision_recall,
)
from unmask.evaluation.intervals import wilson_interval
from unmask.evaluation.sampler_study import markdown_table


@dataclass(frozen=True)
class SampleQuality:
    """How near samples are to the test images.

    Attributes:
        samples: Number of samples.
        features: ``classifier`` or ``pca``: what ``distance`` is computed in.
        distance: Frechet distance between samples and test images; not FID.
        train_distance: The same of training images.
        train_images: Number of these: as many as samples, or all.
        classifier_accuracy: Share of test images that the classifier assigns to their class.
        class_accuracy: Share of samples that it assigns to the class that they were generated for.
        class_accuracy_95: Wilson's interval of that.
        extractor: File of the features of the following, None for none.
        fid: Frechet distance in these features.
        fid_train: The same of training images.
        precision: Share of samples among the test images; see ``precision_recall``.
        recall: Share of test images among the samples.
    """

    samples: int
    features: str
    distance: float
    train_distance: float
    train_images: int
    classifier_accuracy: float | None = None
    class_accuracy: float | None = None
    class_accuracy_95: tuple[float, float] | None = None
    extractor: str | None = None
    fid: float | None = None
    fid_train: float | None = None
    precision: float | None = None
    recall: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return everything that is known, fit for JSON."""
        found: dict[str, Any] = {
            "samples": self.samples,
            "features": self.features,
            "frechet_distance": self.distance,
            "frechet_distance_train": self.train_distance,
            "train_images": self.train_images,
            "classifier_accuracy": self.classifier_accuracy,
            "class_accuracy": self.class_accuracy,
            "class_accuracy_95": self.class_accuracy_95 and list(self.class_accuracy_95),
            "fid": self.fid,
            "fid_train": self.fid_train,
            "precision": self.precision,
            "recall": self.recall,
            "fid_features": self.extractor,
        }
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True)
class Reference:
    """Real images to compare samples with, and the features to do it in.

    Attributes:
        train: Images that the model may have been trained on; the classifier is.
        test: Images that samples are compared with.
        own: The classifier, or principal components where the images have no classes.
        extractor: Features of a file; None for none.
        seed: Of the choice of training images.
    """

    train: Images
    test: Images
    own: SmallClassifier | Components
    extractor: Extractor | None = None
    seed: int = 0

    @classmethod
    def of(
        cls,
        train: Images,
        test: Images,
        *,
        extractor: Path | None = None,
        seed: int = 0,
        steps: int = STEPS,
        advance: Advance = lambda count: None,
    ) -> Reference:
        """Train the classifier and load the extractor.

        Args:
            train: Images with or without labels.
            test: Images of the same size, two at least.
            extractor: A TorchScript module; see ``features.Extractor``.
            seed: Of the classifier.
            steps: As for ``features.train_classifier``, like ``advance``.
            advance: See ``steps``.

        Raises:
            UserError: If the extractor cannot be used, or its library is missing.
        """
        chosen = None
        if extractor is not None:
            with optional_library("FID", "fid"):
                import torchmetrics  # noqa: F401
            chosen = Extractor.load(extractor, test.pixels)
        own: SmallClassifier | Components
        if train.labels is None or len(train.classes) < 2:
            own = Components.of(train.pixels, seed)
        else:
            images = (train.pixels, train.labels, len(train.classes))
            own = train_classifier(*images, seed=seed, steps=steps, advance=advance)
        return cls(train, test, own, chosen, seed)

    def measure(self, samples: np.ndarray, classes: list[str] | None = None) -> SampleQuality:
        """Compare samples with the test images.

        Args:
            samples: Shape (N, H, W, C), uint8; two at least.
            classes: The class that each was generated for; None for no classes.

        Raises:
            UserError: If the extractor fails.
        """
        few = self._like_samples(len(samples))
        sets = (samples, few, self.test.pixels)
        found = self._with_classes(samples, classes) | self._with_extractor(*sets)
        features = _features(self.own, *sets)
        return SampleQuality(
            samples=len(samples),
            features="pca" if isinstance(self.own, Components) else "classifier",
            distance=frechet_distance(features[0], features[2]),
            train_distance=frechet_distance(features[1], features[2]),
            train_images=len(few),
            **found,
        )

    def _like_samples(self, count: int) -> np.ndarray:
        """Return as many training images as there are samples, or all."""
        order = np.random.default_rng(abs(self.seed)).permutation(len(self.train))
        return self.train.pixels[np.sort(order[:count])]

    def _with_classes(self, samples: np.ndarray, classes: list[str] | None) -> dict[str, Any]:
        if isinstance(self.own, Components):
            return {}
        found: dict[str, Any] = {}
        if self.test.labels is not None:
            names = np.array(self.test.classes)[self.test.labels]
            found["classifier_accuracy"] = self._right(self.test.pixels, names) / len(self.test)
        if classes is not None:
            right = self._right(samples, np.array(classes))
            found["class_accuracy"] = right / len(samples)
            found["class_accuracy_95"] = wilson_interval(right, len(samples))
        return found

    def _right(self, images: np.ndarray, names: np.ndarray) -> int:
        assert isinstance(self.own, SmallClassifier)
        return int((np.array(self.train.classes)[self.own.predict(images)] == names).sum())

    def _with_extractor(
        self, samples: np.ndarray, few: np.ndarray, test: np.ndarray
    ) -> dict[str, Any]:
        if self.extractor is None:
            return {}
        first, second, real = _features(self.extractor, samples, few, test)
        precision, recall = precision_recall(first, real)
        return {
            "extractor": self.extractor.name,
            "fid": fid(first, real),
            "fid_train": fid(second, real),
            "precision": precision,
            "recall": recall,
        }


def _features(own: Features, *sets: np.ndarray) -> list[np.ndarray]:
    return [own.features(images) for images in sets]


def table(found: Mapping[str, SampleQuality]) -> str:
    """Return measurements, by the names of their models, as a Markdown table."""
    columns = {"model": list(found), "samples": [str(one.samples) for one in found.values()]}
    columns["class accuracy"] = [_class_accuracy(one) for one in found.values()]
    columns["classifier on test images"] = [
        _percent(one.classifier_accuracy) for one in found.values()
    ]
    for name, key in (
        ("Frechet distance", "distance"),
        ("of training images", "train_distance"),
        ("FID", "fid"),
        ("FID of training images", "fid_train"),
        ("precision", "precision"),
        ("recall", "recall"),
    ):
        columns[name] = [_number(getattr(one, key)) for one in found.values()]
    shown = {name: cells for name, cells in columns.items() if any(cells)}
    return markdown_table(list(shown), zip(*shown.values(), strict=True))


def legend(found: Mapping[str, SampleQuality]) -> str:
    """Return what the columns of a table are."""
    parts = []
    kinds = {one.features for one in found.values()}
    if "classifier" in kinds:
        parts.append(
            "Class accuracy is the share of samples that a small classifier, trained on the "
            "training images, assigns to the class that they were generated for, with Wilson's "
            "95 % interval; beside it the share of test images that it assigns to their class. "
            "The Frechet distance between samples and test images is in the features of this "
            "classifier: it is not FID, and compares models on these images alone."
        )
    if "pca" in kinds:
        parts.append(
            "The images have no classes, so the Frechet distance between samples and test images "
            "is in principal components of the training images: it is not FID, and sees means and "
            "covariances of pixels alone."
        )
    counts = sorted({one.train_images for one in found.values()})
    parts.append(
        f"The distance of {' or '.join(map(str, counts))} training images from the test images is "
        "given for comparison; distances of different numbers of samples do not compare."
    )
    files = sorted({one.extractor for one in found.values() if one.extractor is not None})
    if files:
        parts.append(
            f"FID is the Frechet distance in the features of {', '.join(files)}, and comparable "
            "with published numbers only if these are those of Inception v3 and there are as many "
            "samples. Precision is the share of samples among the test images, recall that of "
            f"test images among the samples, by balls to the {NEIGHBOURS}rd nearest neighbour."
        )
    return " ".join(parts)


def _class_accuracy(one: SampleQuality) -> str:
    if one.class_accuracy is None or one.class_accuracy_95 is None:
        return ""
    low, high = one.class_accuracy_95
    return f"{_percent(one.class_accuracy)} ({100 * low:.1f} to {_percent(high)})"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
