"""What a full disk, a killed process and a diverging run leave behind: the last good model."""

import io
import json
import os
import resource
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

from unmask import Unmasker
from unmask.cli import main
from unmask.errors import UserError
from unmask.training.checkpoints import checkpoints
from unmask.training.progress import ProgressLog


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@contextmanager
def full_disk(limit: int = 10_000):
    """No file may grow beyond the limit, in bytes: the operating system refuses to write more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def train(zoo: Path, text_file: Path, out: Path, *more: str, **settings: object) -> int:
    settings = {"steps": 2, "save_every": 1, "batch_size": 4, "log_every": 1} | settings
    sets = [f"training.{key}={value}" for key, value in settings.items()] + ["data.length=24"]
    words = [word for setting in sets for word in ("--set", setting)]
    line = ["train", "--data", str(text_file), "--out", str(out), *words, *more]
    return main(line if "--model" in more else [*line, "--model", str(zoo / "bert")])


def test_a_full_disk_leaves_the_saved_model(zoo, tmp_path):
    out = tmp_path / "model"
    writer = Unmasker.from_pretrained(str(zoo / "roberta"))
    writer.save_pretrained(out)
    before = contents(tmp_path)
    with torch.no_grad():
        for parameter in writer.model.parameters():
            parameter.add_(1)
    with full_disk(), pytest.raises(UserError, match="what was there is untouched"):
        writer.save_pretrained(out, overwrite=True)
    assert contents(tmp_path) == before
    writer.save_pretrained(out, overwrite=True)
    assert contents(tmp_path) != before


def test_the_tokenizer_of_the_model_before_is_gone(zoo, tmp_path):
    out = tmp_path / "model"
    Unmasker.from_pretrained(str(zoo / "roberta")).save_pretrained(out)
    foreign = ("vocab.txt", "bpe.codes", "sentencepiece.bpe.model", "merges.txt", "vocab.json")
    for name in (*foreign, "notes.txt"):
        (out / name).write_text("of another model", encoding="utf-8")
    Unmasker.from_pretrained(str(zoo / "bert")).save_pretrained(out, overwrite=True)
    left = set(contents(out))
    assert not left & set(foreign)
    assert {"notes.txt", "tokenizer.json"} <= left


def test_a_full_disk_leaves_the_last_checkpoint(zoo, text_file, tmp_path, capsys):
    out = tmp_path / "model"
    assert train(zoo, text_file, out) == 0
    work, model = out / "training", contents(out)["model.safetensors"]
    (last,) = checkpoints(work)[-1:]
    before = contents(last)
    capsys.readouterr()
    with full_disk():
        assert train(zoo, text_file, out, "--resume", steps=4) == 2
    sentence = capsys.readouterr().err.splitlines()[-1]
    assert sentence.startswith("unmask: could not save a checkpoint")
    assert checkpoints(work)[-1] == last
    assert contents(last) == before
    assert contents(out)["model.safetensors"] == model
    assert train(zoo, text_file, out, "--resume", steps=4) == 0


SAVE_LOOP = """
import os, signal, sys, time
import torch
from rich.console import Console
from unmask import Unmasker
writer = Unmasker.from_pretrained(sys.argv[1])
original = [parameter.detach().clone() for parameter in writer.model.parameters()]
for kill in range(12):
    child = os.fork()
    if child == 0:
        while True:
            shift = 1 + time.monotonic() % 1
            with torch.no_grad():
                for parameter, before in zip(writer.model.parameters(), original):
                    parameter.copy_(before + shift)
            writer.save_pretrained(sys.argv[2], overwrite=True)
    time.sleep(0.15 + 0.0037 * kill)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    Unmasker.from_pretrained(sys.argv[2])
