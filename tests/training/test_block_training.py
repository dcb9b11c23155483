"""Blocks as a user meets them: trained, converted, opened again, written with, scored, refused."""

import json
import math
import shlex
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from checks import generator
from conftest import POSITIONS, story
from test_training import FRESH, SHORT, metrics, run_train, sets, weights
from unmask import Unmasker
from unmask.cli import main
from unmask.diffusion.schedules.grids import stratified_times
from unmask.errors import UserError
from unmask.models.checkpoint import Card
from unmask.models.compat import Conv1D
from unmask.models.decoder import MASK_TOKENS, DecoderDenoiser, add_mask_token
from unmask.models.loading import load_model
from unmask.models.runtimes.int8 import quantise
from unmask.pipelines import recorder
from unmask.pipelines.autoregressor import Autoregressor
from unmask.training import recipe_file as recipes

TEXT = "The cat sat on the mat today.\nA dog looked at the river again.\n"
BLOCKS = {"objective__block_length": 8}


@pytest.fixture(scope="module")
def trained(zoo: Path, text_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gpt2 turned into a model of blocks of 8."""
    out = tmp_path_factory.mktemp("blocks") / "model"
    settings = SHORT | {"training.steps": 20, "training.learning_rate": 0.003}
    line = ["train", "block-diffusion", "--model", zoo / "gpt2", "--data", text_file, "--out", out]
    more = {"objective.block_length": 8, "training.evaluate_every": 0}
    more["objective.interval"] = "[0.0, 1.0]"  # So that the loss is the bound.
    assert main([str(word) for word in [*line, *sets(settings | more)]]) == 0
    return out


@pytest.fixture
def unmask(capsys: pytest.CaptureFixture[str]):
    """Run a command line; return its exit code, standard output and standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return run


# --- training ---


@pytest.mark.parametrize("block_length", [1, 8, 24])
def test_a_fresh_decoder_is_trained_saved_opened_and_writes(text_file, tmp_path, block_length):
    out = tmp_path / "model"
    settings = {"objective__block_length": block_length}
    assert run_train("block-diffusion", text_file, out, *sets(FRESH), **settings) == 0
    card = json.loads((out / "unmask.json").read_text("utf-8"))
    assert (card["kind"], card["block_length"], card["sequence_length"]) == (
        "block",
        block_length,
        24,
    )
    assert card["scores"]["validation"]["exact"] is False
    writer = Unmasker.from_pretrained(str(out))
    result = writer.generate("The cat", length=5, steps=4)
    assert result.texts[0].startswith("The cat")
    plain, ours = AutoModelForCausalLM.from_pretrained(out).state_dict(), writer.model.state_dict()
    assert plain.keys() == ours.keys()
    assert all(torch.equal(plain[key], ours[key]) for key in ours)
    writer.save_pretrained(tmp_path / "again")
    again = Unmasker.from_pretrained(str(tmp_path / "again"))
    assert again.generate("The cat", length=5, steps=4).texts == result.texts
    assert again.score(TEXT, draws=2).nats == pytest.approx(writer.score(TEXT, draws=2).nats)


def test_a_decoder_without_a_mask_token_gets_one_that_is_saved_with_it(zoo, text_file, tmp_path):
    folder = tmp_path / "nomask"
    shutil.copytree(zoo / "gpt2", folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    settings.pop("mask_token")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    size = len(AutoTokenizer.from_pretrained(folder))
    out = tmp_path / "model"
    rows = weights(folder)["transformer.wte.weight"]
    assert len(rows) == size
    more = {"training__learning_rate": 1e-9, "training__save_every": 2}
    assert run_train("block-diffusion", text_file, out, "--model", folder, **BLOCKS, **more) == 0
    writer = Unmasker.from_pretrained(str(out))
    assert writer.codec.mask_token_id == size
    assert writer.codec.tokenizer.mask_token == "[MASK]", "<mask> is a word of this vocabulary"
    new = weights(out)["transformer.wte.weight"]
    assert new.shape == (size + 1, rows.shape[1])
    assert torch.allclose(new[:size], rows, atol=1e-6), "a conversion starts from the weights"
    assert size not in writer.denoiser.data_ids
    assert writer.generate("The cat", length=6).texts[0].startswith("The cat")
    # A run that goes on does not add a second one.
    line = ("--model", folder, "--resume")
    more |= {"training__steps": 5}
    assert run_train("block-diffusion", text_file, out, *line, **BLOCKS, **more) == 0
    assert len(weights(out)["transformer.wte.weight"]) == size + 1


def test_a_mask_token_takes_a_spare_row_and_is_added_once(zoo):
    model = AutoModelForCausalLM.from_pretrained(zoo / "llama")
    tokenizer = AutoTokenizer.from_pretrained(zoo / "llama")
    assert not add_mask_token(model, tokenizer)
    tokenizer.mask_token = None
    model.resize_token_embeddings(len(tokenizer) + 7)
    assert add_mask_token(model, tokenizer)
    assert tokenizer.mask_token == MASK_TOKENS[1]
    assert model.get_input_embeddings().num_embeddings == len(tokenizer) + 6
    assert not add_mask_token(model, tokenizer)


def test_a_conversion_says_that_nothing_is_shifted_any_more(zoo, text_file, tmp_path, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    line = ("--model", zoo / "llama")
    assert run_train("block-diffusion", text_file, first, *line, **BLOCKS) == 0
    words = "a masked position learns to predict its own token"
    assert words in capsys.readouterr().err
    settings = {"objective__block_length": 4}
    assert run_train("block-diffusion", text_file, second, "--model", first, **settings) == 0
    assert words not in capsys.readouterr().err
    assert Unmasker.from_pretrained(str(second)).card.block_length == 4


def test_the_loss_falls_and_the_bound_is_logged(trained):
    log = metrics(trained)
    losses = [line["loss"] for line in log if "loss" in line]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    (last,) = [line for line in log if "eval_nats_per_token" in line]
    assert last["eval_nats_per_token"] > 0
    assert (trained / "training" / "loss.png").stat().st_size > 5000


def test_an_interval_changes_training_but_not_what_is_judged(zoo, text_file, tmp_path):
    bounds = []
    for name, interval in (("all", "[0.0, 1.0]"), ("part", "[0.3, 0.8]")):
        out = tmp_path / name
        more = {"objective__interval": interval, "training__learning_rate": 1e-9}
        line = ("--model", zoo / "llama")
        assert run_train("block-diffusion", text_file, out, *line, **BLOCKS, **more) == 0
        log = metrics(out)
        bounds.append((log[0]["loss"], log[-1]["eval_nats_per_token"]))
    assert bounds[0][0] != pytest.approx(bounds[1][0], rel=1e-3)
    assert bounds[0][1] == pytest.approx(bounds[1][1], rel=1e-5)


# --- writing and scoring ---


def test_generate_score_evaluate_info_and_compare(trained, zoo, text_file, tmp_path, unmask):
    gif, frames = tmp_path / "a.gif", tmp_path / "a.jsonl"
    line = ("generate", "The cat", "--model", trained, "--length", 30, "--steps", 4, "--json")
    code, out, err = unmask(*line, "--gif", gif, "--frames", frames)
    assert code == 0, err
    facts = json.loads(out)
    assert facts["text"].startswith("The cat")
    assert facts["settings"]["sampler"] == "ancestral"
    assert gif.read_bytes()[:4] == b"GIF8"
    assert unmask("show", frames)[0] == 0
    assert json.loads(unmask(*line)[1])["text"] == facts["text"]
    score = json.loads(unmask("score", TEXT, "--model", trained, "--json")[1])
    assert score["exact"] is False
    assert 0 < score["nats_per_token"] < 12
    models = ("--model", trained, "--model", zoo / "gpt2", "--model", zoo / "bert")
    line = ("evaluate", *models, "--data", text_file, "--max-chars", 1000, "--draws", 2)
    code, out, err = unmask(*line)
    assert code == 0, err
    ours, causal, masked = out.splitlines()[2:]
    assert "≤" in ours
    assert "≤" not in causal
    assert "≤" in masked
    card = json.loads(unmask("info", trained, "--json")[1])
    assert (card["kind"], card["block_length"], card["architecture"]) == ("block", 8, "gpt2")
    line = ("compare", "The cat", "--models", trained, zoo / "gpt2", "--length", 9, "--steps", 2)
    code, out, err = unmask(*line, "--json")
    assert code == 0, err
    blocks, other = json.loads(out).values()
    assert blocks["settings"]["sampler"] == "ancestral"
    assert blocks["settings"]["steps"] == 2
    assert other["settings"]["sampler"] == "autoregressive"


def test_a_text_longer_than_the_model_is_written(trained):
    writer = Unmasker.from_pretrained(str(trained))
    long, sizes = 4 * POSITIONS, []
    for seed in range(4):
        *_, last = writer.stream("The cat", length=long, steps=2, seed=seed)
        count = int(last.canvas.valid.sum())
        written = last.canvas.ids[0, :count][last.canvas.editable[0, :count]].tolist()
        assert writer.codec.end not in written[:-1]
        assert written[-1] == writer.codec.end or len(written) == long
        assert not last.canvas.masked.any()
        sizes.append(len(written))
    assert min(sizes) < long, "this hardly trained model ends a text with any token"
    # Without an end symbol it goes on behind the positions of the network.
    writer.codec.tokenizer.eos_token = None
    *_, last = writer.stream("The cat", length=long, steps=2)
    assert int(last.canvas.valid.sum()) > long


def test_the_canvas_shows_which_blocks_wait(trained):
    writer = Unmasker.from_pretrained(str(trained))
    writer.codec.tokenizer.eos_token = None
    start, prompt = len(writer.codec.start), writer.codec.encode("The cat")
    frames = list(writer.stream("The cat", length=20, steps=2))
    shots = [recorder.snapshot(writer.codec, frame, 0.0, 0) for frame in frames]
    assert set(shots[-1].status) == {"given", "kept", "revealed"}
    for shot, frame in zip(shots, frames, strict=True):
        stop = frame.block[1] - start
        assert stop % 8 in (8 - start, (start + len(prompt) + 20) % 8 - start)
        assert "waiting" not in shot.status[:stop]
        assert set(shot.status[stop:]) <= {"waiting"}
        assert all(not piece for piece in shot.pieces[stop:])
    assert shots[0].status.count("given") == len(prompt)
    assert "masked" in shots[0].status
    assert "waiting" in shots[0].status


@pytest.mark.parametrize(
    "sampler",
    [
        {"sampler": "ancestral"},
        {"sampler": "refine", "steps": 3},
        {"sampler": "threshold", "threshold": 0.3},
        {"sampler": "maskgit", "steps": 4},
        {"sampler": "gibbs", "steps": 12},
    ],
    ids=lambda sampler: sampler["sampler"],
)
def test_every_sampler_writes_blocks_and_a_prompt_is_alone_in_any_batch(trained, sampler):
    writer = Unmasker.from_pretrained(str(trained))
    prompts = ["The cat", "", "A dog sat on the river and on the moon and on the mat."]
    options = sampler | {"seed": 5, "length": 20}
    together = writer.generate(prompts, **options)
    alone = [writer.generate(prompt, **options).texts[0] for prompt in prompts]
    assert list(together.texts) == alone
    for prompt, text in zip(prompts, together.texts, strict=True):
        assert text.startswith(prompt)


def test_steps_are_counted_for_each_block(trained):
    writer = Unmasker.from_pretrained(str(trained))
    writer.codec.tokenizer.eos_token = None
    given = len(writer.codec.start) + len(writer.codec.encode("The cat"))
    edges = [given, *range((given // 8 + 1) * 8, given + 30, 8), given + 30]
    result = writer.generate("The cat", length=30, sampler="maskgit", steps=3)
    assert len(edges) > 4
    assert result.nfe == sum(min(stop - first, 3) for first, stop in pairwise(edges))


def test_the_score_is_the_bound_of_the_blocks(trained):
    writer = Unmasker.from_pretrained(str(trained))
    text = writer.rows(story(4, seed=3))
    assert text.rows.shape[1] == 24
    score = writer.score(text, draws=64, seed=1)
    batch = {"x0": text.rows, "editable": text.editable, "valid": text.valid}
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        draws = [
            writer.formulation.bound(
                writer.denoiser, t=stratified_times(len(text.rows), rng), generator=rng, **batch
            ).nats.sum()
            for _ in range(64)
        ]
    error = math.hypot(score.masks.error, float(torch.stack(draws).std()) / 8)
    assert abs(score.nats - float(torch.stack(draws).mean())) < 4.5 * error
    assert error < 0.02 * score.nats
    # In one step a block every token of it is predicted from the blocks before alone.
    one = [writer.score(text, draws=1, num_steps=1, seed=seed).nats for seed in (0, 9)]
    assert one[0] == pytest.approx(one[1], rel=1e-5)


# --- what is refused ---


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (
            "infill 'The [MASK:2] sat on the mat.'",
            "text after a blank is not supported",
        ),
        ("generate '[MASK:3] the river'", "leave the text after the blank out"),
        ("infill 'The cat [MASK:2-5]'", "give one length"),
        ("generate 'The cat' --block-length 4", "No such option"),
        ("generate 'The cat' --source 'A dog'", "goes without a source"),
        ("generate 'The cat' --threshold 0.5", "threshold"),
        ("score 'The cat' --draws 0", "draws"),
    ],
)
def test_what_blocks_cannot_do_is_said(trained, unmask, line, says):
    code, out, err = unmask(*shlex.split(line), "--model", trained)
    assert (code, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1


def test_what_stands_behind_a_prompt_may_be_a_blank(trained, unmask):
    code, out, _ = unmask("infill", "The cat [MASK:3]", "--model", trained)
    assert code == 0
    assert out.startswith("The cat")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"objective.block_length": 7}, "blocks of 6 would fit, or rows of 21"),
        ({"objective.block_length": 48}, "blocks of 24 would fit, or rows of 48"),
        ({"objective.block_length": -1}, "block_length"),
        ({"objective.block_length": 8, "objective.name": "next-token"}, "'nelbo'"),
        (
            {"objective.block_length": 8, "model.time": "adaln"},
            "goes with objective.block_length",
        ),
        ({"objective.block_length": 8, "schedule.name": "learned"}, "one schedule for all"),
        (
            {"objective.block_length": 8, "process.name": "uniform"},
            "the absorbing process and",
        ),
        ({"objective.block_length": 8, "data.pairs": "true"}, "masked models"),
        ({"objective.block_length": 8, "objective.interval": "[0.5]"}, "two times"),
        ({"objective.block_length": 8, "objective.interval": "[0.5, 0.2]"}, "two times"),
        ({"objective.block_length": 0, "objective.interval": "[0.5, 1.0]"}, "block_length"),
        ({"data.length": 4096, "objective.block_length": 16}, "positions"),
    ],
)
def test_blocks_that_do_not_fit_are_refused(zoo, text_file, tmp_path, unmask, settings, says):
    line = ["train", "block-diffusion", "--data", text_file, "--out", tmp_path / "m"]
    line += ["--model", zoo / "llama"]
    code, out, err = unmask(*line, *sets(SHORT | settings))
    assert (code, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1
    assert not (tmp_path / "m").exists()


def test_a_text_shorter_than_a_row_and_a_model_of_the_wrong_kind(zoo, tmp_path, unmask):
    (tmp_path / "short.txt").write_text("The cat.", "utf-8")
    line = ("train", "block-diffusion", "--data", tmp_path / "short.txt", "--out", tmp_path / "m")
    short = sets(SHORT | {"objective.block_length": 8})
    code, _, err = unmask(*line, "--model", zoo / "llama", *short)
    assert code == 2
    assert "data.length" in err
    code, _, err = unmask(*line, "--model", zoo / "bert", *short)
    assert code == 2
    assert "decoder is needed" in err


def test_a_model_of_blocks_is_not_opened_as_something_else(trained, text_file, tmp_path, unmask):
    with pytest.raises(UserError, match="is a block model"):
        Autoregressor.from_pretrained(str(trained))
    line = ("train", "diffuse", "--data", text_file, "--out", tmp_path / "m", "--model", trained)
    code, _, err = unmask(*line)
    assert code == 2
    assert "encoder" in err


@pytest.mark.parametrize("change", [{"block_length": 0}, {"kind": "masked"}, {"kind": "blocks"}])
def test_a_card_that_contradicts_itself_is_damaged(trained, tmp_path, change):
    card = json.loads((trained / "unmask.json").read_text("utf-8"))
    (tmp_path / "unmask.json").write_text(json.dumps(card | change), "utf-8")
    with pytest.raises(UserError, match="is damaged"):
        Card.read(tmp_path)


def test_one_block_a_row_has_no_room_for_more(zoo, text_file, tmp_path, unmask):
    out = tmp_path / "m"
    settings = {"objective__block_length": 24}
    assert run_train("block-diffusion", text_file, out, "--model", zoo / "llama", **settings) == 0
    code, _, err = unmask("generate", "The cat", "--model", out, "--length", 60)
    assert code == 2
    assert "24 positions" in err
    # What is left out is as long as what fits.
    assert unmask("generate", "The cat", "--model", out)[0] == 0


def test_the_recipe_is_listed_and_has_whole_blocks():
    recipe = recipes.load("block-diffusion")
    assert recipe.kind == "block"
    assert recipe.data.length % recipe.objective.block_length == 0
    assert recipe.model == recipes.load("ar").model
    assert "block-diffusion" in recipes.names()


# --- what computes the network ---


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_blocks_in_eight_bits_come_close_with_the_cache_and_without(zoo, name):
    """GPT-2 keeps its matrices the other way round; both must end up in eight bits."""
    float32, eight = (load_model(str(zoo / name), "causal").eval() for _ in range(2))
    quantise(eight)
    left = [m for m in eight.modules() if isinstance(m, torch.nn.Linear | Conv1D)]
    assert not left
    want, got = (DecoderDenoiser(m, (), 4, 4) for m in (float32, eight))
    ids = torch.randint(5, 100, (3, 16), generator=generator(6))
    noised = ids.masked_fill(torch.rand(ids.shape, generator=generator(7)) < 0.5, 4)
    with torch.no_grad():
        exact, rounded = want(noised, ids), got(noised, ids)
        context, parts = got.context(), []
        for first in range(0, 16, 4):
            parts.append(context(noised[:, first : first + 4], torch.ones(3)))
            context.append(ids[:, first : first + 4])
    assert 0 < (rounded - exact).norm() / exact.norm() < 0.05
    # A number on the border between two integers may go either way, by the order of the sums.
    assert (torch.cat(parts, 1) - rounded).norm() / exact.norm() < 0.005


def test_the_backends_of_a_model_of_blocks(trained, tmp_path, unmask):
    line = ("generate", "The cat", "--model", trained, "--length", 20, "--steps", 2, "--json")
    code, out, err = unmask(*line, "--backend", "torch-int8")
    assert code == 0, err
    facts = json.loads(out)
    assert facts["text"].startswith("The cat")
    assert facts["settings"]["backend"] == "torch-int8"
    bounds = [
        Unmasker.from_pretrained(str(trained), backend=backend).score(TEXT, draws=4).nats_per_token
        for backend in ("auto", "torch-int8")
    ]
    assert 0 < abs(bounds[0] - bounds[1]) < 0.05
    code, out, err = unmask(*line, "--backend", "openvino")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "use --backend torch" in err
    with pytest.raises(UserError, match="not supported for block models"):
        Unmasker.from_pretrained(str(trained)).export(tmp_path / "out")
    assert not (tmp_path / "out").exists()
