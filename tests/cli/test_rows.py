"""``generate``, ``infill`` and ``score`` on files: every row with its result, and going on."""

import csv
import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from conftest import story
from unmask import Unmasker
from unmask.cli import main, rows

TEMPLATES = [f"The {word} sat on [MASK:{n}]." for word in ("cat", "dog", "bird") for n in (1, 2, 3)]


@pytest.fixture
def run(zoo, capfd):
    """Run a verb on a model that must succeed; return what it said on standard error."""

    def run(verb: str, *words: object, code: int = 0, model: str = "roberta") -> str:
        found = main([verb, "--model", str(zoo / model), *map(str, words)])
        out, err = capfd.readouterr()
        assert found == code, err
        assert out == ""
        return err

    return run


@pytest.fixture
def table(tmp_path) -> Path:
    """A CSV with a template in each row."""
    path = tmp_path / "data.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "note"])
        writer.writerows([[i, text, "é, ü"] for i, text in enumerate(TEMPLATES)])
    return path


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


OPTIONS = ("--steps", 2, "--seed", 3)


def test_infill_adds_the_text_to_every_row(run, zoo, table, tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "AT_ONCE", 4)
    out = tmp_path / "out.jsonl"
    assert run("infill", "--data", table, "--out", out, *OPTIONS) == ""
    found = read(out)
    assert [row["template"] for row in found] == TEMPLATES
    assert [(row["id"], row["note"]) for row in found] == [(str(i), "é, ü") for i in range(9)]
    writer = Unmasker.from_pretrained(str(zoo / "roberta"))
    alone = [writer.infill(text, steps=2, seed=3).texts[0] for text in TEMPLATES]
    assert [row["text"] for row in found] == alone


def test_generate_takes_the_lines_of_a_text(run, zoo, tmp_path):
    data, out = tmp_path / "data.txt", tmp_path / "out.jsonl"
    data.write_bytes(b"\xef\xbb\xbfThe cat\r\n\r\nA dog\n")
    said = run(
        "generate", "--data", data, "--out", out, "--length", 4, "--num-samples", 2, *OPTIONS
    )
    assert "left out 1 of 3 rows" in said
    found = read(out)
    assert [row["prompt"] for row in found] == ["The cat"] * 2 + ["A dog"] * 2
    assert [row["sample"] for row in found] == [0, 1, 0, 1]
    writer = Unmasker.from_pretrained(str(zoo / "roberta"))
    options = {"length": 4, "num_samples": 2, "steps": 2, "seed": 3}
    assert [row["text"] for row in found] == list(
        writer.generate(["The cat", "A dog"], **options).texts
    )


def test_generate_writes_fasta(run, tmp_path):
    out = tmp_path / "out.fasta"
    run("generate", "The", "--out", out, "--length", 60, "--num-samples", 2, "--ban", ">", *OPTIONS)
    lines = out.read_text("utf-8").split("\n")
    assert [line for line in lines if line.startswith(">")] == [">1 0", ">1 1"]
    assert max(map(len, lines)) == 60
    data, again = tmp_path / "data.fa", tmp_path / "again.fa"
    data.write_text(">one of them\nthe\ncat\n>two\na dog\n")
    run("generate", "--data", data, "--out", again, "--length", 4, *OPTIONS)
    lines = again.read_text("utf-8").splitlines()
    assert lines[0] == ">one of them"
    assert lines[1].startswith("thecat")
    assert lines[2] == ">two"


@pytest.mark.parametrize("model", ["bert", "gpt2"])
def test_score_adds_the_score_of_every_row(run, zoo, tmp_path, capfd, model):
    data, out = tmp_path / "data.jsonl", tmp_path / "out.jsonl"
    texts = story(5).splitlines()
    lines = [{"body": text, "text": 1, "more": {"n": [i]}} for i, text in enumerate(texts)]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    more = () if model == "gpt2" else ("--draws", 4)
    run("score", "--data", data, "--field", "body", "--out", out, *more, model=model)
    found = read(out)
    assert [
        {k: v for k, v in row.items() if k not in ("score", "unmask")} for row in found
    ] == lines
    assert main(["score", texts[2], "--model", str(zoo / model), "--json", *map(str, more)]) == 0
    assert json.loads(capfd.readouterr().out) == found[2]["score"]


