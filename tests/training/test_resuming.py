"""A run that is interrupted anywhere ends, resumed, where one that was not interrupted ends."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from conftest import story
from unmask import Unmasker, files
from unmask.cli import main
from unmask.models import checkpoint
from unmask.training import export, resume
from unmask.training.checkpoints import FILES, checkpoints, numbered
from unmask.training.trainer import DiffusionTrainer

SHORT = {
    "data.length": 24,
    "training.steps": 3,
    "training.batch_size": 4,
    "training.log_every": 1,
    "training.evaluation_rows": 4,
    "training.evaluate_every": 0,
    "training.save_every": 2,
    "training.warmup_steps": 0,
    "training.learning_rate": 1e-2,
}
SMALL = {
    "model.config.hidden_size": 32,
    "model.config.num_hidden_layers": 2,
    "model.config.num_attention_heads": 4,
    "model.config.intermediate_size": 48,
    "tokenizer.vocab_size": 330,
}


def line(data: Path, out: Path, *more: object, **settings: object) -> list[str]:
    """Return the words of ``train``; settings use __ for the dot."""
    changed = SHORT | {key.replace("__", "."): value for key, value in settings.items()}
    words = ["train", "--data", data, "--out", out, *more]
    words += [word for key, value in changed.items() for word in ("--set", f"{key}={value}")]
    return [str(word) for word in words]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found = [load_file(path) for path in sorted(folder.glob("*.safetensors"))]
    return {key: value for tensors in found for key, value in tensors.items()}


def same(one: Path, other: Path) -> bool:
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


PLACES = {
    "validation": (DiffusionTrainer, "evaluate"),
    "export": (export, "save"),
    "moving in": (files, "_move_in"),
    "note": (resume, "finish"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("save_every", [0, 2])
def test_what_came_to_its_end_is_saved_by_resuming(
    zoo, text_file, tmp_path, monkeypatch, capsys, place, save_every
):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    settings = {"training__ema": 0.9, "training__save_every": save_every}
    start = ("--model", zoo / "bert")
    with monkeypatch.context() as patch:
        patch.setattr(*PLACES[place], interrupt)
        assert main(line(text_file, broken, *start, **settings)) == 130
    assert main(line(text_file, broken, *start, "--resume", **settings)) == 0
    assert main(line(text_file, whole, *start, **settings)) == 0
    assert same(whole, broken)
    cards = [json.loads((out / "unmask.json").read_text("utf-8")) for out in (whole, broken)]
    assert cards[0]["scores"] == cards[1]["scores"]
    assert cards[0]["training"]["steps"] == cards[1]["training"]["steps"] == 3
    assert bool(checkpoints(broken / "training")) == bool(save_every)
    capsys.readouterr()
    assert main(line(text_file, broken, *start, "--resume", **settings)) == 2
    said = capsys.readouterr().err
    assert ("came to its end after 3 steps" if save_every else "no checkpoint") in said


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_anew(
    zoo, text_file, tmp_path, monkeypatch, capsys
):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    start = ("--model", zoo / "bert")
    with monkeypatch.context() as patch:
        patch.setattr(DiffusionTrainer, "train", interrupt)
        assert main(line(text_file, broken, *start)) == 130
    other = ("--set", "training.seed=1")
    assert main(line(text_file, broken, *start, "--resume", *other)) == 2
    assert "started with recipe.training.seed" in capsys.readouterr().err
    assert main(line(text_file, broken, *start, "--resume")) == 0
    assert "begins anew" in capsys.readouterr().err
    assert main(line(text_file, whole, *start)) == 0
    assert same(whole, broken)


def test_the_folder_may_be_named_from_where_one_stands(zoo, text_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(line(text_file, Path("out"), "--model", zoo / "bert")) == 0
    assert not (tmp_path / "out" / files.LOCK).exists()


def test_no_model_is_written_among_its_data(zoo, tmp_path, capsys):
    data = tmp_path / "data"
    data.mkdir()
    (data / "story.txt").write_text(story(60), encoding="utf-8")
    for out in (data / "out", data):
        assert main(line(data, out, "--model", zoo / "bert")) == 2
        assert "choose an --out outside of it" in capsys.readouterr().err
    assert [path.name for path in data.iterdir()] == ["story.txt"]


def test_parts_of_ours_are_saved_by_resuming_as_well(text_file, tmp_path, monkeypatch):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    settings = SMALL | {"model.config.max_position_embeddings": 64}
    changed = {key.replace(".", "__"): value for key, value in settings.items()}

    def words(out: Path, *more: str) -> list[str]:
        return line(text_file, out, "genmd4", *more, **changed)

    with monkeypatch.context() as patch:
        patch.setattr(*PLACES["export"], interrupt)
        assert main(words(broken)) == 130
    assert main(words(broken, "--resume")) == 0
    assert main(words(whole)) == 0
    assert (broken / checkpoint.EXTRA).exists()
    assert same(whole, broken)


def test_a_time_budget_that_is_used_up_is_saved_by_resuming(zoo, text_file, tmp_path, monkeypatch):
    out = tmp_path / "out"
    budget = {"training__steps": 0, "training__minutes": 0.01, "training__log_every": 1000}
    start = ("--model", zoo / "bert")
    with monkeypatch.context() as patch:
        patch.setattr(*PLACES["validation"], interrupt)
        assert main(line(text_file, out, *start, **budget)) == 130
    (last,) = checkpoints(out / "training")[-1:]
    before = weights(last)
    assert main(line(text_file, out, *start, "--resume", **budget)) == 0
    after = weights(out)
    assert all(torch.equal(before[key], after[key]) for key in after)


def test_a_second_run_into_the_same_folder_is_refused(zoo, text_file, tmp_path, capsys):
    out = tmp_path / "out"
    command = [sys.executable, "-c", HOLDS, str(out)]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "held\n"
        for more in ((), ("--overwrite",), ("--resume",)):
            assert main(line(text_file, out, "--model", zoo / "bert", *more)) == 2
            assert "another process is writing to" in capsys.readouterr().err
    finally:
        other.kill()
        other.communicate()
    assert main(line(text_file, out, "--model", zoo / "bert")) == 0
    assert not (out / files.LOCK).exists()


HOLDS = """
import sys
from functools import partial
from pathlib import Path
from unmask import files
with files.locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_only_a_step_names_a_checkpoint(zoo, text_file, tmp_path):
    out = tmp_path / "out"
    start = ("--model", zoo / "bert")
    assert main(line(text_file, out, *start)) == 0
    work = out / "training"
    (last,) = checkpoints(work)[-1:]
    own = ["checkpoint-best-99", "checkpoint-2026-11-27", "checkpoint-007", "checkpoint--8"]
    own += ["checkpoint-٣", "old-checkpoint-5"]
    for name in own:
        shutil.copytree(last, work / name)
        (work / name / "mine").write_text("mine")
    (work / "checkpoint-8").write_text("a file")
    assert [path.name for path in numbered(work)] == ["checkpoint-2", "checkpoint-3"]
    assert main(line(text_file, out, *start, "--resume", training__steps=6)) == 0
    assert main(line(text_file, out, *start, "--overwrite")) == 0
    assert all((work / name / "mine").exists() for name in own)


