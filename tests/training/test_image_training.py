"""Training on images: what is learned, what a batch is made of, and what does not go together."""

import contextlib
import io
import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from scipy.stats import binomtest

from checks import generator
from unmask.cli import main
from unmask.data.images import Images
from unmask.data.pixels import PixelCodec
from unmask.pipelines.image_autoregressor import ImageAutoregressor
from unmask.pipelines.images import ImageUnmasker
from unmask.training.image_dataset import ImageBatcher, ImageSource
from unmask.training.recipe import Recipe
from unmask.training.sections import DataSection, ImagesSection, ModelSection, TrainingSection

FAST = {
    "training.steps": 3,
    "training.batch_size": 8,
    "training.log_every": 1,
    "training.evaluation_rows": 8,
    "training.evaluate_every": 0,
    "training.save_every": 0,
    "training.warmup_steps": 0,
    "training.bf16": "off",
    "training.learning_rate": 0.01,
    "images.levels": 4,
    "images.classes": "true",
}
UNET = {
    "model.config.block_out_channels": [8],
    "model.config.layers_per_block": 1,
    "model.config.norm_num_groups": 4,
    "model.config.embedding_size": 4,
    "model.config.hidden_size": 8,
}


def write_stripes(folder: Path, count: int = 32) -> Path:
    """Images of 4 x 4 of two classes, sorted by class: a bright row or a bright column, and noise.

    Every level is about as frequent in both, so that a histogram does not tell them apart.
    """
    random = np.random.default_rng(0)
    for number in range(count):
        across = number % 2
        image = random.integers(0, 2, (4, 4)) * 85
        where = int(random.integers(4))
        image[where] = 255
        image = image if across else image.T
        place = folder / ("across" if across else "down") / f"{number:03}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.astype(np.uint8)).save(place)
    return folder


@pytest.fixture(scope="module")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_stripes(tmp_path_factory.mktemp("stripes"))


def words_of(recipe: object, data: Path, out: Path, *more: object, **settings: object) -> list[str]:
    """Return the words of ``train``; settings use __ for the dot."""
    name = str(recipe)
    network = UNET if name.endswith("-pixels") and name != "ar-pixels" else {}
    if "--model" in more:
        network = {}
    changed = FAST | network | {k.replace("__", "."): v for k, v in settings.items()}
    words = ["train", name, "--data", data, "--out", out, *more]
    words += [word for key, value in changed.items() for word in ("--set", f"{key}={value}")]
    return [str(word) for word in words]


def train(*args: object, **settings: object) -> str:
    with contextlib.redirect_stderr(io.StringIO()) as said:
        assert main(words_of(*args, **settings)) == 0, said.getvalue()
    return said.getvalue()


def refusal(*args: object, **settings: object) -> str:
    """Return the one sentence that refuses to train."""
    with contextlib.redirect_stderr(io.StringIO()) as said:
        assert main(words_of(*args, **settings)) == 2, said.getvalue()
    text = said.getvalue()
    assert text.startswith("unmask: "), text
    assert text.count("\n") == 1, text
    return text


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def source_of(data: Path, validation: Path | None = None, share: float = 0.25) -> ImageSource:
    recipe = Recipe(
        model=ModelSection(type="pixel-unet"),
        data=DataSection(rows="images", validation_share=share),
        images=ImagesSection(levels=4, classes=True),
        training=TrainingSection(batch_size=4, steps=1),
    )
    where = None if validation is None else str(validation)
    return ImageSource.read(str(data), where, "text", recipe, print)


# What a batch is made of


def batch(count: int, flip: bool, label_dropout: float, seed: int = 0):
    codec = PixelCodec(2, 3, 3, 256, ("ant", "bee"))
    rows = torch.cat([torch.tensor([258]), torch.arange(18)]).expand(count, 19)
    batcher = ImageBatcher(codec, flip, label_dropout)
    return rows, batcher({"input_ids": rows}, generator(seed))


def test_a_flip_mirrors_left_and_right():
    # Two rows of three pixels; the first becomes the last of its own row, its colours in order.
    mirrored = [6, 7, 8, 3, 4, 5, 0, 1, 2, 15, 16, 17, 12, 13, 14, 9, 10, 11]
    _, done = batch(4000, True, 0.0)
    turned = (done.rows[:, 1:] == torch.tensor(mirrored)).all(1)
    kept = (done.rows[:, 1:] == torch.arange(18)).all(1)
    assert (turned ^ kept).all()
    # Every other image; a correct library fails at this seed with a chance of 1e-6.
    assert binomtest(int(turned.sum()), 4000, 0.5).pvalue > 1e-6
    assert (done.rows[:, 0] == 258).all()
    rows, done = batch(100, False, 0.0)
    assert torch.equal(done.rows, rows)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.7, 1.0])