@pytest.mark.parametrize("cut", [0, 1, 50, 400, 10**6])
def test_resume_goes_on_after_the_last_whole_line(run, table, tmp_path, cut):
    out = tmp_path / "out.jsonl"
    line = ("infill", "--data", table, "--out", out, "--num-samples", 2, *OPTIONS)
    run(*line)
    whole = out.read_bytes()
    out.write_bytes(whole[:cut])
    run(*line, "--resume")
    assert out.read_bytes() == whole


def test_a_stopped_run_leaves_whole_lines(run, table, tmp_path, monkeypatch):
    out = tmp_path / "out.jsonl"
    generate, calls = Unmasker.generate, []

    def stop(self, texts, **options):
        calls.append(texts)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return generate(self, texts, **options)

    monkeypatch.setattr(rows, "AT_ONCE", 2)
    monkeypatch.setattr(Unmasker, "generate", stop)
    assert "interrupted" in run("infill", "--data", table, "--out", out, *OPTIONS, code=130)
    assert [row["template"] for row in read(out)] == TEMPLATES[:4]
    run("infill", "--data", table, "--out", out, "--resume", *OPTIONS)
    assert [row["template"] for row in read(out)] == TEMPLATES
    assert sum(map(len, calls[3:])) == 5


def test_other_data_is_not_resumed_and_nothing_is_replaced_unasked(run, table, tmp_path):
    out = tmp_path / "out.jsonl"
    line = ("infill", "--data", table, "--out", out, *OPTIONS)
    run(*line)
    whole = out.read_bytes()
    assert "--resume or --overwrite" in run(*line, code=2)
    for old, new in ((b"bird", b"moon"), (b"\n4,", b"\n44,"), (b"id,", b"no,")):
        content = table.read_bytes()
        table.write_bytes(content.replace(old, new))
        assert "is not of this data" in run(*line, "--resume", code=2)
        table.write_bytes(content)
    table.write_bytes(b"text\nThe [MASK].\n")
    assert "is not of this data" in run(*line, "--resume", code=2)
    out.write_bytes(whole + b"mine\n")
    assert "is not of this data" in run(*line, "--resume", code=2)
    assert out.read_bytes() == whole + b"mine\n"
    run(*line, "--overwrite")
    assert len(read(out)) == 1


def test_a_row_that_cannot_be_written_is_named(run, tmp_path):
    data, out = tmp_path / "data.txt", tmp_path / "out.jsonl"
    data.write_text("The [MASK].\n\nA [MASK:x].\n", encoding="utf-8")
    said = run("infill", "--data", data, "--out", out, code=2)
    assert f"row 3 of {data}: cannot read the blank" in said
    data.write_text('{"text": "[MASK]"}\n{"text": "[MASK] \\ud83d"}\n', encoding="utf-8")
    jsonl = data.rename(tmp_path / "data.jsonl")
    said = run("infill", "--data", jsonl, "--out", out, code=2)
    assert f"row 2 of {jsonl} holds half a character" in said
    assert not out.exists()
    data.write_text("The [MASK].\n" + "The [MASK:99].\nA [MASK].\n", encoding="utf-8")
    said = run("infill", "--data", data, "--out", out, *OPTIONS, code=2)
    assert f"row 2 of {data}: " in said
    assert [row["template"] for row in read(out)] == ["The [MASK]."]


