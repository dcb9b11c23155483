"""Every command on a model of images, as a user runs it; and every mistake in one sentence."""

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from test_cli import unmask  # noqa: F401
from test_image_training import METHODS, train, words_of, write_stripes
from unmask.cli import main
from unmask.data.images import read_image
from unmask.pipelines.images import ImageUnmasker

SHORT = ("--steps", 4)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models of grey and of RGB images of 4 x 4, an autoregressive one, images and masks."""
    folder = tmp_path_factory.mktemp("place")
    write_stripes(folder / "data")
    train("md4-pixels", folder / "data", folder / "grey")
    train("ar-pixels", folder / "data", folder / "ar", **METHODS["ar-pixels"])
    settings = {"images__channels": 3, "images__classes": "false", "images__levels": 256}
    train("md4-pixels", folder / "data", folder / "rgb", **settings)
    random = np.random.default_rng(0)
    for name, shape in {
        "grey": (4, 4),
        "rgb": (4, 4, 3),
        "small": (2, 2, 3),
        "tall": (5, 4),
    }.items():
        pixels = random.integers(0, 256, shape, dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    mask = np.zeros((4, 4), np.uint8)
    Image.fromarray(mask).save(folder / "black.png")
    mask[:2] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    Image.fromarray(mask[:3]).save(folder / "short.png")
    (folder / "corrupt.png").write_bytes((folder / "grey.png").read_bytes()[:-20])
    (folder / "text.txt").write_text("The cat sat on the mat.\n" * 60)
    return folder


def refused(*words: object) -> str:
    """Run a command line that must fail; return its one sentence."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(word) for word in words])
    said = err.getvalue()
    assert (code, out.getvalue()) == (2, ""), said
    lines = said.splitlines()
    assert lines[-1].startswith("unmask: "), said
    # Before it there may be a note on what was read.
    assert all("resized" in line or "converted" in line for line in lines[:-1]), said
    return lines[-1]