def test_other_texts_of_the_same_name_are_refused(zoo, tmp_path, capsys):
    out, data, held_out = (tmp_path / name for name in ("out", "data.txt", "held-out.txt"))
    data.write_text(story(60), encoding="utf-8")
    held_out.write_text(story(9), encoding="utf-8")
    start = ("--model", zoo / "bert", "--validation", held_out)
    assert main(line(data, out, *start)) == 0
    for file in (data, held_out):
        text = file.read_text("utf-8")
        file.write_text(text.replace("cat", "cap", 1), encoding="utf-8")
        capsys.readouterr()
        assert main(line(data, out, *start, "--resume", training__steps=4)) == 2
        assert "other texts under the same name" in capsys.readouterr().err
        file.write_text(text, encoding="utf-8")
    assert main(line(data, out, *start, "--resume", training__steps=4)) == 0


def test_a_checkpoint_is_opened_only_if_every_byte_is_as_written(zoo, text_file, tmp_path, capsys):
    out = tmp_path / "out"
    start = ("--model", zoo / "bert")
    assert main(line(text_file, out, *start, training__ema=0.9)) == 0
    (last,) = checkpoints(out / "training")[-1:]
    resumed = line(text_file, out, *start, "--resume", training__ema=0.9, training__steps=5)

    def refused() -> str:
        capsys.readouterr()
        assert main(resumed) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        return said

    names = sorted(path.name for path in last.iterdir())
    assert {"model.safetensors", "average.safetensors", "optimizer.pt", FILES} <= set(names)
    for name in names:
        kept = (last / name).read_bytes()
        middle = len(kept) // 2
        flipped = kept[:middle] + bytes([kept[middle] ^ 1]) + kept[middle + 1 :]
        contents = [b"", kept[:-1], b"[]", b"{}", b'{"sha256": 3}', b'{"sha256": {}, "seconds": 1}']
        for content in contents if name == FILES else (b"", kept[:-1], flipped):
            if name == FILES and content == kept[:-1]:
                continue  # A line end, which says nothing.
            (last / name).write_bytes(content)
            assert "is missing or damaged" in refused() or name == FILES
        (last / name).unlink()
        if name != "trainer_state.json":
            assert f"{name} is" in refused()
        (last / name).write_bytes(kept)
    (last / "extra.bin").write_bytes(b"what is this")
    assert "extra.bin" in refused()
    (last / "extra.bin").unlink()
    log = out / "training" / "metrics.jsonl"
    odd = ['{"step": "3", "seconds": 1}', '{"step": 3, "seconds": [1]}', '{"step": NaN}', "[]", "3"]
    log.write_text(log.read_text("utf-8") + "\n".join(odd) + "\n", "utf-8")
    assert main(resumed) == 0