@pytest.mark.parametrize("samples", [1, 2])
def test_a_row_without_a_blank_stays_as_it_is(run, tmp_path, samples):
    data, out = tmp_path / "data.txt", tmp_path / "out.jsonl"
    data.write_text("A dog...\nThe [MASK].\nA ___ cat.\n", encoding="utf-8")
    more = ("--num-samples", samples, *OPTIONS)
    said = run("infill", "--data", data, "--out", out, *more)
    assert said == f"2 of 3 rows of {data} hold no blank and stay as they are, such as row 1\n"
    found = read(out)
    assert [row["template"] for row in found[::samples]] == data.read_text("utf-8").splitlines()
    for row in found:
        kept = "[MASK]" not in row["template"]
        assert (row["text"] == row["template"], row["fillings"] == []) == (kept, kept)
        assert row.get("sample") in (None, 0, 1)
    whole = out.read_bytes()
    out.write_bytes(whole[: len(whole) // 2])
    run("infill", "--data", data, "--out", out, "--resume", *more)
    assert out.read_bytes() == whole
    data.write_text("\nA dog.\nA ___ cat.\n", encoding="utf-8")
    said = run("infill", "--data", data, "--out", out, "--overwrite", code=2)
    assert f"row 2 of {data}: there is no blank" in said


OTHERS = [("--seed", 4), ("--steps", 1), ("--ban", "cat"), ("--temperature", 0.5)]


def test_a_run_goes_on_only_with_the_same_model_and_options(run, zoo, table, tmp_path):
    out, model = tmp_path / "out.jsonl", tmp_path / "model"
    shutil.copytree(zoo / "roberta", model)
    line = ("infill", "--data", table, "--out", out, *OPTIONS)
    run(*line, model=model)
    whole = out.read_bytes()
    begun = b"".join(whole.splitlines(keepends=True)[:4])
    out.write_bytes(begun)
    for other in OTHERS:
        said = run(*line, *other, "--resume", code=2, model=model)
        assert f"line 1 of {out} is of another model or of other options;" in said
    weights = load_file(model / "model.safetensors")
    name = min(weights)
    save_file(weights | {name: weights[name] + 0.01}, model / "model.safetensors", {"format": "pt"})
    assert "another model" in run(*line, "--resume", code=2, model=model)
    assert out.read_bytes() == begun
    run(*line, "--resume")
    assert out.read_bytes() == whole


def test_neither_order_nor_a_default_is_another_option(run, table, tmp_path):
    out = tmp_path / "out.jsonl"
    line = ("infill", "--data", table, "--out", out)
    run(*line, "--steps", 2, "--seed", 0, "--temperature", 1)
    whole = out.read_bytes()
    out.write_bytes(whole[: len(whole) // 2])
    same = ("--temperature", 1, "--num-samples", 1, "--guidance-scale", 1, "--steps", 2)
    run(*line, *same, "--resume")
    assert out.read_bytes() == whole


FIRST_CARD = (
    '{"kind": "masked", "process": "absorbing", "schedule": {"name": "linear"}, "num_steps": 0, '
    '"time": "none", "attention": "full", "sampler": {"name": "confidence-edit", "edit_below": '
    '0.2}, "length": 40, "block_length": 0, "pairs": {}, "records": {}}'
)
FIRST_OPTIONS = (
    '{"work": "template", "sampler": "schedule-confidence", "seed": 3, "steps": 2, "measure": '
    '"margin", "ban": ["cat"], "choose_length": null, "grid": null, "tokens_per_step": null, '
    '"temperature": null, "top_k": null, "top_p": null, "top_p_crossing": null, "min_p": null, '
    '"threshold": null, "factor": null, "gamma": null, "eta": null, "edit_below": null, '
    '"order_temperature": null, "burn_in": null, "repetition_penalty": null, "unban": null, '
    '"guidance_scale": null, "classifier": null, "label": null, "classifier_scale": null, '
    '"classifier_top_k": null, "matching": [], "num_samples": 1}'
)
"""What version b3bb289 hashed, with its names, in its order and behind the options given."""


def test_what_an_earlier_version_began_goes_on(run, zoo, table, tmp_path):
    out, model = tmp_path / "out.jsonl", tmp_path / "model"
    shutil.copytree(zoo / "roberta", model)
    card = json.loads(FIRST_CARD) | {"format": 1}
    (model / "unmask.json").write_text(json.dumps(card), encoding="utf-8")
    digest = hashlib.blake2b(f'[{FIRST_CARD}, {FIRST_OPTIONS}, "", false]'.encode(), digest_size=8)
    for name, tensor in Unmasker.from_pretrained(str(model)).model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
    line = ("infill", "--data", table, "--out", out, "--sampler", "maskgit", "--seed", 3)
    line += ("--steps", 2, "--confidence-metric", "margin", "--ban", "cat")
    run(*line, model=model)
    today = read(out)[0]["unmask"]
    whole = out.read_bytes().replace(today.encode(), digest.hexdigest().encode())
    out.write_bytes(whole[: len(whole) // 2])
    said = run(*line, "--temperature", 0.5, "--resume", code=2, model=model)
    assert "other options" in said
    run(*line, "--resume", model=model)
    assert out.read_bytes() == whole


def test_score_goes_on_only_with_the_same_options(run, tmp_path):
    data, out = tmp_path / "data.txt", tmp_path / "out.jsonl"
    data.write_text("The cat.\nA dog.\n", encoding="utf-8")
    run("score", "--data", data, "--out", out, "--draws", 4)
    out.write_bytes(out.read_bytes().splitlines(keepends=True)[0])
    said = run("score", "--data", data, "--out", out, "--draws", 8, "--resume", code=2)
    assert "other options" in said
    run("score", "--data", data, "--out", out, "--draws", 4, "--resume")
    assert len(read(out)) == 2


def test_what_is_no_number_is_resumed(run, tmp_path):
    data, out = tmp_path / "data.jsonl", tmp_path / "out.jsonl"
    data.write_text('{"text": "[MASK]", "n": NaN}\n{"text": "A [MASK]", "n": 1}\n', "utf-8")
    line = ("infill", "--data", data, "--out", out, *OPTIONS)
    run(*line)
    whole = out.read_bytes()
    out.write_bytes(whole[:-3])
    run(*line, "--resume")
    assert out.read_bytes() == whole


@pytest.mark.parametrize("mine", [b'{"mine": 1}', b"mine", b'{"template": "The dog'])
def test_a_file_of_the_users_is_not_resumed(run, table, tmp_path, mine):
    out = tmp_path / "out.jsonl"
    line = ("infill", "--data", table, "--out", out, *OPTIONS)
    out.write_bytes(mine)
    assert "line 1 of" in run(*line, "--resume", code=2)
    assert out.read_bytes() == mine
    run(*line, "--overwrite")
    whole = out.read_bytes()
    out.write_bytes(whole + mine)
    assert "line 10 of" in run(*line, "--resume", code=2)
    assert out.read_bytes() == whole + mine


def test_results_are_not_written_among_the_data(run, tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    data = tmp_path / "data" / "data.jsonl"
    data.write_text('{"text": "[MASK]"}\n', encoding="utf-8")
    line = ("infill", "--data", data.parent, "--out")
    assert "be read as data" in run(*line, data.parent / "out.jsonl", code=2)
    monkeypatch.setenv("HOME", str(tmp_path))
    line = ("infill", "--data", "~/data/data.jsonl", "--overwrite", "--out")
    assert "--out is the data itself" in run(*line, data, code=2)
    assert data.read_text("utf-8") == '{"text": "[MASK]"}\n'
    # What is left out of a folder is said once.
    (data.parent / "notes.log").touch()
    said = run("infill", "--data", data.parent, "--out", tmp_path / "out.jsonl", *OPTIONS)
    assert said.count("left out 1 of 2 files") == 1


def test_a_header_of_a_sequence_is_one_line(run, tmp_path):
    data, out = tmp_path / "data.csv", tmp_path / "out.fasta"
    data.write_text('name,text\n"one\n>two",The\n,A\n', encoding="utf-8")
    run("generate", "--data", data, "--out", out, "--length", 2, "--ban", ">", *OPTIONS)
    lines = out.read_text("utf-8").splitlines()
    assert [line for line in lines if line.startswith(">")] == [">one >two", ">2"]


MISTAKES = [
    ("infill", "there is no TEMPLATE"),
    ("infill [MASK] --data {table} --out {tmp}/a.jsonl", "TEMPLATE goes without --data"),
    ("infill --data {table}", "--data goes with --out"),
    ("infill --data {table} --out {tmp}/a.txt", "ends in .jsonl or .fasta"),
    ("infill --data {table} --out {tmp}/a/b.jsonl", "no folder"),
    (
        "infill --data {table} --out {tmp}/a.jsonl --resume --overwrite",
        "--resume goes without --overwrite",
    ),
    ("infill --data {table} --out {tmp}/a.fa --resume", "--resume goes with"),
    ("infill --data {table} --out {tmp}/a.jsonl --gif {tmp}/a.gif", "--gif goes without --out"),
    ("infill --data {table} --out {tmp}/a.jsonl --json", "--json goes without --out"),
    ("infill --data {table} --out {tmp}/a.jsonl --no-animate", "--no-animate goes without --out"),
    ("infill --data {table} --out {tmp}/a.jsonl --field body", "no text in the field 'body'"),
    ("infill --data {tmp}/none.csv --out {tmp}/a.jsonl", "there is no file"),
    ("infill --data {table} --out {table} --overwrite", "ends in .jsonl"),
    ("infill [MASK] --resume", "--resume goes with --data and --out"),
    ("infill [MASK] --field body", "--field body goes with --data"),
    ("generate The --out {tmp}/a.jsonl --resume", "--resume goes with"),
    ("generate --source The --out {tmp}/a.jsonl", "name them with --data"),
    ("generate --data {table} --out {tmp}/a.jsonl --candidates 2", "trained on pairs"),
    ("score The --out {tmp}/a.jsonl", "--out goes with rows of --data"),
    ("score --data {table} --out {tmp}/a.fasta", "--out goes with rows of --data"),
    ("score --data {table} --out {tmp}/a.jsonl --draws 0", "row 1 of"),
]


@pytest.mark.parametrize(("line", "says"), MISTAKES, ids=[line for line, _ in MISTAKES])
def test_a_mistake_about_files_is_one_sentence(run, table, tmp_path, line, says):
    before = sorted(tmp_path.iterdir())
    words = [word.format(table=table, tmp=tmp_path) for word in line.split()]
    said = run(*words, code=2)
    assert said.startswith("unmask: ")
    assert says in said
    assert said.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_a_field_of_the_same_name_is_not_lost(run, tmp_path):
    data, out = tmp_path / "data.jsonl", tmp_path / "out.jsonl"
    for row in ({"body": "[MASK]", "text": "mine"}, {"text": "[MASK]", "template": "mine"}):
        data.write_text(json.dumps(row) + "\n", encoding="utf-8")
        more = ("--field", "body") if "body" in row else ()
        assert "rename it" in run("infill", "--data", data, "--out", out, *more, code=2)
        assert not out.exists()


def test_half_a_character_in_another_field_is_kept(run, tmp_path):
    data, out = tmp_path / "data.jsonl", tmp_path / "out.jsonl"
    data.write_text('{"text": "[MASK]", "note": "\\ud83d"}\n', encoding="utf-8")
    run("infill", "--data", data, "--out", out, "--steps", 1)
    assert read(out)[0]["note"] == "\ud83d"
