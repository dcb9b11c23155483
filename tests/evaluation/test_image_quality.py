"""The quality of generated images: distances with known values, the classifier, the report."""

import sys

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from unmask.data.images import Images, read_images
from unmask.errors import UserError
from unmask.evaluation import image_quality
from unmask.evaluation.features import Components, Extractor, train_classifier
from unmask.evaluation.image_distances import fid, frechet_distance, precision_recall
from unmask.evaluation.image_quality import Reference
from unmask.evaluation.intervals import wilson_interval

RNG = np.random.default_rng(0)


def gaussian(mean, covariance, count=200):
    """Return a set whose mean and covariance are exactly these."""
    noise = RNG.normal(size=(count, len(mean)))
    noise -= noise.mean(0)
    white = noise @ np.linalg.inv(np.linalg.cholesky(np.cov(noise, rowvar=False)).T)
    return white @ np.linalg.cholesky(covariance).T + mean


def random_covariance(size):
    root = RNG.normal(size=(size, size))
    return root @ root.T + 0.1 * np.eye(size)


# Distances


def test_the_distance_of_gaussians_has_a_closed_form():
    # Of diagonal covariances it is |m - m'|^2 + sum (s - s')^2.
    first = gaussian(np.array([0.0, 1.0, -2.0]), np.diag([1.0, 4.0, 9.0]))
    second = gaussian(np.array([2.0, 1.0, 0.0]), np.diag([9.0, 1.0, 9.0]), 77)
    assert frechet_distance(first, second) == pytest.approx(4 + 4 + (1 - 3) ** 2 + (2 - 1) ** 2)
    covariance, other = random_covariance(5), random_covariance(5)
    found = frechet_distance(gaussian(np.zeros(5), covariance), gaussian(np.ones(5), other))
    root = sqrtm(covariance @ other).real
    assert found == pytest.approx(5 + np.trace(covariance + other - 2 * root))


def test_the_distance_knows_no_order_and_is_0_of_a_set_from_itself():
    first, second = RNG.normal(size=(50, 4)), RNG.normal(1, 2, size=(60, 4))
    found = frechet_distance(first, second)
    assert found > 1
    assert frechet_distance(second, first) == pytest.approx(found)
    assert frechet_distance(RNG.permutation(first), second[::-1]) == pytest.approx(found)
    assert frechet_distance(first, first[::-1]) == pytest.approx(0, abs=1e-9)


def test_the_distance_of_fewer_points_than_features():
    points = RNG.normal(size=(5, 40))
    assert frechet_distance(points, points) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(points, points + 0.5) == pytest.approx(40 * 0.25)
    # Two points vary along one direction; d^2 = (s - s')^2.
    pairs = [np.array([[-s, 0.0], [s, 0.0]]) / np.sqrt(2) for s in (1.0, 3.0)]
    assert frechet_distance(*pairs) == pytest.approx(4)


def test_precision_and_recall_of_what_lies_where():
    real = np.array([[0.0], [1.0], [2.0], [3.0], [100.0], [101.0], [102.0], [103.0]])
    samples = np.array([[0.5], [1.5], [2.5], [1.0], [50.0]])
    # Balls reach to the third nearest: 50 is in none, and 100 to 103 are in none of the samples'
    # but of that of 50, whose radius is 49: it ends at 99.
    assert precision_recall(samples, real) == (0.8, 0.5)
    assert precision_recall(samples, real[:4]) == (0.8, 1.0)
    assert precision_recall(real, real) == (1.0, 1.0)
    # The radius is that of the k-th nearest, so 4.5 is reached from 1 for k = 1 in steps of 3.5.
    line = np.array([[0.0], [1.0], [4.5]])
    assert precision_recall(np.array([[8.0], [8.1]]), line, 1) == (0.5, 0.0)


def test_wilson_interval_has_the_published_values():
    # Newcombe 1998, "Two-sided confidence intervals for the single proportion", Table I.
    for successes, trials, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=5e-5)


def test_fid_of_the_library_is_the_same_distance():
    pytest.importorskip("torchmetrics")
    first, second = RNG.normal(size=(90, 6)), RNG.normal(1, 2, size=(80, 6))
    assert fid(first, second) == pytest.approx(frechet_distance(first, second))
    assert fid(first, first) == pytest.approx(0, abs=1e-6)


# Features