def test_the_class_is_dropped_as_often_as_stated(share):
    rows, done = batch(4000, False, share)
    dropped = done.rows[:, 0] == 256
    assert ((done.rows[:, 0] == 258) | dropped).all()
    assert torch.equal(done.rows[:, 1:], rows[:, 1:])
    # A correct library fails at this seed with a chance of 1e-6.
    assert binomtest(int(dropped.sum()), 4000, share).pvalue > 1e-6


def test_flips_and_dropped_classes_are_independent():
    _, done = batch(4000, True, 0.5)
    turned, dropped = done.rows[:, 1] == 6, done.rows[:, 0] == 256
    # A correct library fails at this seed with a chance of 1e-6.
    assert binomtest(int((turned & dropped).sum()), 4000, 0.25).pvalue > 1e-6


def test_every_sub_pixel_can_be_noised_and_no_class():
    _, done = batch(5, True, 0.5)
    assert done.editable[:, 1:].all()
    assert not done.editable[:, 0].any()
    assert done.tokens.tolist() == [18] * 5


# Training and validation


def test_the_held_out_images_are_of_all_classes_from_their_beginning(stripes, tmp_path):
    """The first rows are what a short validation sees; sorted, they would be of one class."""
    own = write_stripes(tmp_path / "validation", 64)
    for source in (source_of(stripes, share=0.5), source_of(stripes, own)):
        held_out = source.held_out
        assert held_out.labels is not None
        count = len(held_out)
        first = held_out.labels[: count // 2]
        assert {*first.tolist()} == {0, 1}
        # Of a sorted set all would be of the class 0.
        assert 0.25 < first.mean() < 0.75
    assert len(source_of(stripes, own).images) == 32


def test_training_and_held_out_images_are_a_partition(stripes):
    whole, source = source_of(stripes, share=0.0), source_of(stripes)
    assert whole.held_out is None
    parts = [*source.images.pixels, *source.held_out.pixels]
    assert (len(source.images), len(source.held_out)) == (24, 8)
    assert sorted(p.tobytes() for p in parts) == sorted(p.tobytes() for p in whole.images.pixels)
    # Labels stay with their images.
    known = {p.tobytes(): i for p, i in zip(whole.images.pixels, whole.images.labels, strict=True)}
    for part in (source.images, source.held_out):
        assert [known[p.tobytes()] for p in part.pixels] == part.labels.tolist()


def test_it_learns_more_than_the_histogram(stripes, tmp_path):
    """Below the entropy of the levels, given the class: it has to look at other pixels."""
    out = tmp_path / "model"
    train("md4-pixels", stripes, out, training__steps=100, training__ema=0.9)
    held_out = source_of(stripes, share=0.25).images
    ids = np.array([PixelCodec(4, 4, 1, 4).encode(image) for image in held_out.pixels])
    share = np.bincount(ids.ravel(), minlength=4) / ids.size
    share = share[share > 0]
    histogram = -(share * np.log2(share)).sum()
    fresh = write_stripes(tmp_path / "fresh", 100)
    pipeline = ImageUnmasker.from_pretrained(str(out))
    score = pipeline.score(source_of(fresh, share=0.0).images, draws=4)
    assert score.interval("bits_per_dim")[1] < histogram - 0.1
    assert json.loads((out / "unmask.json").read_text())["images"] == {
        "height": 4,
        "width": 4,
        "channels": 1,
        "levels": 4,
        "classes": ["across", "down"],
    }


def test_a_constant_set_costs_next_to_nothing_and_what_the_model_says(tmp_path):
    """The bound on the only image there is goes to zero; of another it is above 2 bits."""
    folder = tmp_path / "grey"
    folder.mkdir()
    for number in range(8):
        Image.fromarray(np.full((4, 4), 170, np.uint8)).save(folder / f"{number}.png")
    train(
        "md4-pixels",
        folder,
        tmp_path / "model",
        images__classes="false",
        training__steps=80,
        training__learning_rate=0.03,
        training__ema=0.5,
        data__validation_share=0,
    )
    pipeline = ImageUnmasker.from_pretrained(str(tmp_path / "model"))
    score = pipeline.score(np.full((1, 4, 4, 1), 170, np.uint8), draws=32)
    assert score.bits_per_dim < 0.05
    assert pipeline.score(np.zeros((1, 4, 4, 1), np.uint8), draws=32).bits_per_dim > 2
    # One sub-pixel, all others visible: the bound is the network's own prediction of it.
    ids = torch.full((1, 17), 2)
    ids[0, 0] = 4
    exact = pipeline.score_in_order(np.full((1, 4, 4, 1), 170, np.uint8))
    total = 0.0
    with torch.no_grad():
        for place in range(1, 17):
            row = ids.clone()
            row[0, place:] = 4
            logits = pipeline.denoiser(row, torch.tensor([(17 - place) / 16]))
            total -= float(logits[0, place].log_softmax(0)[2])
    assert math.isclose(exact.nats, total, rel_tol=1e-3, abs_tol=1e-5)


def test_resumed_it_is_what_it_would_have_been(stripes, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    settings = {"training__save_every": 2, "images__flip": "true", "training__ema": 0.5}
    settings |= {"images__label_dropout": 0.5, "model__dropout": 0.1}
    train("md4-pixels", stripes, whole, **settings, training__steps=4)
    # Cut off after the checkpoint of step 2, as by a power cut.
    train("md4-pixels", stripes, parts, **settings, training__steps=4)
    work = parts / "training"
    for path in work.glob("checkpoint-4/*"):
        path.unlink()
    (work / "checkpoint-4").rmdir()
    for name in ("model.safetensors", "unmask.json", "config.json"):
        (parts / name).unlink()
    train("md4-pixels", stripes, parts, "--resume", **settings, training__steps=4)
    one, other = weights(whole), weights(parts)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_the_average_is_what_is_saved(stripes, tmp_path):
    settings = {"training__save_every": 3, "training__steps": 3}
    train("md4-pixels", stripes, tmp_path / "own", **settings, training__ema=0)
    train("md4-pixels", stripes, tmp_path / "average", **settings, training__ema=0.999)
    own, saved = weights(tmp_path / "own"), weights(tmp_path / "average")
    average = load_file(tmp_path / "average/training/checkpoint-3/average.safetensors")
    assert {key for key in average if not torch.equal(average[key], saved[key])} == set()
    assert any(not torch.equal(own[key], saved[key]) for key in average)


# The other networks and processes

NETWORKS = {
    "modernbert": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
    "bert": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
}
METHODS = {
    "genmd4-pixels": {},
    "d3pm-pixels": {"objective__num_steps": 20},
    "ar-pixels": {"model__config__hidden_size": 16, "model__config__num_hidden_layers": 2},
}


def use(folder: Path, images: Images, pixels: int = 16) -> None:
    """Open, score and generate."""
    card = json.loads((folder / "unmask.json").read_text())
    kind = ImageAutoregressor if card["kind"] == "causal" else ImageUnmasker
    pipeline = kind.from_pretrained(str(folder))
    score = pipeline.score(images, **({"draws": 8} if card["kind"] == "masked" else {}))
    assert math.isfinite(score.nats)
    assert 0 < score.bits_per_dim < 10
    assert score.bits_per_dim == pytest.approx(
        score.nats / math.log(2) / (pixels * len(images)), rel=1e-9
    )
    options = {"steps": 4} if card["kind"] == "masked" else {}
    done = pipeline.generate(num_samples=3, label="down", **options)
    assert done.images.shape == (3, 4, 4, 1)
    assert {*done.images.ravel().tolist()} <= {0, 85, 170, 255}
    assert np.array_equal(
        done.images, pipeline.generate(num_samples=3, label="down", **options).images
    )


@pytest.mark.parametrize("kind", NETWORKS)
def test_an_encoder_is_a_network_over_pixels(stripes, tmp_path, kind):
    config = "\n".join(f"{key} = {value}" for key, value in NETWORKS[kind].items())
    recipe = tmp_path / "own.toml"
    recipe.write_text(
        f'name = "own"\n[model]\ntype = "{kind}"\n[model.config]\nintermediate_size = 24\n{config}'
        '\n[data]\nrows = "images"\n'
    )
    train(recipe, stripes, tmp_path / "model", training__steps=2)
    # The mask is an ordinary token: its embedding is learned.
    before = weights(tmp_path / "model")
    table = next(value for key, value in before.items() if value.shape == (7, 16))
    assert table[4].abs().sum() > 0
    use(tmp_path / "model", source_of(stripes).images)


@pytest.mark.parametrize("method", METHODS)
def test_other_methods_train_save_score_and_generate(stripes, tmp_path, method):
    said = train(method, stripes, tmp_path / "model", **METHODS[method])
    assert "bits/dim" in said
    use(tmp_path / "model", source_of(stripes).images)


def test_speed_is_in_tokens_of_the_images(stripes, tmp_path):
    train("md4-pixels", stripes, tmp_path / "model")
    log = (tmp_path / "model/training/metrics.jsonl").read_text().splitlines()
    entries = [e for e in map(json.loads, log) if "tokens_per_second" in e]
    for before, entry in pairwise(entries):
        seconds = entry["seconds"] - before["seconds"]
        # A step is 8 rows of 17 tokens; the seconds of the log are rounded to a millisecond.
        assert 8 * 17 / (seconds + 0.01) < entry["tokens_per_second"]
        assert entry["tokens_per_second"] < 8 * 17 / max(seconds - 0.01, 1e-4)


# What does not go together


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, stripes) -> Path:
    folder = tmp_path_factory.mktemp("models")
    train("md4-pixels", stripes, folder / "unet")
    train("ar-pixels", stripes, folder / "ar", **METHODS["ar-pixels"])
    return folder


def test_a_model_of_the_same_images_is_trained_further(models, stripes, tmp_path):
    train("md4-pixels", stripes, tmp_path / "model", "--model", models / "unet")
    assert weights(tmp_path / "model").keys() == weights(models / "unet").keys()


OTHER = "was trained on images of 4 x 4"


@pytest.mark.parametrize("name", ["unet", "ar"])
@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"images__levels": 2}, OTHER),
        ({"images__levels": 256}, OTHER),
        ({"images__classes": "false"}, OTHER),
        ({"images__resize": 8}, OTHER),
        ({"images__channels": 3}, OTHER),
    ],
)
def test_a_model_of_other_images_is_refused(models, stripes, tmp_path, name, settings, says):
    recipe = {"unet": "md4-pixels", "ar": "ar-pixels"}[name]
    found = refusal(recipe, stripes, tmp_path / "model", "--model", models / name, **settings)
    assert says in found
    assert not (tmp_path / "model").exists()


