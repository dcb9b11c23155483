"""Every published method by its name: trained, saved, opened again, scored and sampled from."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from test_training import run_train, sets, weights
from unmask import Unmasker
from unmask.cli import main
from unmask.diffusion.formulation import PerTokenFormulation, UniformFormulation
from unmask.diffusion.processes.uniform import UniformProcess
from unmask.diffusion.schedules.continuous import Polynomial
from unmask.diffusion.schedules.grids import given_grid, time_grid
from unmask.errors import UserError
from unmask.models.time_conditioning import DESIGNS
from unmask.pipelines.sampler_options import sampler_grid

METHODS = ["md4", "mdlm", "genmd4", "d3pm-absorbing", "d3pm-uniform", "diffusionbert", "bert-mouth"]
TEXT = "The cat sat on the mat today.\nA dog looked at the river again.\n"


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_trained_scored_and_sampled_from(zoo, text_file, tmp_path, name, capsys):
    out = tmp_path / "model"
    assert run_train(name, text_file, out, "--model", zoo / "modernbert") == 0
    writer = Unmasker.from_pretrained(str(out))
    score = writer.score(TEXT, draws=2)
    assert 0 < score.nats_per_token < 50
    line = ["generate", "The cat", "--model", str(out), "--length", "9", "--steps", "6", "--json"]
    capsys.readouterr()
    assert main(line) == 0
    first = json.loads(capsys.readouterr().out)
    assert main(line) == 0
    again = json.loads(capsys.readouterr().out)
    assert (first["text"], first["nfe"]) == (again["text"], again["nfe"])
    assert first["text"].startswith("The cat")
    assert len(first["text"]) > len("The cat")
    assert 1 <= first["nfe"] <= 6


@pytest.mark.parametrize("design", [d for d in DESIGNS if d not in ("none", "input")])
@pytest.mark.parametrize("name", ["bert", "roberta", "modernbert", "distilbert"])
def test_the_time_is_saved_beside_an_ordinary_checkpoint(zoo, text_file, tmp_path, name, design):
    out = tmp_path / "model"
    settings = {"model__time": design, "training__steps": 2, "training__learning_rate": 0.01}
    assert run_train("diffuse", text_file, out, "--model", zoo / name, **settings) == 0
    assert weights(out).keys() == weights(zoo / name).keys()
    beside = load_file(out / "unmask.safetensors")
    assert beside
    assert all(key.startswith("unmask_time.") for key in beside)
    writer = Unmasker.from_pretrained(str(out))
    ids = torch.full((2, 6), writer.codec.mask_token_id)
    early, late = writer.denoiser(ids, torch.tensor([0.1, 0.9]))
    assert not torch.allclose(early, late, atol=1e-6)
    writer.save_pretrained(tmp_path / "again")
    again = Unmasker.from_pretrained(str(tmp_path / "again"))
    assert torch.equal(again.denoiser(ids, torch.tensor([0.1, 0.9]))[0], early)


def test_exponents_and_counts_come_back(zoo, text_file, tmp_path):
    out = tmp_path / "model"
    more = {"schedule__learning_rate": 0.5, "training__steps": 5}
    assert run_train("genmd4", text_file, out, "--model", zoo / "bert", **more) == 0
    formulation = Unmasker.from_pretrained(str(out)).formulation
    assert isinstance(formulation, PerTokenFormulation)
    exponents = formulation.process.schedule.exponents
    assert exponents.std() > 0.05, "nothing was learned"
    counts = load_file(out / "unmask.safetensors")["unmask_schedule.counts"]
    assert len(counts) == len(exponents)
    report = (out / "training" / "exponents.md").read_text("utf-8")
    first = report.partition("## Generated first")[2].splitlines()[4]
    common = exponents[counts >= 10]
    assert f"| {common.max():.3f} |" in first
    assert (out / "training" / "exponents.png").stat().st_size > 5000
    unseen = exponents[counts == 0]
    # What never occurs can only be pushed by the rates at which it is guessed.
    assert exponents[counts > 0].std() > unseen.std()


def test_the_own_learning_rate_is_the_schedules_alone(zoo, text_file, tmp_path):
    base = ("genmd4", text_file)
    for name, rate in (("slow", 1e-9), ("fast", 0.3)):
        settings = {"schedule__learning_rate": rate, "training__learning_rate": 1e-9}
        out = tmp_path / name
        assert run_train(*base, out, "--model", zoo / "bert", **settings) == 0
    moved = {
        name: load_file(tmp_path / name / "unmask.safetensors")["unmask_schedule.param"].std()
        for name in ("slow", "fast")
    }
    assert moved["slow"] < 1e-6
    assert moved["fast"] > 0.01
    for key, value in weights(tmp_path / "fast").items():
        assert torch.allclose(value, weights(zoo / "bert")[key], atol=1e-6), key


def test_the_bound_of_a_number_of_steps_can_be_asked_for(zoo):
    writer = Unmasker.from_pretrained(str(zoo / "bert"))
    # With one step every token is predicted from nothing, whatever the seed.
    one = [writer.score(TEXT, draws=1, num_steps=1, seed=seed).nats for seed in (0, 9)]
    assert one[0] == pytest.approx(one[1], rel=1e-5)
    two = [writer.score(TEXT, draws=1, num_steps=2, seed=seed).nats for seed in (0, 9)]
    assert two[0] != pytest.approx(two[1], rel=1e-5)
    with pytest.raises(UserError, match="num_steps must be from 1 to"):
        writer.score(TEXT, num_steps=-1)


def test_strides_that_do_not_divide_are_refused_with_what_would(zoo):
    writer = Unmasker.from_pretrained(str(zoo / "bert"))
    writer.formulation = replace(writer.formulation, num_steps=60)
    # A network that does not know the time has no steps of its own.
    assert all(writer.score(TEXT, draws=16, num_steps=n).nats > 0 for n in (1, 15, 16, 60))
    for asked, near in ((16, 15), (26, 30), (61, 60), (1000, 60)):
        with pytest.raises(UserError, match=f"60 that this model was trained in; {near} would"):
            writer.formulation.check_strides(asked)


@pytest.mark.parametrize(
    ("saved", "options", "expected"),
    [
        ({}, {}, time_grid(64, "cosine")),
        ({"name": "ancestral", "steps": 32, "grid": "uniform", "top_k": 9}, {}, time_grid(32)),
        ({"name": "ancestral", "grid": "uniform"}, {"num_steps": 7}, time_grid(7)),
        ({"name": "threshold", "threshold": 0.5}, {"num_steps": 4}, time_grid(4, "cosine")),
        ({}, {"num_steps": 5, "grid": "uniform"}, time_grid(5)),
        ({"name": "ancestral", "steps": 9}, {"grid": "1,0.3,0"}, given_grid([1, 0.3, 0])),
    ],
)
def test_the_grid_of_a_bound_is_that_of_the_models_sampler(saved, options, expected):
    assert torch.equal(sampler_grid(saved, **options), expected)


def test_a_grid_that_was_not_trained_on_is_refused():
    process = UniformProcess(Polynomial(), torch.arange(4))
    formulation = UniformFormulation(process, num_steps=12)
    formulation.check_grid(time_grid(4))
    formulation.check_grid(given_grid([1, 0.75, 0.5, 0]))
    with pytest.raises(UserError, match="not among the 12 steps"):
        formulation.check_grid(time_grid(4, "cosine"))
    # In continuous time any grid will do.
    UniformFormulation(process).check_grid(time_grid(4, "cosine"))


def test_what_a_checkpoint_was_trained_for_is_not_changed(zoo, text_file, tmp_path, capsys):
    uniform, told = tmp_path / "uniform", tmp_path / "told"
    assert run_train("d3pm-uniform", text_file, uniform, "--model", zoo / "bert") == 0
    assert run_train("genmd4", text_file, told, "--model", zoo / "bert") == 0
    for recipe, model, words in [
        ("diffuse", uniform, "was trained with process.name=uniform"),
        ("diffuse", told, "was trained with model.time=adaln"),
    ]:
        capsys.readouterr()
        assert run_train(recipe, text_file, tmp_path / "new", "--model", model) == 2
        assert words in capsys.readouterr().err
    writer = Unmasker.from_pretrained(str(uniform))
    assert isinstance(writer.formulation, UniformFormulation)
    with pytest.raises(UserError, match="no masks"):
        writer.generate("The", sampler="refine")
    with pytest.raises(UserError, match="lengths is not supported"):
        writer.infill("The [MASK:2-3].")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"schedule.name": "spindle", "schedule.parameters": "{strength = 0.4}"},
            "from 0 to 0.318",
        ),
        (
            {"schedule.name": "spindle", "process.name": "uniform"},
            "goes with the absorbing",
        ),
        ({"process.name": "gaussian"}, "ordered values"),
        ({"objective.num_steps": -1}, "num_steps must be from 0"),
        ({"schedule.name": "d3pm-cosine"}, "set num_steps"),
        ({"schedule.name": "learned", "objective.num_steps": 5}, "continuous time"),
        ({"schedule.learning_rate": 0.1}, "goes with schedule.name = 'learned'"),
        ({"model.time": "adalm"}, "did you mean 'adaln'"),
        ({"schedule.name": "spindel"}, "did you mean 'spindle'"),
    ],
)
def test_what_does_not_go_together_is_said(zoo, text_file, tmp_path, capsys, settings, words):
    line = ["train", "md4", "--data", text_file, "--out", tmp_path / "m", "--model", zoo / "bert"]
    short = {"data.length": 24, "training.steps": 1, "training.batch_size": 4}
    assert main([str(word) for word in [*line, *sets(short | settings)]]) == 2
    message = capsys.readouterr().err
    assert words in message
    assert len(message.splitlines()) == 1
    assert not (tmp_path / "m").exists()


def test_time_is_refused_where_there_are_no_layers(zoo, text_file, tmp_path, capsys):
    line = ("--model", zoo / "albert")
    assert run_train("diffuse", text_file, tmp_path / "m", *line, model__time="adaln") == 2
    assert "does not have a list of its layers" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("recipe", "sampler", "words"),
    [
        ("d3pm-uniform", {"name": "refine"}, "have no masks"),
        ("md4", {"ban": ["☃"]}, "no tokens for"),
        (
            "block-diffusion",
            {"repetition_penalty": 2.0},
            "not supported for block models",
        ),
    ],
)
def test_a_sampler_that_the_model_could_not_use_is_refused_before_training(
    zoo, text_file, tmp_path, capsys, recipe, sampler, words
):
    model = zoo / ("llama" if recipe == "block-diffusion" else "bert")
    line = ["train", recipe, "--data", text_file, "--out", tmp_path / "m", "--model", model]
    short = {"data.length": 32, "training.steps": 1, "training.batch_size": 4}
    wish = {f"sampler.{key}": json.dumps(value) for key, value in sampler.items()}
    assert main([str(word) for word in [*line, *sets(short | wish)]]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


def test_damaged_extra_weights_are_refused(zoo, text_file, tmp_path):
    out = tmp_path / "model"
    settings = {"schedule.name": "spindle", "schedule.parameters": "{strength = 0.3}"}
    line = ["train", "md4", "--data", text_file, "--out", out, "--model", zoo / "bert"]
    short = {"data.length": 24, "training.steps": 1, "training.batch_size": 4}
    assert main([str(word) for word in [*line, *sets(short | settings)]]) == 0
    file = out / "unmask.safetensors"
    counts = load_file(file)["unmask_schedule.counts"]
    for content, words in [
        ({"unmask_schedule.counts": counts[:-1]}, "counts do not fit the tokenizer"),
        (
            {"unmask_schedule.counts": counts, "other": counts.clone()},
            "do not match its card",
        ),
    ]:
        save_file(content, file)
        with pytest.raises(UserError, match=words):
            Unmasker.from_pretrained(str(out))
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(UserError, match="is damaged"):
        Unmasker.from_pretrained(str(out))
    file.unlink()
    with pytest.raises(UserError, match="this checkpoint has none"):
        Unmasker.from_pretrained(str(out))


def test_a_body_without_a_head_needs_leave_to_get_one(zoo, text_file, tmp_path, capsys):
    from transformers import AutoModel, AutoTokenizer

    body = tmp_path / "body"
    AutoModel.from_pretrained(zoo / "bert", add_pooling_layer=False).save_pretrained(body)
    AutoTokenizer.from_pretrained(zoo / "bert").save_pretrained(body)
    assert run_train("diffuse", text_file, tmp_path / "m", "--model", body) == 2
    assert "model.new_head=true" in capsys.readouterr().err
    settings = {"model__new_head": "true"}
    assert run_train("diffuse", text_file, tmp_path / "m", "--model", body, **settings) == 0
    assert Unmasker.from_pretrained(str(tmp_path / "m")).generate("The", length=3).nfe > 0