def pixels_of(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


# generate


def test_images_are_printed_drawn_and_saved(unmask, place, tmp_path):  # noqa: F811
    line = ("generate", "--model", place / "grey", "--num-samples", 3, "--seed", 5, *SHORT)
    # Two rows of a terminal for four of an image, and a line between images.
    assert len(unmask(*line).splitlines()) in (3 * 2 + 2, 3 * 4 + 2)
    grid, out = tmp_path / "grid.png", tmp_path / "out"
    assert unmask(*line, "--grid", grid, "--out", out) == ""
    made = ImageUnmasker.from_pretrained(str(place / "grey")).generate(
        num_samples=3, seed=5, steps=4
    )
    names = sorted(path.name for path in out.iterdir())
    assert names == ["0.png", "1.png", "2.png"]
    for name, image in zip(names, made.images, strict=True):
        assert np.array_equal(read_image(out / name), image)
    assert pixels_of(grid).shape[0] > 4
    facts = json.loads(unmask(*line, "--json"))
    assert np.array_equal(np.array(facts["images"]), made.images)
    assert (facts["nfe"], facts["seed"]) == (4, 5)


def test_a_class_and_its_guidance(unmask, place):  # noqa: F811
    line = ("generate", "--model", place / "grey", "--json", *SHORT)
    made = [
        json.loads(unmask(*line, *options))
        for options in (
            (),
            ("--label", "down"),
            ("--label", 1),
            ("--label", "down", "--guidance-scale", 0),
            ("--label", "down", "--guidance-scale", 3),
        )
    ]
    free, down, one, unguided, guided = (facts["images"] for facts in made)
    assert down == one
    assert free == unguided
    assert np.shape(guided) == (1, 4, 4, 1)
    # Two predictions a step, of the class and of none; one where one has no weight.
    assert [facts["nfe"] for facts in made] == [4, 4, 4, 4, 8]
    assert made[4]["settings"]["guidance_scale"] == 3


def test_recordings_are_written_and_shown_again(unmask, place, tmp_path):  # noqa: F811
    frames, gif, page = (tmp_path / f"a.{end}" for end in ("jsonl", "gif", "html"))
    line = ("generate", "--model", place / "rgb", "--num-samples", 2, *SHORT)
    unmask(*line, "--frames", frames, "--gif", gif, "--html", page, "--out", tmp_path / "out")
    with Image.open(gif) as animation:
        assert animation.n_frames >= 5
    assert "<html" in page.read_text().lower()
    shown = unmask("show", frames)
    assert shown.strip()
    unmask("show", frames, "--gif", tmp_path / "b.gif", "--html", tmp_path / "b.html")
    assert (tmp_path / "b.gif").read_bytes() == gif.read_bytes()
    # The same images in a terminal, without the network.
    assert shown.strip() == unmask(*line).strip()


def test_an_autoregressive_model_of_images(unmask, place, tmp_path):  # noqa: F811
    line = ("generate", "--model", place / "ar")
    unmask(
        *line, "--label", "across", "--top-k", 2, "--temperature", 0.5, "--out", tmp_path / "out"
    )
    assert pixels_of(tmp_path / "out/0.png").shape == (4, 4)
    assert "'steps'" in refused(*line, "--steps", 4)
    assert "guidance_scale" in refused(*line, "--guidance-scale", 2)
    assert "a recording goes with" in refused(*line, "--gif", tmp_path / "a.gif")
    assert "is autoregressive" in refused(*line, "--backend", "torch-int8")
    said = refused(
        "infill", place / "grey.png", "--mask", place / "mask.png", "--model", place / "ar"
    )
    assert "is autoregressive" in said


def test_quiet_is_quiet(place, tmp_path, capsys):
    line = ["generate", "-q", "--model", place / "grey", "--out", tmp_path / "out", *SHORT]
    assert main([str(word) for word in line]) == 0
    assert capsys.readouterr() == ("", "")
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_a_folder_that_holds_something_is_replaced_on_request(unmask, place, tmp_path):  # noqa: F811
    line = ("generate", "--model", place / "grey", "--out", tmp_path, *SHORT)
    unmask(*line)
    before = (tmp_path / "0.png").read_bytes()
    assert "is not empty" in refused(*line, "--seed", 1)
    assert (tmp_path / "0.png").read_bytes() == before
    unmask(*line, "--seed", 1, "--overwrite")
    assert (tmp_path / "0.png").read_bytes() != before


# infill


def test_the_black_part_of_a_mask_stays(unmask, place, tmp_path):  # noqa: F811
    line = ("infill", place / "grey.png", "--mask", place / "mask.png", "--model", place / "grey")
    unmask(*line, "--out", tmp_path / "out", "--num-samples", 2, "--label", "across", *SHORT)
    given = pixels_of(place / "grey.png")
    for name in ("0.png", "1.png"):
        found = pixels_of(tmp_path / "out" / name)
        # Exactly, though this model knows four levels of grey.
        assert np.array_equal(found[2:], given[2:])
        assert np.isin(found[:2], [0, 85, 170, 255]).all()


def test_colours_for_a_grey_image(unmask, place, tmp_path):  # noqa: F811
    line = ("infill", place / "grey.png", "--colorize", "--model", place / "rgb")
    unmask(*line, "--out", tmp_path / "out", *SHORT)
    found = pixels_of(tmp_path / "out/0.png")
    assert np.array_equal(found[..., 1], pixels_of(place / "grey.png"))
    assert (found[..., 0] != found[..., 1]).mean() > 0.9


def test_pixels_between_those_of_a_small_image(unmask, place, tmp_path):  # noqa: F811
    line = ("infill", place / "small.png", "--upscale", "--model", place / "rgb")
    unmask(*line, "--out", tmp_path / "out", "--frames", tmp_path / "a.jsonl", *SHORT)
    found = pixels_of(tmp_path / "out/0.png")
    assert found.shape == (4, 4, 3)
    assert np.array_equal(found[::2, ::2], pixels_of(place / "small.png"))


# score, evaluate, info


def test_a_score_is_of_every_sub_pixel(unmask, place):  # noqa: F811
    line = ("--model", place / "rgb", "--draws", 4, "--json")
    one = json.loads(unmask("score", place / "rgb.png", *line))
    assert (one["dims"], one["tokens"], one["kind"]) == (48, 48, "bound")
    assert one["bits_per_dim"] == pytest.approx(one["nats"] / 48 / np.log(2))
    assert "bits_per_char" not in one
    many = json.loads(unmask("score", place / "data", *line))
    assert many["dims"] == 48 * 32
    text = unmask("score", place / "grey.png", "--model", place / "grey", "--draws", 2)
    assert "in 1 image of 16 sub-pixels" in text
    exact = json.loads(unmask("score", place / "data", "--model", place / "ar", "--json"))
    assert (exact["kind"], exact["exact"], exact["dims"]) == ("exact", True, 512)


def test_models_of_images_are_evaluated_together(unmask, place, tmp_path):  # noqa: F811
    line = ("evaluate", "--model", place / "grey", "--model", place / "ar", "--paired")
    table = unmask(*line, "--data", place / "data", "--draws", 2, "--report", tmp_path)
    assert "bits/dim" in table
    assert "perplexity" not in table
    report = (tmp_path / "report.md").read_text()
    assert "Over texts: 32 images." in report
    facts = json.loads((tmp_path / "report.json").read_text())
    assert {found["dims"] for found in facts.values()} == {512}
    assert all(found["given_the_class"] for found in facts.values())
    assert facts[str(place / "ar")]["exact"]
    # A set without splits is scored whole, unless a split is asked for.
    assert facts[str(place / "grey")]["images"] == 32


def test_the_split_test_is_scored_if_there_is_one(unmask, place, tmp_path):  # noqa: F811
    write_stripes(tmp_path / "data/train", 8)
    write_stripes(tmp_path / "data/test", 4)
    line = ("evaluate", "--model", place / "grey", "--data", tmp_path / "data", "--draws", 2)
    count = {
        split: json.loads(unmask(*line, "--json", *split))[str(place / "grey")]["images"]
        for split in ((), ("--split", "train"), ("--split", "all"))
    }
    assert [*count.values()] == [4, 8, 12]


def test_info_names_the_images(unmask, place):  # noqa: F811
    facts = json.loads(unmask("info", place / "grey", "--json"))
    assert facts["images"]["classes"] == ["across", "down"]
    assert facts["architecture"] == "pixel-unet"
    assert "height: 4" in unmask("info", place / "grey").replace("\xa0", " ")


# Mistakes

MISTAKES = [
    ("infill {p}/grey.png --mask {p}/short.png --model {p}/grey", "the mask is 4 x 3 pixels"),
    ("infill {p}/grey.png --mask {p}/black.png --model {p}/grey", "the mask is black"),
    ("infill {p}/grey.png --mask {p}/none.png --model {p}/grey", "there is no file"),
    ("infill {p}/tall.png --mask {p}/mask.png --model {p}/grey", "5 x 4 x 1 values"),
    ("infill {p}/corrupt.png --mask {p}/mask.png --model {p}/grey", "cannot read the image"),
    ("infill {p}/grey.png --mask {p}/corrupt.png --model {p}/grey", "cannot read the image"),
    ("infill {p}/text.txt --mask {p}/mask.png --model {p}/grey", "cannot read the image"),
    ("infill {p}/grey.png --model {p}/grey", "one of --mask FILE, --colorize and --upscale"),
    ("infill {p}/grey.png --mask {p}/mask.png --colorize --model {p}/rgb", "say what to generate"),
    ("infill {p}/grey.png --colorize --model {p}/grey", "cannot add colours"),
    ("infill {p}/rgb.png --upscale --model {p}/rgb", "a whole multiple"),
    ("infill --mask {p}/mask.png --model {p}/grey", "there is no image"),
    ("infill {p}/grey.png --top 3 --model {p}/grey", "--top has no effect"),
    ("infill {p}/grey.png --mask {p}/mask.png", "--mask goes with a model of images"),
    ("generate --model {p}/grey --label cat", "unknown class 'cat'; choose one of across, down"),
    ("generate --model {p}/rgb --label across", "trained without classes"),
    ("generate --model {p}/grey --guidance-scale 2", "no class is given"),
    ("generate --model {p}/grey --length 5", "--length has no effect"),
    ("generate --model {p}/grey --match a", "--match has no effect"),
    ("generate --model {p}/grey --data {p}/text.txt", "--data has no effect"),
    ("generate --model {p}/grey --source a", "--source has no effect"),
    ("generate --model {p}/grey --ban a", "ban is not supported for models of images; leave"),
    ("generate hello --model {p}/grey", "prompt has no effect"),
    ("generate --model {p}/grey --grid {p}/out.jpg", "ends in .png, not"),
    ("generate --model {p}/grey --grid {p}/no/out.png", "there is no folder"),
    ("generate --model {p}/grey --out {p}/no/out", "there is no folder"),
    ("generate --model {p}/grey --out {p}/text.txt", "is a file"),
    ("generate --model {p}/grey --out {p}", "is not empty"),
    ("generate --model {p}/grey --overwrite", "--overwrite goes with --out"),
    ("generate --model {p}/grey --cache frozen", "a frozen cache is for encoders"),
    ("generate --model {p}/grey --backend torch-int8", "not supported for models conditioned"),
    ("generate --model {p}/none", "there is no model folder"),
    ("generate --grid cosine", "the times of the steps are --grid-times"),
    ("score {p}/tall.png --model {p}/grey", "resize it"),
    ("score {p}/corrupt.png --model {p}/grey", "cannot read the image"),
    ("score {p}/text.txt --model {p}/grey", "is no file of images"),
    ("score --model {p}/grey", "there is no image"),
    ("score {p}/grey.png --model {p}/grey --order left-to-right", "--order has no effect"),
    ("score {p}/grey.png --model {p}/grey --per-token", "--per-token has no effect"),
    ("score {p}/grey.png --model {p}/ar --draws 2", "--draws goes with a model with masks"),
    ("evaluate --model {p}/grey --data {p}/data --split test", "has no splits"),
    (
        "evaluate --model {p}/grey --data {p}/data --window 4",
        "--window is not supported for models of",
    ),
    ("evaluate --model {p}/grey --data {p}/text.txt", "is no file of images"),
    ("evaluate --model {p}/grey --model bundled --data {p}/data", "evaluate them apart"),
    ("evaluate --model {p}/grey --model {p}/rgb --data {p}/data --paired", "cannot be paired"),
    ("tune --model {p}/grey --data {p}/text.txt", "trained on images, and this is for models of"),
    ("tune --model {p}/ar --data {p}/text.txt", "trained on images"),
    ("export --model {p}/grey --out {p}/exported", "trained on images"),
    ("compare --models {p}/grey bundled", "trained on images"),
    ("compare hello --models bundled {p}/ar", "trained on images"),
    ("bench samplers --data {p}/data", "holds no file that ends in .txt"),
    ("show {p}/grey.png", "a file that unmask wrote with --frames"),
]


@pytest.mark.parametrize(("line", "says"), MISTAKES, ids=[line for line, _ in MISTAKES])
def test_a_mistake_is_one_sentence(place, line, says):
    said = refused(*line.format(p=place).split())
    assert says in said
    assert not (place / "exported").exists()


BLOCKED = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "diffusers":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocker())
from unmask.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_without_diffusers_it_is_named(place, tmp_path):
    """In a process of its own, in which the library cannot be imported."""
    line = ["generate", "--model", str(place / "grey"), "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, *line],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert "pip install 'unmask[images]'" in done.stderr
    assert not (tmp_path / "out").exists()


def test_images_are_trained_on_from_the_command_line(place, tmp_path):
    """A run that has ended is not resumed, nor replaced unasked."""
    out = tmp_path / "model"
    settings = {"training__save_every": 2, "training__steps": 2}
    said = train("md4-pixels", place / "data", out, **settings)
    assert "bits/dim" in said
    assert f"saved {out}" in said
    before = (out / "model.safetensors").read_bytes()
    words = words_of("md4-pixels", place / "data", out, **settings)
    assert "came to its end after 2 steps" in refused(*words, "--resume")
    assert "is not empty" in refused(*words)
    assert (out / "model.safetensors").read_bytes() == before