def test_models_and_data_of_the_other_modality_are_refused(
    models, stripes, zoo, text_file, tmp_path
):
    out = tmp_path / "model"
    for recipe, name in (("md4-pixels", "roberta"), ("ar-pixels", "llama")):
        said = refusal(recipe, stripes, out, "--model", zoo / name)
        assert "was not trained on images" in said
    assert "was not trained on images" in refusal("md4-pixels", stripes, out, "--model", "bundled")
    said = refusal("md4-pixels", stripes, out, "--model", models / "ar")
    assert "autoregressive" in said
    assert "is no file of images" in refusal("md4-pixels", text_file, out)
    for recipe, name in (("tiny", "unet"), ("ar", "ar")):
        words = ["train", recipe, "--data", text_file, "--out", out, "--model", models / name]
        with contextlib.redirect_stderr(io.StringIO()) as err:
            assert main([str(word) for word in words]) == 2
        assert "was trained on images, and this recipe is for texts" in err.getvalue()
    with contextlib.redirect_stderr(io.StringIO()) as err:
        assert main(["train", "diffuse", "--data", str(stripes), "--out", str(out)]) == 2
    assert "holds no file that ends in .txt" in err.getvalue()
    assert not out.exists()


def test_too_few_images_are_refused(stripes, tmp_path):
    out = tmp_path / "model"
    said = refusal("md4-pixels", stripes, out, training__batch_size=64)
    assert "31 training images, fewer than a batch of 64" in said
    assert "training.batch_size=31" in said
    said = refusal("md4-pixels", stripes, out, data__validation_share=1)
    assert "no image is left for training; lower data.validation_share" in said


def test_other_mistakes_of_a_recipe_are_one_sentence(stripes, tmp_path):
    out = tmp_path / "model"
    flat = tmp_path / "flat"
    flat.mkdir()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(flat / "a.png")
    assert "has no classes, and images.classes is true" in refusal("md4-pixels", flat, out)
    said = refusal("md4-pixels", stripes, out, "--validation", flat)
    assert "have other classes" in said
    assert "choose 1 for grey or 3" in refusal("md4-pixels", stripes, out, images__channels=2)
    said = refusal("md4-pixels", stripes, out, model__config__block_out_channels=[8, 8, 8, 8])
    assert "4 x 4 cannot be" in said
    said = refusal("d3pm-pixels", stripes, out, schedule__name="linear")
    assert "schedule 'linear' goes with" in said
    assert not out.exists()
