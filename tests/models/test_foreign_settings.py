"""Settings that other programs leave in a model folder, and that would change or end a run here."""

import json
import shutil
from pathlib import Path

import pytest

from unmask import Autoregressor, Unmasker, UserError
from unmask.cli import main


def edited(source: Path, folder: Path, name: str, **values: object) -> Path:
    """Copy a model folder and change entries of one of its JSON files."""
    shutil.copytree(source, folder)
    file = folder / name
    content = json.loads(file.read_text("utf-8")) if file.exists() else {}
    file.write_text(json.dumps(content | values), encoding="utf-8")
    return folder


def test_dropout_of_a_tokenizer_is_off(zoo, tmp_path):
    content = json.loads((zoo / "roberta" / "tokenizer.json").read_text("utf-8"))
    folder = edited(
        zoo / "roberta",
        tmp_path / "model",
        "tokenizer.json",
        model=content["model"] | {"dropout": 0.5},
    )
    plain = Unmasker.from_pretrained(str(zoo / "roberta"))
    writer = Unmasker.from_pretrained(str(folder))
    text = "The little bird walked around their house in the morning."
    known = plain.codec.encode(text)
    assert all(writer.codec.encode(text) == known for _ in range(20))


@pytest.mark.parametrize("name", ["bert", "roberta", "modernbert"])
def test_outputs_may_be_tuples(zoo, tmp_path, name):
    folder = edited(zoo / name, tmp_path / "model", "config.json", return_dict=False)
    plain, writer = (Unmasker.from_pretrained(str(place)) for place in (zoo / name, folder))
    assert writer.infill("The cat [MASK:3].").texts == plain.infill("The cat [MASK:3].").texts


def test_outputs_of_a_decoder_may_be_tuples(zoo, tmp_path):
    folder = edited(zoo / "gpt2", tmp_path / "model", "config.json", return_dict=False)
    text = "The cat sat on the mat."
    plain, writer = (Autoregressor.from_pretrained(str(p)) for p in (zoo / "gpt2", folder))
    assert writer.score(text).nats == pytest.approx(plain.score(text).nats)


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_an_encoder_that_looks_back_only_is_refused(zoo, tmp_path, name):
    folder = edited(zoo / name, tmp_path / "model", "config.json", is_decoder=True)
    with pytest.raises(UserError, match="is_decoder is true"):
        Unmasker.from_pretrained(str(folder))


@pytest.mark.parametrize("recipe", ["ar", "block-diffusion"])
def test_settings_of_another_sampler_do_not_end_a_run(zoo, text_file, tmp_path, recipe):
    folder = edited(
        zoo / "gpt2",
        tmp_path / "model",
        "generation_config.json",
        do_sample=False,
        temperature=0.9,
        top_p=0.6,
    )
    out = tmp_path / "out"
    line = ["train", recipe, "--model", str(folder), "--data", str(text_file), "--out", str(out)]
    line += ["--set", "training.steps=2", "--set", "data.length=32", "--set", "training.bf16=off"]
    assert main([*line, "--set", "training.save_every=1"]) == 0
    assert (out / "model.safetensors").is_file()
