"""A save that is cut short at any moment leaves the old model, the new one, or neither, as said."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForMaskedLM

from unmask import Unmasker
from unmask import files as atomic
from unmask.errors import UserError
from unmask.models import checkpoint


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def write(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)


OLD = {"config.json": '{"model_type": "a"}', "model.safetensors": "old", "vocab.txt": "old"}
NEW = {"config.json": '{"model_type": "b"}', "unmask.json": "new", "tokenizer.json": "new"}
KEPT = {"notes.txt": "mine"}


def old_and_new() -> tuple[dict[str, bytes], dict[str, bytes]]:
    old = {name: text.encode() for name, text in (OLD | KEPT).items()}
    return old, {name: text.encode() for name, text in (KEPT | NEW).items()}


class CutOffError(BaseException):
    """The process is gone: nothing of it runs on."""


def cut(monkeypatch, call: int, error: BaseException, lasting: bool) -> None:
    """Let the k-th rename fail, and all that follow if the process is to be gone."""
    replace, calls = os.replace, 0

    def counted(source, target):
        nonlocal calls
        calls += 1
        if calls == call or (lasting and calls > call):
            raise error
        replace(source, target)

    monkeypatch.setattr(os, "replace", counted)


@pytest.mark.parametrize("call", range(1, 9))
@pytest.mark.parametrize("lasting", [True, False])
@pytest.mark.parametrize("error", [CutOffError(), OSError(28, "No space left on device")])
def test_at_every_rename_the_folder_is_old_or_new(tmp_path, monkeypatch, call, lasting, error):
    old, new = old_and_new()
    folder = tmp_path / "model"
    write(folder, OLD | KEPT)
    cut(monkeypatch, call, error, lasting)
    failed = False
    try:
        with checkpoint.staged(folder) as stage:
            write(stage, NEW)
    except (CutOffError, UserError) as raised:
        failed = True
        if isinstance(raised, UserError) and "is untouched" in str(raised):
            assert contents(folder) == old
    monkeypatch.undo()
    if (folder / "config.json").exists():
        # Whoever reads it without us finds one of the two.
        assert contents(folder) in (old, new)
    atomic.settle(folder)
    assert contents(folder) == (old if failed and not lasting else contents(folder))
    assert contents(folder) in (old, new)
    assert failed == (call <= 7), "there are seven renames: three out, the commit, three in"
    assert sorted(path.name for path in folder.iterdir()) == sorted(contents(folder))


def test_the_next_opening_finishes_what_counts(tmp_path, monkeypatch):
    _, new = old_and_new()
    for call, after in ((4, "a"), (5, "b"), (7, "b")):
        folder = tmp_path / str(call)
        write(folder, OLD | KEPT)
        cut(monkeypatch, call, CutOffError(), lasting=True)
        with pytest.raises(CutOffError), checkpoint.staged(folder) as stage:
            write(stage, NEW)
        monkeypatch.undo()
        assert not (folder / "config.json").exists()
        atomic.settle(folder)
        assert after in (folder / "config.json").read_text()
    assert contents(folder) == new


KILLED = """
import os, signal, sys
from pathlib import Path
from unmask.models import checkpoint
replace, calls = os.replace, 0
def counted(source, target):
    global calls
    calls += 1
    if calls == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
os.replace = counted
with checkpoint.staged(Path(sys.argv[1])) as stage:
    for path in Path(sys.argv[3]).iterdir():
        (stage / path.name).write_bytes(path.read_bytes())
"""


@pytest.mark.parametrize("call", [2, 8])
def test_a_process_killed_between_renames_leaves_no_mixture(zoo, tmp_path, call):
    folder, other = tmp_path / "model", tmp_path / "other"
    writer = Unmasker.from_pretrained(str(zoo / "bert"))
    writer.save_pretrained(folder)
    with torch.no_grad():
        for parameter in writer.model.parameters():
            parameter.add_(1)
    writer.save_pretrained(other)
    old, new = contents(folder), contents(other)
    command = [sys.executable, "-c", KILLED, str(folder), str(call), str(other)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    with pytest.raises((OSError, ValueError), match=r"config\.json"):
        AutoModelForMaskedLM.from_pretrained(folder, local_files_only=True)
    Unmasker.from_pretrained(str(folder)).generate("The", length=2)
    assert contents(folder) == (old if call == 2 else new), "and nothing else is left"


def test_a_folder_that_cannot_be_put_in_order_is_refused(zoo, tmp_path, monkeypatch):
    folder = tmp_path / "model"
    Unmasker.from_pretrained(str(zoo / "bert")).save_pretrained(folder)
    (folder / atomic.NEW).mkdir()
    (folder / "config.json").rename(folder / atomic.NEW / "config.json")
    with monkeypatch.context() as patch:
        cut(patch, 1, OSError(30, "Read-only file system"), lasting=True)
        with pytest.raises(UserError, match=r"was cut short.*Read-only file system"):
            Unmasker.from_pretrained(str(folder))
    Unmasker.from_pretrained(str(folder))


def test_a_card_of_an_older_version_is_read(tmp_path):
    sampler = {"name": "schedule-confidence", "measure": "margin"}
    card = {"format": 1, "length": 64, "sampler": sampler}
    (tmp_path / "unmask.json").write_text(json.dumps(card), encoding="utf-8")
    found = checkpoint.Card.read(tmp_path)
    assert found.sequence_length == 64
    assert found.sampler == {"name": "maskgit", "confidence_metric": "margin"}
    found.write(tmp_path)
    assert checkpoint.Card.read(tmp_path) == found


@pytest.mark.parametrize(
    "wrong",
    [
        *({"sequence_length": value} for value in (1, "64", True, 64.5)),
        *({"num_steps": value} for value in (-1, True, None)),
        *({"schedule": value} for value in ("linear", {}, {"name": 3})),
        *({"records": value} for value in ({"lengths": []}, {"lengths": [0]}, {"lengths": 3})),
        *({"kind": value} for value in ("block", "blocks", None)),
        {"pairs": {"before": ""}},
        {"block_length": 4},
        {"steps": 3},
        {"format": "1"},
        {"format": 0},
    ],
)
def test_a_wrong_value_in_a_card_is_one_sentence_that_names_it(tmp_path, wrong):
    (tmp_path / "unmask.json").write_text(json.dumps({"format": 1} | wrong), encoding="utf-8")
    (name,) = wrong
    said = rf"unmask.json is damaged \(.*{'length' if wrong == {'kind': 'block'} else name}"
    with pytest.raises(UserError, match=said):
        checkpoint.Card.read(tmp_path)


def test_weights_of_the_old_model_are_not_left_beside_those_of_the_new_one(tmp_path):
    folder = tmp_path / "model"
    write(folder, OLD)
    with checkpoint.staged(folder) as stage:
        write(stage, {"config.json": "{}", "model-00001-of-00002.safetensors": "new"})
    assert not (folder / "model.safetensors").exists()


HOLDS = """
import sys
from pathlib import Path
from unmask import files
with files.locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_ends_with_the_process_and_leaves_nothing(tmp_path):
    folder = tmp_path / "deep" / "model"
    command = [sys.executable, "-c", HOLDS, str(folder)]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "held\n"
    with pytest.raises(UserError, match="another process is writing"), atomic.locked(folder):
        pass
    other.kill()
    other.communicate()
    with atomic.locked(folder), atomic.locked(folder):
        pass
    assert not list(folder.iterdir())
    with atomic.locked(tmp_path / "a" / "b"):
        pass
    assert not (tmp_path / "a").exists()