def stripes(count, size=6, seed=0):
    """Return images of horizontal and of vertical stripes under noise."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    rows = np.arange(size) % 2 * 200
    pixels = np.where(labels[:, None, None] == 0, rows[:, None], rows[None, :])
    noise = random.integers(0, 56, (count, size, size))
    return Images((pixels + noise).astype(np.uint8)[..., None], labels, ("rows", "columns"))


@pytest.fixture(scope="module")
def reference():
    return Reference.of(stripes(80), stripes(40, seed=1), seed=3, steps=60)


def test_the_classifier_tells_digits_apart():
    pytest.importorskip("sklearn")
    train, test = (read_images("digits", split=split) for split in ("train", "test"))
    # In half the default number of steps, with which three seeds reached 97.3 to 98.0 %.
    found = train_classifier(train.pixels, train.labels, 10, seed=0, steps=500)
    assert (found.predict(test.pixels) == test.labels).mean() >= 0.965


def test_the_classifier_depends_on_its_seed_alone():
    images = stripes(40)
    before = torch.random.get_rng_state()
    features = []
    for seed in (0, 0, 1):
        torch.rand(seed + len(features))
        found = train_classifier(images.pixels, images.labels, 2, seed=seed, steps=20)
        features.append(found.features(images.pixels))
    assert features[0].shape == (40, 64)
    np.testing.assert_array_equal(features[0], features[1])
    assert not np.array_equal(features[0], features[2])
    torch.random.set_rng_state(before)
    train_classifier(images.pixels, images.labels, 2, steps=2)
    assert torch.equal(torch.random.get_rng_state(), before), "torch's own numbers are left alone"


def test_principal_components_keep_distances():
    random = np.random.default_rng(0)
    few = random.integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)
    images = few[random.integers(0, 3, 30)]
    found = Components.of(images).features(images)
    pixels = images.reshape(30, -1) / 255
    for i in range(1, 30):
        apart = np.linalg.norm(pixels[i] - pixels[0])
        assert np.linalg.norm(found[i] - found[0]) == pytest.approx(apart, abs=1e-4)


# Samples


def test_samples_like_the_images_are_nearer_than_others(reference):
    good, bad = stripes(60, seed=2), stripes(60, seed=2)
    bad = 255 - bad.pixels // 2
    classes = [good.classes[label] for label in good.labels]
    found, worse = reference.measure(good.pixels, classes), reference.measure(bad, classes)
    assert found.classifier_accuracy == 1
    assert found.class_accuracy == 1
    assert found.class_accuracy_95 == wilson_interval(60, 60)
    assert found.train_images == 60
    assert found.distance < worse.distance
    assert found.train_distance == worse.train_distance
    wrong = reference.measure(good.pixels, classes[::-1])
    assert wrong.class_accuracy == 0
    assert reference.measure(np.repeat(good.pixels, 2, 0)).train_images == 80


def test_classes_are_known_by_name():
    train = stripes(80)
    test = stripes(40, seed=1)
    turned = Images(test.pixels, 1 - test.labels, test.classes[::-1])
    names = [test.classes[label] for label in test.labels]
    found = Reference.of(train, turned, steps=60).measure(test.pixels, names)
    assert (found.classifier_accuracy, found.class_accuracy) == (1, 1)


def test_images_without_classes_are_compared_by_principal_components():
    train, test = (Images(stripes(n, seed=n).pixels) for n in (40, 20))
    reference = Reference.of(train, test)
    found = reference.measure(test.pixels)
    assert found.distance == pytest.approx(0, abs=1e-6)
    assert found.as_dict().keys() == {
        *("samples", "features", "frechet_distance", "frechet_distance_train", "train_images")
    }
    assert "principal components" in image_quality.legend({"model": found})
    assert "class accuracy" not in image_quality.table({"model": found})


# A file of features


class Means(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.float().mean((2, 3))


class Floats(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dtype != torch.float32:
            raise ValueError("floats")
        return x.flatten(1)[:, :2]


class Scalar(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.float().mean()[None]


class Fails(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(7, -1)


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    folder = tmp_path_factory.mktemp("modules")
    for kind in (Means, Floats, Scalar, Fails):
        torch.jit.script(kind()).save(str(folder / kind.__name__))
    (folder / "text").write_text("no module")
    return folder


def test_a_module_gets_the_type_that_it_takes(modules):
    pixels = stripes(4).pixels
    means = Extractor.load(modules / "Means", pixels).features(pixels)
    assert means.shape == (4, 3)
    np.testing.assert_allclose(means[:, 1], pixels.mean((1, 2, 3)), rtol=1e-6)
    floats = Extractor.load(modules / "Floats", pixels).features(pixels)
    np.testing.assert_allclose(floats, pixels[:, 0, :2, 0] / 255, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nothing", "there is no file"),
        ("text", r"is no TorchScript module \(PytorchStreamReader [^.]*\); write one"),
        ("Fails", "does not take these images: .*shape"),
        ("Scalar", "must return a row of finite features for each"),
    ],
)
def test_a_module_that_gives_no_features(modules, name, says):
    with pytest.raises(UserError, match=says):
        Extractor.load(modules / name, stripes(4).pixels)


def test_without_the_library_there_is_no_fid(modules, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    with pytest.raises(UserError, match=r"FID needs torchmetrics.*pip install 'unmask\[fid\]'"):
        Reference.of(stripes(8), stripes(8), extractor=modules / "Means")


def test_fid_precision_and_recall_are_those_of_the_module(modules):
    pytest.importorskip("torchmetrics")
    train, test = (Images(stripes(n, seed=n).pixels) for n in (40, 20))
    reference = Reference.of(train, test, extractor=modules / "Means")
    found = reference.measure(test.pixels)
    assert found.fid == pytest.approx(0, abs=1e-6)
    assert (found.precision, found.recall) == (1, 1)
    assert found.fid_train > 0
    assert found.as_dict()["fid_features"] == str(modules / "Means")
    dark = reference.measure(test.pixels // 4)
    assert dark.fid > 1000 > found.fid
    assert (dark.precision, dark.recall) == (0, 0)
    assert "FID" in image_quality.table({"model": dark})
