"""``unmask evaluate --samples`` on a small model of images."""

import json
import sys

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM

from test_bad_input import refused  # noqa: F401
from test_cli import unmask  # noqa: F401
from unmask.data.pixels import PixelCodec
from unmask.models import pixel_positions
from unmask.models.checkpoint import Card
from unmask.pipelines.image_samples import generate_images
from unmask.pipelines.images import ImageUnmasker

pytest.importorskip("PIL")
from PIL import Image

SAMPLER = {"name": "ancestral", "steps": 2}


def pipeline(classes=("dark", "light"), levels=4):
    codec = PixelCodec(4, 4, 1, levels, classes)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=codec.entries,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=codec.length,
        pad_token_id=None,
        initializer_range=0.3,
    )
    card = Card(images=codec.as_card(), sampler=SAMPLER, sequence_length=codec.length)
    model = BertForMaskedLM(config)
    pixel_positions.attach(model, codec)
    return ImageUnmasker(model, codec, card)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model with classes and one without, and images of two classes in two splits."""
    folder = tmp_path_factory.mktemp("place")
    pipeline().save_pretrained(folder / "model")
    pipeline((), 256).save_pretrained(folder / "plain")
    random = np.random.default_rng(0)
    for split, count in (("train", 20), ("test", 8)):
        for name, low in (("dark", 0), ("light", 150)):
            (folder / "data" / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = random.integers(low, low + 100, (4, 4), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / "data" / split / name / f"{i}.png")
    return folder


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr("unmask.evaluation.features.STEPS", 60)


def test_samples_are_spread_evenly_over_classes():
    model = pipeline()
    found = generate_images(model, 7, ("dark", "light"), seed=4)
    assert found.images.shape == (7, 4, 4, 1)
    assert found.classes == ["dark"] * 4 + ["light"] * 3
    assert found.settings["sampler"] == "ancestral"
    again, other = (generate_images(model, 7, ("dark", "light"), seed=s) for s in (4, 5))
    np.testing.assert_array_equal(found.images, again.images)
    assert not np.array_equal(found.images, other.images)
    assert not np.array_equal(found.images[:3], found.images[4:])
    assert generate_images(model, 3).classes is None


def test_samples_are_made_in_calls_of_a_limited_size(monkeypatch):
    monkeypatch.setattr("unmask.pipelines.image_samples.MOST", 2)
    done = []
    found = generate_images(pipeline(), 5, seed=1, advance=done.append)
    assert done == [2, 2, 1]
    assert len(np.unique(found.images, axis=0)) == 5
    other = generate_images(pipeline(), 5, seed=2)
    assert len(np.unique(np.concatenate([found.images, other.images]), axis=0)) == 10


def test_evaluate_measures_samples_and_reports(unmask, place, tmp_path):  # noqa: F811
    line = ("evaluate", "--model", place / "model", "--data", place / "data", "--draws", 2)
    line = (*line, "--samples", 12, "--seed", 1)
    out = unmask(*line, "--report", tmp_path / "report")
    assert "it is not FID" in out
    assert out.strip() in (tmp_path / "report" / "report.md").read_text("utf-8")
    facts = json.loads(unmask(*line, "--json"))
    assert facts == json.loads((tmp_path / "report" / "report.json").read_text("utf-8"))
    samples = facts[str(place / "model")]["samples"]
    assert samples["samples"] == samples["train_images"] == 12
    assert samples["features"] == "classifier"
    assert samples["classifier_accuracy"] > 0.9
    low, high = samples["class_accuracy_95"]
    assert low <= samples["class_accuracy"] <= high
    assert samples["frechet_distance"] > samples["frechet_distance_train"] > 0
    assert samples["settings"]["steps"] == 2
    # The report can be written again.
    unmask(*line, "--report", tmp_path / "report")


def test_a_model_without_classes_has_no_class_accuracy(unmask, place):  # noqa: F811
    line = ("evaluate", "--model", place / "plain", "--data", place / "data", "--samples", 4)
    samples = json.loads(unmask(*line, "--draws", 1, "--json"))[str(place / "plain")]["samples"]
    assert "class_accuracy" not in samples
    assert samples["classifier_accuracy"] > 0.9


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--model {zoo}/bert --data {text} --samples 4", "--samples goes with a model of images"),
        (
            "--model {place}/model --data {place}/data --features x",
            "--features goes with --samples",
        ),
        (
            "--model {place}/model --data {place}/data --samples 4 --split train",
            "the classifier is trained on the split train",
        ),
        (
            "--model {place}/model --data {place}/data/train --samples 4",
            "has no splits",
        ),
    ],
)
def test_a_mistake_is_one_sentence(refused, place, zoo, text_file, line, says):  # noqa: F811
    words = line.format(place=place, zoo=zoo, text=text_file).split()
    assert says in refused("evaluate", *words)


def test_a_file_of_no_features_is_one_sentence(refused, place, tmp_path, monkeypatch):  # noqa: F811
    line = ("evaluate", "--model", place / "model", "--data", place / "data", "--samples", 4)
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    assert "pip install 'unmask[fid]'" in refused(*line, "--features", tmp_path / "nothing.pt")
    monkeypatch.setitem(sys.modules, "torchmetrics", object())
    assert "there is no file" in refused(*line, "--features", tmp_path / "nothing.pt")