# Long enough that a signal comes in time.
LONG = {"training__steps": 400, "training__save_every": 0}


def started(text_file: Path, out: Path, model: Path, **settings: object) -> subprocess.Popen[str]:
    words = line(text_file, out, "--model", model, **settings)
    return subprocess.Popen(
        [sys.executable, "-m", "unmask", *words],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        # The suite may run under nohup, which switches SIGHUP off for good.
        preexec_fn=partial(signal.signal, signal.SIGHUP, signal.SIG_DFL),
    )


def test_a_closed_terminal_leaves_a_checkpoint(zoo, text_file, tmp_path):
    process = started(text_file, tmp_path / "out", zoo / "bert", **LONG)
    assert process.stderr.readline().startswith("step 1 ")
    # A shell and the system may both send it; and nothing can be shown any more.
    process.stderr.close()
    for _ in range(2):
        process.send_signal(signal.SIGHUP)
        time.sleep(0.01)
    assert process.wait(timeout=60) == 130
    assert len(checkpoints(tmp_path / "out" / "training")) == 1
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_a_run_that_nobody_reads_goes_on(zoo, text_file, tmp_path):
    process = started(text_file, tmp_path / "out", zoo / "bert", training__steps=6)
    assert process.stderr.readline().startswith("step 1 ")
    process.stderr.close()
    assert process.wait(timeout=60) == 0
    Unmasker.from_pretrained(str(tmp_path / "out"))


def test_a_run_whose_log_is_lost_is_finished_all_the_same(zoo, text_file, tmp_path, capsys):
    out = tmp_path / "out"
    start = ("--model", zoo / "bert")
    quiet = {"training__log_every": 1000}
    assert main(line(text_file, out, *start, **quiet)) == 0
    (out / "training" / "metrics.jsonl").write_text('{"step": 1, "sec', "utf-8")
    assert main(line(text_file, out, *start, "--resume", training__steps=4, **quiet)) == 0
    assert f"saved {out}" in capsys.readouterr().err