"""


def test_a_full_disk_stops_a_run_at_once_with_a_sentence(zoo, text_file, tmp_path, capsys):
    with full_disk(limit=100):
        assert train(zoo, text_file, tmp_path / "other") == 2
    sentence = capsys.readouterr().err.splitlines()[-1]
    assert sentence.startswith("unmask: could not keep the tokens of the data in")


def test_a_full_disk_stops_the_log_with_a_sentence(tmp_path):
    log = ProgressLog(tmp_path, Console(file=io.StringIO()), rows_per_step=10, length=10)
    state = SimpleNamespace(global_step=1, max_steps=5)
    log.on_train_begin(None, state, None)
    long = {f"loss of part {number}": 1.0 for number in range(20)}
    with full_disk(limit=100), pytest.raises(UserError, match=r"metrics\.jsonl"):
        log.on_log(None, state, None, long)


def test_a_process_killed_while_it_saves_leaves_a_whole_model(zoo, tmp_path):
    out = tmp_path / "model"
    Unmasker.from_pretrained(str(zoo / "roberta")).save_pretrained(out)
    before = contents(out)
    command = [sys.executable, "-c", SAVE_LOOP, str(zoo / "roberta"), str(out)]
    subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    after = contents(out)
    assert after.keys() == before.keys()
    assert after["model.safetensors"] != before["model.safetensors"], "nothing was saved in time"
    # All of one save, none of two.
    original = load_file(zoo / "roberta" / "model.safetensors")
    saved = load_file(out / "model.safetensors")
    shifts = torch.cat([(saved[key] - original[key]).flatten() for key in saved])
    assert float(shifts.max() - shifts.min()) < 1e-5


def test_a_nan_stops_training_and_names_the_step(zoo, text_file, tmp_path, capsys):
    sick, out = tmp_path / "sick", tmp_path / "out"
    shutil.copytree(zoo / "bert", sick)
    tensors = load_file(sick / "model.safetensors")
    next(iter(tensors.values())).fill_(float("nan"))
    save_file(tensors, sick / "model.safetensors", {"format": "pt"})
    assert train(zoo, text_file, out, "--model", str(sick)) == 2
    err = capsys.readouterr().err
    assert err.startswith("unmask: the loss is nan at step 1;")
    assert err.count("\n") == 1
    assert not (out / "model.safetensors").exists()
    with pytest.raises(UserError, match="NaN"):
        Unmasker.from_pretrained(str(sick)).generate("Hello", length=4)


@pytest.mark.parametrize("save_every", [1, 0])
def test_a_diverging_run_keeps_the_last_good_checkpoint(
    zoo, text_file, tmp_path, capsys, save_every
):
    out = tmp_path / "out"
    # The warm-up starts at 0, so the first step is harmless; the second is not.
    wild = {"learning_rate": "1e38", "warmup_steps": 2, "warmup_share": 1, "steps": 8}
    wild["save_every"] = save_every
    assert train(zoo, text_file, out, **wild) == 2
    sentence = capsys.readouterr().err.splitlines()[-1]
    assert sentence.startswith("unmask: the ")
    assert " step " in sentence
    assert not (out / "model.safetensors").exists()
    kept = checkpoints(out / "training")
    assert bool(kept) == bool(save_every)
    for folder in kept:
        tensors = load_file(folder / "model.safetensors")
        assert all(bool(torch.isfinite(value).all()) for value in tensors.values())


def test_an_output_folder_that_holds_something_else(zoo, text_file, tmp_path, capsys):
    out = tmp_path / "letters"
    out.mkdir()
    (out / "letter.txt").write_text("Dear Ada,", encoding="utf-8")
    before = contents(tmp_path)
    for more in ((), ("--overwrite",)):
        assert train(zoo, text_file, out, *more) == 2
        assert str(out) in capsys.readouterr().err
        assert contents(tmp_path) == before
    assert train(zoo, text_file, out / "letter.txt") == 2
    with pytest.raises(UserError, match="not empty"):
        Unmasker.from_pretrained(str(zoo / "bert")).save_pretrained(out)
    assert contents(tmp_path) == before


def test_overwrite_spares_what_only_looks_like_a_run(zoo, text_file, tmp_path, capsys):
    own = tmp_path / "own" / "training"
    for name in ("checkpoint-best", "checkpoint-best-2", "checkpoint-02"):
        (own / name).mkdir(parents=True)
        (own / name / "weights").write_text("mine")
    before = contents(tmp_path)
    assert train(zoo, text_file, tmp_path / "own", "--overwrite") == 2
    assert contents(tmp_path) == before
    out = tmp_path / "model"
    assert train(zoo, text_file, out) == 0
    shutil.copytree(own, out / "training", dirs_exist_ok=True)
    capsys.readouterr()
    assert train(zoo, text_file, out, "--overwrite") == 0
    for folder in own.iterdir():
        assert (out / "training" / folder.name / "weights").read_text() == "mine"


def test_overwrite_is_explicit(zoo, text_file, tmp_path, capsys):
    out = tmp_path / "model"
    assert train(zoo, text_file, out) == 0
    before = contents(out)
    assert train(zoo, text_file, out, seed=1) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert contents(out) == before
    # A mistake found later leaves the model as well.
    assert train(zoo, text_file, out, "--overwrite", "--model", str(zoo / "gpt2")) == 2
    assert contents(out) == before
    assert train(zoo, text_file, out, "--overwrite", seed=1) == 0
    assert (
        json.loads((out / "unmask.json").read_text("utf-8"))["training"]["recipe"]["training"][
            "seed"
        ]
        == 1
    )
