"""A model folder that comes with code: the code is not run, whatever standard input says."""

import io
import json
import shutil
import subprocess
import sys

import pytest

from unmask.cli import main

CODE = """
from pathlib import Path
from transformers import BertConfig, BertForMaskedLM, BertTokenizer

(Path({place!r}) / "it-ran").touch()

class Own(BertConfig):
    model_type = "own"

class OwnModel(BertForMaskedLM):
    config_class = Own

class OwnTokenizer(BertTokenizer):
    pass
"""
WHOLE = ["AutoConfig", "AutoModel", "AutoModelForMaskedLM", "AutoModelForCausalLM"]


def own(zoo, folder, known: bool, tokenizer: bool):
    """Write a folder with code for its model or its tokenizer, of a known type or not."""
    shutil.copytree(zoo / "bert", folder)
    (folder / "own.py").write_text(CODE.format(place=str(folder)))
    file = folder / ("tokenizer_config.json" if tokenizer else "config.json")
    content = json.loads(file.read_text())
    if tokenizer:
        content["auto_map"] = {"AutoTokenizer": ["own.OwnTokenizer", None]}
        content["tokenizer_class"] = "BertTokenizer" if known else "OwnTokenizer"
    else:
        content["auto_map"] = {name: "own.Own" if "Config" in name else "own.OwnModel"
                               for name in WHOLE}  # fmt: skip
        content["model_type"] = "bert" if known else "own"
    file.write_text(json.dumps(content))
    return folder


def run(*words, cwd) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "unmask", *map(str, words)],
        input="y\ny\ny\n",
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
    )


@pytest.mark.parametrize("tokenizer", [False, True])
@pytest.mark.parametrize("known", [False, True])
def test_code_in_a_folder_is_never_run(zoo, tmp_path, known, tokenizer, monkeypatch, capsys):
    folder = own(zoo, tmp_path / "model", known, tokenizer)
    capsys.readouterr()
    monkeypatch.setattr("sys.stdin", io.StringIO("y\ny\ny\n"))
    code = main(["generate", "Hello", "--model", str(folder), "--length", "3"])
    assert not (folder / "it-ran").exists()
    # Nobody was asked, so that nothing was answered.
    assert sys.stdin.read() == "y\ny\ny\n"
    said = capsys.readouterr()
    assert "[y/N]" not in said.out + said.err
    if not known and not tokenizer:
        assert code == 2
        assert "code of its own" in said.err
        assert len(said.err.strip().splitlines()) == 1
    else:
        assert code in (0, 2), said.err


def test_code_is_not_run_for_training_either(zoo, tmp_path, text_file):
    folder = own(zoo, tmp_path / "model", known=False, tokenizer=False)
    line = ("train", "diffuse", "--data", text_file, "--out", tmp_path / "out", "--model", folder)
    done = run(*line, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "code of its own" in done.stderr
    assert not (folder / "it-ran").exists()
