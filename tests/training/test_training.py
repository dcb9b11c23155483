"""Training as a user runs it: foreign checkpoints and fresh models, resuming, what is left."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM, TrainerCallback

from conftest import story
from golden_outputs import FRESH
from unmask import Unmasker
from unmask.cli import main
from unmask.pipelines.autoregressor import Autoregressor
from unmask.training import TrainingJob, train
from unmask.training import recipe_file as recipes
from unmask.training.average import FILE
from unmask.training.checkpoints import checkpoints

SHORT = {
    "data.length": 24,
    "training.steps": 3,
    "training.batch_size": 4,
    "training.log_every": 1,
    "training.evaluate_every": 2,
    "training.evaluation_rows": 4,
    "training.save_every": 0,
    "training.warmup_steps": 0,
}


def sets(settings: dict[str, object]) -> list[str]:
    return [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]


def run_train(recipe: str, data: Path, out: Path, *more: object, **settings: object) -> int:
    """Run ``unmask train``; settings use __ for the dot."""
    changed = SHORT | {key.replace("__", "."): value for key, value in settings.items()}
    line = ["train", recipe, "--data", data, "--out", out, *more, *sets(changed)]
    return main([str(word) for word in line])


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def metrics(out: Path) -> list[dict[str, float]]:
    lines = (out / "training" / "metrics.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize(
    "name", ["bert", "roberta", "modernbert", "distilbert", "electra", "albert"]
)
def test_any_masked_language_model_is_fine_tuned_and_writes(zoo, text_file, tmp_path, name):
    out = tmp_path / "model"
    assert run_train("diffuse", text_file, out, "--model", zoo / name) == 0
    before, after = weights(zoo / name), weights(out)
    assert before.keys() == after.keys()
    changed = [key for key in before if not torch.equal(before[key], after[key])]
    assert len(changed) > len(before) / 2
    result = Unmasker.from_pretrained(str(out)).generate("The cat", length=8, steps=3)
    assert result.texts[0].lower().startswith("the cat")
    log = metrics(out)
    assert [line["step"] for line in log if "loss" in line] == [1, 2, 3]
    assert all(line["tokens_per_second"] > 0 for line in log if "loss" in line)
    assert [line["step"] for line in log if "eval_nats_per_token" in line] == [2, 3]
    assert {"eval_perplexity", "eval_bits_per_char"} <= log[-1].keys()
    assert (out / "training" / "loss.png").read_bytes()[:4] == b"\x89PNG"
    card = json.loads((out / "unmask.json").read_text("utf-8"))
    assert card["training"]["data"] == "story.txt"
    assert card["training"]["steps"] == 3
    assert card["scores"]["validation"]["nats_per_token"] == log[-1]["eval_nats_per_token"]


@pytest.mark.parametrize("recipe", ["tiny", "ar"])
def test_a_fresh_model_with_its_own_tokenizer(text_file, tmp_path, recipe):
    out = tmp_path / "model"
    assert run_train(recipe, text_file, out, *sets(FRESH)) == 0
    writer = (Autoregressor if recipe == "ar" else Unmasker).from_pretrained(str(out))
    assert writer.codec.decode(writer.codec.encode("The cat, é!")) == "The cat, é!"
    assert writer.generate("The cat", length=5).texts[0].startswith("The cat")
    score = writer.score("The cat sat on the mat.")
    assert score.exact == (recipe == "ar")
    assert 0 < score.nats_per_token < 12


@pytest.mark.parametrize(
    ("recipe", "length"),
    [("mlm", 24), ("roberta-diffusion", 24), ("roberta-diffusion-confidence", 40)],
)
def test_published_recipes_run(zoo, text_file, tmp_path, recipe, length):
    out = tmp_path / "model"
    more = ("--model", zoo / "roberta")
    assert run_train(recipe, text_file, out, *more, data__length=length) == 0
    writer = Unmasker.from_pretrained(str(out))
    # The card carries the recipe's own way to write.
    settings = writer.generate("The", length=6).settings
    assert settings["sampler"] == recipes.load(recipe).sampler["name"]


def test_a_recipe_file_and_validation_data_of_the_users_own(zoo, text_file, tmp_path):
    validation = tmp_path / "valid.jsonl"
    validation.write_text(json.dumps({"body": story(5, seed=9)}) + "\n", encoding="utf-8")
    data = tmp_path / "data.jsonl"
    lines = [json.dumps({"body": line}) for line in text_file.read_text("utf-8").splitlines()]
    data.write_text("\n".join(lines), encoding="utf-8")
    file = tmp_path / "mine.toml"
    file.write_text(f'[model]\nname = "{zoo / "bert"}"\n[training]\nlearning_rate = 1e-3\n')
    out = tmp_path / "model"
    line = ("--validation", validation, "--field", "body")
    assert run_train(str(file), data, out, *line) == 0
    card = json.loads((out / "unmask.json").read_text("utf-8"))
    assert card["training"]["recipe"]["name"] == "mine"
    assert card["training"]["recipe"]["training"]["learning_rate"] == 1e-3
    assert card["scores"]["validation"]["characters"] == len(story(5, seed=9).strip())


class Watcher(TrainerCallback):
    """Keeps what the trained model answers before it is saved."""

    def __init__(self, ids: torch.Tensor) -> None:
        self.ids = ids

    @torch.no_grad()
    def on_train_end(self, args, state, control, model=None, **_):
        self.logits = model.eval()(input_ids=self.ids).logits


@pytest.mark.parametrize("name", ["bert", "modernbert"])
def test_plain_transformers_opens_what_we_saved(zoo, text_file, tmp_path, name):
    settings = [f"{key}={value}" for key, value in (SHORT | {"training.bf16": "off"}).items()]
    run = TrainingJob(
        recipes.load("diffuse", settings), str(text_file), tmp_path / "model", str(zoo / name)
    )
    watcher = Watcher(torch.randint(5, 100, (3, 20)))
    assert train(run, [watcher]).finished
    with torch.no_grad():
        plain = AutoModelForMaskedLM.from_pretrained(tmp_path / "model").eval()
        untrained = AutoModelForMaskedLM.from_pretrained(zoo / name).eval()
        assert torch.equal(plain(input_ids=watcher.ids).logits, watcher.logits)
        assert not torch.allclose(untrained(input_ids=watcher.ids).logits, watcher.logits)


def test_the_same_seed_trains_the_same_model(zoo, text_file, tmp_path):
    line = ("--model", zoo / "roberta")
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert run_train("diffuse", text_file, tmp_path / name, *line, training__seed=seed) == 0
    a, b, c = (weights(tmp_path / name) for name in "abc")
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert any(not torch.equal(a[key], c[key]) for key in a)


# Long enough that the signal comes in time on any machine. A dropout draws random numbers that a
# resumed run has to continue as well.
LONG = {
    "training.ema": 0.99,
    "training.steps": 120,
    "training.save_every": 40,
    "training.evaluate_every": 80,
    "model.dropout": 0.1,
    "training.optimizer": "muon",
}


def test_an_interrupted_run_resumes_to_the_same_weights(zoo, text_file, tmp_path):
    settings = sets(SHORT | LONG)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    line = ["train", "--data", str(text_file), "--model", str(zoo / "roberta"), *settings]
    process = subprocess.Popen(
        [sys.executable, "-m", "unmask", *line, "--out", str(broken)],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())},
    )
    first = process.stderr.readline()
    assert first.startswith("step 1 "), first
    # What a machine sends that is shut down; Ctrl-C sends SIGINT and takes the same path.
    process.send_signal(signal.SIGTERM)
    rest = process.communicate(timeout=120)[1]
    assert "--resume" in rest.splitlines()[-1]
    assert process.returncode == 130
    assert not (broken / "model.safetensors").exists(), "it was not interrupted"
    (last,) = checkpoints(broken / "training")[-1:]
    assert 1 <= int(last.name.rpartition("-")[2]) < 120
    # A save that was cut short by a crash is never continued from.
    (broken / "training" / "checkpoint-119").mkdir()
    assert main([*line, "--out", str(broken), "--resume"]) == 0
    assert main([*line, "--out", str(whole)]) == 0
    one, other = weights(whole), weights(broken)
    assert one.keys() == other.keys()
    assert max(float((one[key] - other[key]).abs().max()) for key in one) <= 1e-6
    steps = [line["step"] for line in metrics(broken) if "loss" in line]
    assert steps == list(range(1, 121))


def test_the_finished_model_is_the_average(zoo, text_file, tmp_path):
    out = tmp_path / "model"
    more = {"training__ema": 0.9, "training__save_every": 3, "training__learning_rate": 1e-2}
    assert run_train("diffuse", text_file, out, "--model", zoo / "bert", **more) == 0
    (last,) = checkpoints(out / "training")
    average, own, exported = load_file(last / FILE), weights(last), weights(out)
    shared = sorted(average.keys() & exported.keys())
    assert len(shared) == len(exported)
    assert all(torch.equal(average[key], exported[key]) for key in shared)
    assert max(float((average[key] - own[key]).abs().max()) for key in shared) > 1e-4
    (last / FILE).unlink()
    line = ("--model", zoo / "bert", "--resume")
    assert run_train("diffuse", text_file, out, *line, **more, training__steps=6) == 2


def test_only_the_same_unfinished_run_is_resumed(zoo, text_file, tmp_path, capsys):
    out = tmp_path / "model"
    again = ("--model", zoo / "bert", "--resume")
    short = {"training__steps": 4, "training__save_every": 2}
    assert run_train("diffuse", text_file, out, *again[:2], **short) == 0
    before = weights(out)

    def refused(*line, **settings) -> str:
        capsys.readouterr()
        assert run_train("diffuse", text_file, out, *line, **(short | settings)) == 2
        return capsys.readouterr().err

    assert "came to its end after 4 steps" in refused(*again)
    message = refused(*again, training__steps=6, training__learning_rate=0.5)
    assert "started with recipe.training.learning_rate" in message
    assert "started with model = 'bert'" in refused("--model", zoo / "roberta", "--resume")
    after = weights(out)
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert run_train("diffuse", text_file, out, *again, **(short | {"training__steps": 6})) == 0
    assert [line["step"] for line in metrics(out) if "loss" in line] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("length", ["steps=2", "minutes=0.05"])
def test_a_resumed_run_is_as_long_as_it_was_started_to_be(zoo, text_file, tmp_path, capsys, length):
    short = {key: value for key, value in SHORT.items() if key != "training.steps"}
    line = ["train", "diffuse", "--data", text_file, "--model", zoo / "bert", *sets(short)]
    line = [*map(str, line), "--out", str(tmp_path / "out"), "--set", "training.save_every=1"]
    assert main([*line, "--set", f"training.{length}"]) == 0
    before = weights(tmp_path / "out")
    capsys.readouterr()
    assert main([*line, "--resume"]) == 2
    said = capsys.readouterr().err
    assert "came to its end" in said
    assert f"training.{length.partition('=')[0]} higher" in said
    after = weights(tmp_path / "out")
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_recipe_file_may_say_that_a_run_goes_on_for_longer(zoo, text_file, tmp_path):
    file, out = tmp_path / "mine.toml", tmp_path / "out"
    line = ["train", file, "--data", text_file, "--model", zoo / "bert", "--out", out]
    short = SHORT | {"training.save_every": 1}
    del short["training.steps"]
    for steps, more in ((2, ()), (4, ("--resume",))):
        file.write_text(f"[training]\nsteps = {steps}\n", encoding="utf-8")
        assert main([str(word) for word in [*line, *sets(short), *more]]) == 0
        assert [entry["step"] for entry in metrics(out) if "loss" in entry][-1] == steps


@pytest.mark.parametrize(
    "name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "run.json"]
)
def test_a_damaged_checkpoint_is_not_resumed_from(zoo, text_file, tmp_path, capsys, name):
    out = tmp_path / "model"
    more, settings = ("--model", zoo / "bert"), {"training__steps": 4, "training__save_every": 2}
    assert run_train("diffuse", text_file, out, *more, **settings) == 0
    # A copy under a name of the user's own is in nobody's way.
    shutil.copytree(out / "training" / "checkpoint-4", out / "training" / "checkpoint-best")
    file = out / "training" / ("." if name == "run.json" else "checkpoint-4") / name
    kept, settings["training__steps"] = file.read_bytes(), 6
    for content in (b"", b"garbage", None):
        if content is None and name in ("trainer_state.json", "run.json"):
            continue  # No checkpoint at all, and one of an older version.
        file.unlink() if content is None else file.write_bytes(content)
        capsys.readouterr()
        assert run_train("diffuse", text_file, out, *more, "--resume", **settings) == 2
        assert f"{name} is" in capsys.readouterr().err
    file.write_bytes(kept)
    assert run_train("diffuse", text_file, out, *more, "--resume", **settings) == 0


def test_a_resumed_run_has_only_the_rest_of_its_time(zoo, text_file, tmp_path, capsys):
    out = tmp_path / "model"
    more = ("--model", zoo / "bert")
    budget = {"training__steps": 0, "training__minutes": 0.02, "training__save_every": 1}
    assert run_train("diffuse", text_file, out, *more, **budget) == 0
    log = out / "training" / "metrics.jsonl"
    *_, last = log.read_text("utf-8").splitlines()
    slow = json.dumps(json.loads(last) | {"seconds": 60 * 0.02})
    log.write_text(log.read_text("utf-8") + slow + "\n", "utf-8")
    assert run_train("diffuse", text_file, out, *more, "--resume", **budget) == 2
    assert "set training.minutes higher" in capsys.readouterr().err


def test_a_time_budget_ends_the_run(zoo, text_file, tmp_path):
    out = tmp_path / "model"
    more = ("--model", zoo / "bert")
    budget = {"training__steps": 0, "training__minutes": 0.02}
    assert run_train("diffuse", text_file, out, *more, **budget) == 0
    card = json.loads((out / "unmask.json").read_text("utf-8"))
    assert 1 <= card["training"]["steps"] < 1000
    assert card["training"]["seconds"] >= 1.2


def test_overwriting_leaves_nothing_of_the_old_run(zoo, text_file, tmp_path):
    out = tmp_path / "model"
    assert run_train("diffuse", text_file, out, "--model", zoo / "bert") == 0
    assert run_train("mlm", text_file, out, "--model", zoo / "roberta", "--overwrite") == 0
    assert len(metrics(out)) == 5
    assert Unmasker.from_pretrained(str(out)).generate("The", length=4).nfe > 0
