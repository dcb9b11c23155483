"""Every mistake of a user: one sentence on standard error, exit code 2, nothing on disk changed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from conftest import POSITIONS, story
from unmask import Unmasker
from unmask.cli import main
from unmask.errors import UserError
from unmask.pipelines.autoregressor import Autoregressor

SHORT = [
    "data.length=24",
    "training.steps=2",
    "training.batch_size=4",
    "training.evaluation_rows=4",
]
SETS = [word for setting in SHORT for word in ("--set", setting)]


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def refused(capfd: pytest.CaptureFixture[str]):
    """Run a command line that must fail; return its one sentence."""

    def run(*arguments: object) -> str:
        code = main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        assert code == 2, (code, out, err)
        assert out == ""
        assert err.startswith("unmask: ")
        assert err.endswith("\n")
        assert err.count("\n") == 1, err
        assert "Traceback" not in err
        return err

    return run


@pytest.fixture
def place(zoo, text_file, tmp_path) -> dict[str, object]:
    """Names for the command lines below."""
    return {"zoo": zoo, "text": text_file, "tmp": tmp_path, "bert": zoo / "bert"}


GENERATE = "generate Hello --model {bert} "
RENAMED = [
    (
        GENERATE + "--sampler confidence",
        "unknown sampler 'confidence'; it is called 'threshold' now",
    ),
    (GENERATE + "--edit-below 0.1", "it is called '--edit-threshold' now; see unmask generate"),
    *(
        ("train --data {text} --out {tmp}/out --set " + setting, f"it is called {now!r} now")
        for setting, now in (
            ("training.schedule=cosine", "lr_schedule"),
            ("sampler.name=keep-likeliest", "p2"),
            ("sampler.measure=margin", "confidence_metric"),
        )
    ),
]
MISTAKES = [
    *RENAMED,
    # A model that is none.
    ("generate --model {tmp}/nothing", "no model folder"),
    ("generate --model {tmp}", "no config.json"),
    ("generate --model {text}", "is a file"),
    ("generate --model nobody/no-such-model", "nobody/no-such-model"),
    ("info nobody-has-this-model", "nobody-has-this-model"),
    ("score Hello --model ./nothing", "no model folder"),
    ("evaluate --model ./nothing --data {text}", "no model folder"),
    ("compare Hello --models {bert} ./nothing", "no model folder"),
    ("train --model ./nothing --data {text} --out {tmp}/out", "no model folder"),
    ("generate --model {zoo}/gpt2", "encoder"),
    ("train --model {zoo}/llama --data {text} --out {tmp}/out", "encoder"),
    ("train ar --model {bert} --data {text} --out {tmp}/out", "decoder"),
    (
        "train block-diffusion --data {text} --out {tmp}/out --set objective.block_length=0",
        "goes with objective.block_length",
    ),
    (GENERATE + "--device nonsense", "nonsense"),
    # Numbers out of range.
    *((GENERATE + f"--length {n}", "length") for n in (0, -3, 10**12)),
    *((GENERATE + f"--steps {n}", "steps") for n in (0, -3, 10**12)),
    *((GENERATE + f"--num-samples {n}", "num-samples") for n in (0, -3, 10**12)),
    *((GENERATE + f"--temperature {n}", "temperature") for n in (-1, "nan", "inf")),
    *((GENERATE + f"--top-k {n}", "top-k") for n in (0, -3)),
    *((GENERATE + f"--top-p {n}", "top-p") for n in (0, -0.5, 1.5, "nan")),
    *((GENERATE + f"--min-p {n}", "min-p") for n in (-0.1, 2, "nan")),
    *((GENERATE + f"--repetition-penalty {n}", "penalty") for n in (0, 1e-9, -1, "nan", 1e300)),
    *(
        (GENERATE + f"--grid-times {n}", "begin at 1")
        for n in ("1,0.5", "0.9,0", "1,0.5,0.5,0", "1,nan,0")
    ),
    *((GENERATE + f"--sampler threshold --threshold {n}", "threshold") for n in (-0.5, "nan")),
    (GENERATE + "--sampler left-to-right --tokens-per-step 0", "tokens-per-step"),
    (GENERATE + "--sampler entropy-bound --gamma -1", "gamma"),
    (GENERATE + "--sampler fast-dllm-factor --factor nan", "factor"),
    (GENERATE + "--sampler remdm-cap --eta 2", "eta"),
    (GENERATE + "--sampler threshold-edit --edit-threshold -0.1", "edit-threshold"),
    *(
        (f"compare A --models {{zoo}}/gpt2 {{zoo}}/llama --length 4 --top-p {n}", "top-p")
        for n in (0, 2)
    ),
    ("compare A --models {zoo}/gpt2 {zoo}/llama --length 0", "length"),
    ("generate " + "very," * POSITIONS + " --model {bert}", f"{POSITIONS} positions"),
    (GENERATE + "--length many", "'--length'"),
    (f"{GENERATE} --window {POSITIONS + 1}", f"{POSITIONS} positions"),
    (f"{GENERATE} --window 2", "window"),
    (f"{GENERATE} --window 10 --stride 9", "stride"),
    (f"{GENERATE} --stride {POSITIONS}", "stride"),
    (f"{GENERATE} --stride 0", "stride"),
    (f"generate [MASK:{POSITIONS}] --model {{bert}}", f"{POSITIONS} positions"),
    ("generate [MASK:9999] --model {bert}", "4096"),
    ("generate [MASK:5-3] --model {bert}", "[MASK:5-3]"),
    ("generate [MASK:x] --model {bert}", "[MASK:x]"),
    ("generate [MASK:3] --length 4 --model {bert}", "leave length out"),
    ("infill [MASK:3] --choose-length sample --model {bert}", "leave choose_length out"),
    ("infill [MASK:1-3] --choose-length best --model {bert}", "choose one of likeliest, sample"),
    ("infill [MASK:1-99][MASK:1-99] --model {bert}", "narrow their ranges"),
    ("generate [MASK:3] --window 9 --model {bert}", "leave window out"),
    ("generate [MASK:3] --stride 2 --model {bert}", "leave stride out"),
    ("generate [MASK:3] --stop-at-end --model {bert}", "leave stop_at_end out"),
    ("generate --source Hello --window 9 --model {bert}", "--window goes without a source"),
    ("generate --source Hello --stop-at-end --model {bert}", "goes without a source"),
    ("infill Hello --model {bert}", "no blank; write [MASK], [MASK:5] or [MASK:3-8]\n"),
    *(
        (f"infill Hello{mark}there... --model {{bert}}", f"[MASK:3-8] in place of {mark}\n")
        for mark in (
            *("___", "<mask>", "[mask]", "[Mask:3]", "[MASK_3]", "<|mask|>", "<extra_id_0>"),
            *("[BLANK]", "<blank>", "(blank)", "[]", "??"),
        )
    ),
    ("infill {{mask}} --model {bert}", "in place of {mask}\n"),
    ("infill Well... --model {bert}", "in place of ...\n"),
    # A folder that is missing is found out before the model is opened.
    ("generate Hello --model {tmp}/nothing --gif {tmp}/out/a.gif", "no folder {tmp}/out; make"),
    ("generate Hello --model {tmp}/nothing --html {tmp}/out/b/a.html", "no folder {tmp}/out/b"),
    ("infill [MASK] --model {tmp}/nothing --frames {tmp}/out/a.jsonl", "no folder {tmp}/out"),
    ("compare A --models {tmp}/no {tmp}/no --gif {tmp}/out/a.gif", "no folder {tmp}/out"),
    ("show {tmp}/none.jsonl --gif {tmp}/out/a.gif", "no folder {tmp}/out"),
    ("bench samplers --data {text} --plot {tmp}/out/a.png", "no folder {tmp}/out"),
    (GENERATE + "--length 4 --gif {text}", "ends in .gif"),
    (GENERATE + "--length 4 --html {text}", "ends in .html or .htm"),
    (GENERATE + "--length 4 --frames {text}", "ends in .jsonl"),
    ("show {text} --gif {text}", "ends in .gif"),
    ("bench samplers --plot {text}", "ends in .png"),
    ("bench samplers --data {text} --rows 100000000", "too much memory; take at most"),
    ("bench samplers --data {text} --rows 1", "range x>=2"),
    ("generate The --model {bert} --length 5 --temperature 1e39", "from 0 to 1,000,000"),
    ("generate The --model {bert} --length 5 --guidance-scale 1e39", "from 0 to 1,000,000"),
    ("bench samplers --data {text} --seed 1000000000000000", "below 2^40"),
    ("score Hello --model {bert} --draws 0", "draws"),
    ("score Hello --model {zoo}/gpt2 --draws 4", "--draws goes without"),
    ("evaluate --model {zoo}/gpt2 --data {text} --num-steps 4", "--num-steps goes without"),
    ("evaluate --model {bert} --data {text} --num-steps 100000000000000000", "from 1 to 1,000,000"),
    ("evaluate --model {bert} --data {text} --report {text}", "is a file"),
    ("bench samplers --data {text} --steps 9999999", "1 to 100000"),
    ("bench samplers --data {text} --steps 200000", "1 to 100000"),
    ("bench samplers --data {text} --steps 4 --sampler gibbs", "--steps goes without gibbs"),
    ("tune --model {tmp}/none --data {text}", "there is no model folder"),
    ("tune --model {bert} --data {text} --overwrite", "--overwrite goes with --out"),
    ("tune --model {bert} --data {text} --out {bert} --overwrite", "--out is the model itself"),
    (GENERATE + "--sampler threshold --tokens-per-step 9223372036854775808", "1 to 1,000,000"),
    ("compare A --models {zoo}/gpt2 {zoo}/llama --seed 9999999999999999999", "2^40"),
    # Names that are empty, as of a variable that is not set, or that no file can have.
    ("info ''", "the name of a folder or on the hub, not ''"),
    (GENERATE + "--device ''", "device ''"),
    (GENERATE + "--sampler ''", "unknown sampler ''"),
    (GENERATE + "--gif ''", "'--gif': it is empty"),
    ("generate Hello --model ''", "not ''"),
    ("evaluate --model {bert} --data ''", "empty"),
    ("train --data '' --out {tmp}/out", "empty"),
    ("train --data {text} --validation '' --out {tmp}/out", "empty"),
    ("train --data {text} --out ''", "'--out': it is empty"),
    ("train --data {text} --out {text}/out", "Not a directory"),
    (f"train --data {{text}} --out {{tmp}}/{'x' * 300}", "File name too long"),
    (f"{GENERATE} --gif {{tmp}}/{'x' * 300}.gif", "File name too long"),
    (f"tune --model {{bert}} --data {{text}} --out {{tmp}}/{'x' * 300}", "File name too long"),
    # Bytes that are not UTF-8, as Python hands them on.
    ("generate a\udcff --model {bert} --length 3", "half a character"),
    (GENERATE + "--ban \udcff", "half a character"),
    ("score a\udcff --model {bert}", "half a character"),
    ("train --data {text} --out {tmp}/out --set name=\udcff", "one line of text"),
    ("train --list --data {text}", "--list"),
    ("train --list --model {bert}", "--list"),
    ("demo --prompt [MASK:3] --out {tmp}/out", "without blanks"),
    ("demo --seed -1 --out {tmp}/out", "--seed"),
    ("demo --minutes nan --out {tmp}/out", "--minutes"),
    ("evaluate --model {bert} --data {text} --max-chars 0", "max-chars"),
    # Options that would have no effect.
    (GENERATE + "--sampler ancestral --threshold 0.5", "threshold"),
    (GENERATE + "--sampler threshold --gamma 0.5", "entropy-bound"),
    (GENERATE + "--sampler refine --tokens-per-step 2", "tokens-per-step"),
    (GENERATE + "--sampler left-to-right --steps 4 --tokens-per-step 2", "leave it out"),
    (GENERATE + "--sampler threshold --confidence-metric entropy", "'drawn'"),
    (GENERATE + "--sampler fast-dllm-factor --temperature 0.5", "temperature"),
    (GENERATE + "--sampler threshold --top-k 5", "top-k"),
    (GENERATE + "--temperature 0 --top-p 0.5", "top-p"),
    (GENERATE + "--temperature 0 --min-p 0.5", "min-p"),
    (GENERATE + "--top-p-crossing drop", "top_p below 1"),
    (GENERATE + "--sampler gibbs --grid-times cosine", "no grid"),
    (GENERATE + "--sampler threshold --grid-times cosine", "goes with steps"),
    (GENERATE + "--grid-times 1,0.5,0 --steps 2", "steps goes without"),
    (GENERATE + "--sampler refine --stop-at-end", "leave it out"),
    (GENERATE + "--stop-at-end --ban [SEP]", "leave it out"),
    (GENERATE + "--ban=", "text to be left out"),
    (GENERATE + "--ban ☃", "no tokens for '☃'"),
    ("compare A --models {zoo}/gpt2 {zoo}/llama --grid-times cosine", "--grid"),
    ("compare A --models {zoo}/gpt2 {zoo}/llama --length 4 --min-p 2", "min-p"),
    ("compare A --models {zoo}/gpt2 {zoo}/llama --length 4 --repetition-penalty 0", "penalty"),
    ("compare A --models {zoo}/gpt2 {zoo}/llama --steps 4", "--steps"),
    ("compare A --models {zoo}/gpt2 {zoo}/llama --edit-threshold 0.5", "--edit-threshold"),
    # A text without quotes, and one without a verb.
    ("generate The town --model {bert}", "into quotes"),
    ("infill A [MASK] --model {bert}", "into quotes"),
    # Names that do not exist.
    ("generat Hello", "'generate'"),
    (GENERATE + "--lenght 3", "--length"),
    (GENERATE + "--sampler ancestrl", "'ancestral'"),
    (GENERATE + "--sampler threshold --confidence-metric margn", "'margin'"),
    (GENERATE + "--grid-times cosin", "uniform or cosine"),
    (GENERATE + "--grid-times 1,x,0", "1,x,0"),
    (GENERATE + "--top-p 0.5 --top-p-crossing dorp", "'drop'"),
    ("train difuse --data {text} --out {tmp}/out", "'diffuse'"),
    ("train ./mine.toml --data {text} --out {tmp}/out", "mine.toml"),
    ("train --data {text} --out {tmp}/out --set training.stepz=3", "'steps'"),
    ("train --data {text} --out {tmp}/out --set trainig.steps=3", "'training'"),
    ("train --data {text} --out {tmp}/out --set training.steps=lots", "training.steps"),
    ("train --data {text} --out {tmp}/out --set training.steps=-1", "training.steps"),
    ("train --data {text} --out {tmp}/out --set training.epochs=inf", "training.epochs"),
    ("train --data {text} --out {tmp}/out --set training.learning_rate=nan", "learning_rate"),
    ("train --data {text} --out {tmp}/out --set training", "section.key=value"),
    ("train --data {text} --out {tmp}/out --set training.seed=-1", "training.seed"),
    ("train --data {text} --out {tmp}/out --set training.beta2=2", "training.beta2"),
    ("train --data {text} --out {tmp}/out --set training.max_grad_norm=nan", "max_grad_norm"),
    ("train --data {text} --out {tmp}/out --set model.dropout=5", "model.dropout"),
    ("train --data {text} --out {tmp}/out --set training.report_to=foo", "training.report_to"),
    ("train --data {text} --out {tmp}/out --set training.report_to=comet_ml", "comet"),
    ("train --data {text} --out {tmp}/out --set training.optimizer=galore_adamw", "galore"),
    ("train --data {text} --out {tmp}/out --set training.lr_schedule=cosine_with_min_lr", "min_lr"),
    (
        "train --data {text} --out {tmp}/out --set model.config.hidden_size=3",
        "would have no effect",
    ),
    ("train --data {text} --out {tmp}/out --set tokenizer.vocab_size=500", "would have no effect"),
    ("train tiny --data {text} --out {tmp}/out --set tokenizer.vocab_size=9", "vocab_size"),
    ("train --data {text} --out {tmp}/out --set sampler.steps=8.5", "steps must be a whole"),
    ("train --data {text} --out {tmp}/out --set sampler.stesp=8", "'steps'"),
    ("train --data {text} --out {tmp}/out --set training.optimizer=adamm", "adamm"),
    ("train --data {text} --out {tmp}/out --set training.lr_schedule=cosin", "cosin"),
    (
        "train --data {text} --out {tmp}/out --set training.lr_schedule=polynomial "
        "--set training.learning_rate=1e-8",
        "training.lr_schedule cannot be used",
    ),
    (
        "train --data {text} --out {tmp}/out --set training.lr_schedule=polynomial "
        "--set training.learning_rate=1e-8 --set training.minutes=1",
        "training.lr_schedule cannot be used",
    ),
    ("train --data {text} --out {tmp}/out --set schedule.name=cosin", "cosine"),
    ("train tiny --data {text} --out {tmp}/out --set model.type=brt", "brt"),
    ("train --out {tmp}/out", "--data"),
    ("train --data {text}", "--out"),
    ("train --data {text} --out {tmp}/out --resume", "no checkpoint"),
    ("train --data {text} --out {tmp}/out --resume --overwrite", "--overwrite"),
    (
        "train --model {bert} --data {text} --out {tmp}/out --set data.length=65",
        f"{POSITIONS} positions",
    ),
    # Files that are not there or not what they should be.
    ("train --data {tmp}/none.txt --model {bert} --out {tmp}/out", "none.txt"),
    ("train --data no-such-data --model {bert} --out {tmp}/out", "no-such-data"),
    ("train --data {tmp} --model {bert} --out {tmp}/../out", "holds no file"),
    ("show {tmp}/none.jsonl", "none.jsonl"),
    ("show {text}", "recording"),
    ("show /dev/zero", "a pipe, a socket or a device"),
    ("show {tmp}", "is a folder"),
    ("score /dev/zero --model {bert}", "not an ordinary file"),
    ("train --data /dev/zero --model {bert} --out {tmp}/out", "not an ordinary file"),
    ("train --data {text} --validation /dev/zero --out {tmp}/out", "not an ordinary file"),
    ("train --data ~no-such-user --model {bert} --out {tmp}/out", "there is no file or folder"),
    ("generate Hello --model ~no-such-user/model", "no model folder ~no-such-user/model"),
    ("tune --model ~no-such-user --data {text}", "~no-such-user"),
]


@pytest.mark.parametrize(("line", "says"), MISTAKES, ids=[line for line, _ in MISTAKES])
def test_a_mistake_is_one_sentence(refused, place, line, says):
    before = snapshot(place["tmp"])
    if line.startswith("train --"):
        line += " --set data.length=24" * ("data.length" not in line)
        line += " --model {bert}" * ("--model" not in line)
    words = [word for word in line.split(" ") if word]
    sentence = refused(*("" if w == "''" else w.format(**place) for w in words))
    assert says.replace("{tmp}", str(place["tmp"])) in sentence
    assert snapshot(place["tmp"]) == before
    assert not (place["tmp"] / "out").exists()


@pytest.mark.parametrize("text", ["The town", "The ___ sat .", "The <mask> sat ."])
def test_a_text_without_a_verb_names_the_verb(refused, text):
    assert "use: unmask generate TEXT" in refused(text)


def test_what_unmask_did_not_write_is_not_overwritten(refused, zoo, text_file, tmp_path):
    data = tmp_path / "data.jsonl"
    data.write_text('{"text": "precious"}\n', encoding="utf-8")
    line = ("generate", "Hello", "--model", zoo / "bert", "--length", "3", "--frames")
    before = snapshot(tmp_path)
    assert "is not a recording of this version" in refused(*line, data)
    score = ("evaluate", "--model", zoo / "bert", "--data", text_file, "--max-chars", "200")
    for name, mine in (
        ("report.md", "# Mine\n"),
        ("report.json", "# Mine\n"),
        ("report.json", '{\n  "mine": {"a": 1}\n}'),
    ):
        (tmp_path / name).write_text(mine, encoding="utf-8")
        assert "was not written by unmask evaluate" in refused(*score, "--report", tmp_path)
        (tmp_path / name).unlink()
    assert snapshot(tmp_path) == before
    # What it wrote itself is.
    for _ in range(2):
        assert main([str(x) for x in (*line, tmp_path / "run.jsonl")]) == 0
        assert main([str(x) for x in (*score, "--draws", 1, "--report", tmp_path / "new")]) == 0


DATA = {
    "empty.txt": (b"", "holds no text"),
    "blank.txt": (b" \n\n ", "holds no text"),
    "binary.txt": (b"GIF89a\0\1\2 text", "binary"),
    "latin.txt": ("déjà vu".encode("latin-1"), "not UTF-8"),
    "nofield.jsonl": (b'{"text": "yes"}\n{"body": "no"}\n', "row 2"),
    "number.jsonl": (b'{"text": 5}\n', "row 1"),
    "latin.jsonl": ('{"text": "déjà vu"}\n'.encode("latin-1"), "not UTF-8"),
    "broken.jsonl": (b'{"text": "yes"}\n{"text": "no\n', "broken.jsonl"),
    "empty.jsonl": (b"", "empty.jsonl"),
    "nofield.csv": (b"a,b\n1,2\n", "'text'"),
    "broken.parquet": (b"PAR1 nonsense", "broken.parquet"),
    "broken.txt.gz": (b"no gzip", "broken.txt.gz"),
    "short.txt": (b"The cat.", "data.length"),
}


@pytest.mark.parametrize("name", DATA)
def test_data_that_cannot_be_learned_from(refused, zoo, tmp_path, name):
    content, says = DATA[name]
    (tmp_path / name).write_bytes(content)
    line = ("train", "--model", zoo / "bert", "--data", tmp_path / name, "--out", tmp_path / "out")
    assert says in refused(*line, *SETS)
    assert not (tmp_path / "out").exists()
    if name != "short.txt":
        assert says in refused("evaluate", "--model", zoo / "bert", "--data", tmp_path / name)


@pytest.mark.parametrize("verb", ["evaluate", "infill"])
def test_where_no_field_holds_text_none_is_to_be_chosen(refused, zoo, tmp_path, verb):
    """As in a file whose rows stand one level further down."""
    nested, other = tmp_path / "nested.json", tmp_path / "other.json"
    nested.write_text('{"version": 1, "data": [{"text": "the cat [MASK]"}]}', encoding="utf-8")
    other.write_text('{"body": "the cat [MASK]"}', encoding="utf-8")
    out = ("--out", tmp_path / "out.jsonl") if verb == "infill" else ()
    line = (verb, "--model", zoo / "bert", *out, "--data")
    says = refused(*line, nested)
    assert "no text in the field 'text' nor in any other" in says
    assert "--field" not in says
    assert "its text fields: body; choose one with --field" in refused(*line, other)


@pytest.mark.parametrize("verb", ["train", "evaluate", "tune", "bench"])
def test_a_field_of_what_has_no_columns(refused, zoo, text_file, tmp_path, verb):
    model, out = ("--model", zoo / "bert"), ("--out", tmp_path / "out")
    options = {
        "train": ("train", *model, *out, *SETS),
        "evaluate": ("evaluate", *model),
        "tune": ("tune", *model, *out),
        "bench": ("bench", "samplers", "--symbols", "characters"),
    }[verb]
    says = refused(*options, "--data", text_file, "--field", "body")
    assert "leave out --field body" in says
    assert not (tmp_path / "out").exists()


def test_a_field_that_one_of_two_sources_has(zoo, text_file, tmp_path):
    table = tmp_path / "data.jsonl"
    table.write_text(json.dumps({"body": story(40)}) + "\n", encoding="utf-8")
    line = ("train", "--model", zoo / "bert", "--data", table, "--out", tmp_path / "out", *SETS)
    assert main([str(x) for x in (*line, "--validation", text_file, "--field", "body")]) == 0


def test_a_split_of_a_file(refused, zoo, text_file):
    line = ("evaluate", "--model", zoo / "bert", "--data", text_file)
    assert "has no splits" in refused(*line, "--split", "validation")


def test_no_text_is_not_the_folder_that_one_is_in(refused, zoo, text_file, tmp_path, monkeypatch):
    shutil.copy(text_file, tmp_path / "some.txt")
    monkeypatch.chdir(tmp_path)
    for nothing in ("", " "):
        assert "no text to score" in refused("score", nothing, "--model", zoo / "bert")


@pytest.mark.parametrize("line", [[], ["bench"]])
def test_without_a_verb_the_help_is_shown_as_it_is(line, capfd):
    assert main(line) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(" ".join(["Usage: unmask", *line]))
    assert "\nCommands:\n" in err


def test_standard_input_that_is_not_text(zoo):
    command = [sys.executable, "-m", "unmask", "generate", "-", "--model", str(zoo / "bert")]
    done = subprocess.run(
        command, input=b"\xff\xfe", capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 2
    assert done.stdout == b""
    assert done.stderr.decode() == "unmask: standard input is not UTF-8 text (byte 0)\n"


def damage(name: str, folder: Path) -> None:
    """Do to a checkpoint what the name says."""
    weights, card = folder / "model.safetensors", folder / "unmask.json"
    if name == "truncated weights":
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif name == "empty weights":
        weights.write_bytes(b"")
    elif name == "no weights":
        weights.unlink()
    elif name == "foreign weights":
        save_file({"what.weight": torch.ones(3)}, weights, {"format": "pt"})
    elif name == "weights of another size":
        tensors = {key: torch.cat([value] * 2) for key, value in load_file(weights).items()}
        save_file(tensors, weights, {"format": "pt"})
    elif name == "newer card":
        card.write_text('{"format": 99}')
    elif name == "damaged card":
        card.write_text('{"format": 1, "schedule": {"na')
    elif name == "card of a list":
        card.write_text("[1, 2]")
    elif name == "card with a wrong type":
        card.write_text('{"format": 1, "schedule": "linear"}')
    elif name == "card with an unknown schedule":
        card.write_text('{"format": 1, "schedule": {"name": "liner"}}')
    elif name == "card with an unknown sampler":
        card.write_text('{"format": 1, "sampler": {"name": "ancestrl"}}')
    elif name == "card with a wrong length":
        card.write_text('{"format": 1, "length": "abc"}')
    elif name == "card of truths":
        card.write_text('{"format": 1, "num_steps": true}')
    elif name == "card with half a step":
        card.write_text('{"format": 1, "sampler": {"name": "ancestral", "steps": 8.5}}')
    elif name == "card as a folder":
        card.unlink(missing_ok=True)
        card.mkdir()
    elif name == "weights that are no numbers":
        tensors = {key: value * float("nan") for key, value in load_file(weights).items()}
        save_file(tensors, weights, {"format": "pt"})
    elif name == "config with a wrong type":
        config = json.loads((folder / "config.json").read_text("utf-8"))
        (folder / "config.json").write_text(json.dumps(config | {"hidden_size": "x"}))
    elif name == "config without end":
        config = json.loads((folder / "config.json").read_text("utf-8"))
        (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 2**63}))
    elif name == "mask token beyond the model":
        settings = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
        settings["mask_token"] = "<new>"
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    elif name == "damaged config":
        (folder / "config.json").write_text("{")
    elif name == "unknown architecture":
        (folder / "config.json").write_text('{"model_type": "brt"}')
    elif name == "no tokenizer":
        (folder / "tokenizer.json").unlink()
        (folder / "tokenizer_config.json").unlink()
    elif name == "damaged tokenizer":
        (folder / "tokenizer.json").write_text("{")
    elif name == "no mask token":
        shutil.copy(folder.parent / "nomask.json", folder / "tokenizer_config.json")
        text = (folder / "tokenizer.json").read_text("utf-8")
        (folder / "tokenizer.json").write_text(text.replace("<mask>", "<hide>"), "utf-8")


DAMAGES = {
    "truncated weights": "weights",
    "empty weights": "weights",
    "no weights": "weights",
    "foreign weights": "missing",
    "weights of another size": "weights",
    "newer card": "format 99",
    "damaged card": "unmask.json",
    "card of a list": "unmask.json",
    "card with a wrong type": "unmask.json",
    "card with an unknown schedule": "'linear'",
    "card with an unknown sampler": "'ancestral'",
    "card with a wrong length": "sequence_length must be a whole number, not 'abc'",
    "card of truths": "num_steps must be a whole number, not True",
    "card with half a step": "steps must be a whole number",
    "card as a folder": "unmask.json is damaged",
    "weights that are no numbers": "the checkpoint is damaged",
    "config with a wrong type": "hidden_size",
    "config without end": "num_hidden_layers is",
    "mask token beyond the model": "embeddings of the model",
    "damaged config": "config.json",
    "unknown architecture": "brt",
    "no tokenizer": "tokenizer",
    "damaged tokenizer": "tokenizer",
    "no mask token": "mask token",
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_checkpoint_is_refused(refused, zoo, tmp_path, name):
    folder = tmp_path / "model"
    shutil.copytree(zoo / "roberta", folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    settings.pop("mask_token")
    (tmp_path / "nomask.json").write_text(json.dumps(settings))
    damage(name, folder)
    before = snapshot(folder)
    assert DAMAGES[name] in refused("generate", "Hello", "--length", 4, "--model", folder)
    assert snapshot(folder) == before


def test_a_score_of_no_number_is_refused(refused, zoo, text_file, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(zoo / "roberta", folder)
    damage("weights that are no numbers", folder)
    assert "damaged" in refused("score", "Hello", "--model", folder)
    assert "damaged" in refused("evaluate", "--model", folder, "--data", text_file)


def run_to(output: object, *arguments: object) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "unmask", *map(str, arguments)]
    return subprocess.run(command, stdout=output, stderr=subprocess.PIPE, check=False)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_an_output_that_is_full_is_one_sentence(zoo):
    with open("/dev/full", "wb") as full:
        done = run_to(full, "info", zoo / "bert")
    assert done.returncode == 2
    assert done.stderr == b"unmask: No space left on device\n"


def test_a_reader_that_has_seen_enough_is_no_mistake():
    reading, writing = os.pipe()
    os.close(reading)
    done = run_to(writing, "train", "--list")
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


def test_only_a_closed_pipe_counts_as_a_good_end(zoo, monkeypatch):
    def leave(*_: object) -> None:
        sys.exit("a library gave up")

    monkeypatch.setattr("unmask.models.loading.load_config", leave)
    with pytest.raises(SystemExit, match="gave up"):
        main(["info", str(zoo / "bert")])


def test_an_error_of_a_file_leaves_standard_output_alone(refused, tmp_path, capfd):
    line = ("train", "--data", f"/{'x' * 300}", "--out", tmp_path / "out")
    assert "no file or folder" in refused(*line)
    print("still here")
    assert capfd.readouterr().out == "still here\n"


def test_a_short_text_of_many_bytes_is_scored(zoo, capsys):
    # More bytes than a file name may have.
    assert main(["score", "déjà vu " * 24, "--model", str(zoo / "bert")]) == 0
    assert "nats/token" in capsys.readouterr().out


def test_the_same_mistakes_in_python_are_a_user_error(zoo):
    with pytest.raises(UserError, match="no model folder"):
        Unmasker.from_pretrained("./nothing")
    with pytest.raises(UserError, match="needed"):
        Autoregressor.from_pretrained(str(zoo / "bert"))
    writer = Unmasker.from_pretrained(str(zoo / "bert"))
    with pytest.raises(UserError, match="steps"):
        writer.generate("Hello", steps=0)
    with pytest.raises(UserError, match="warmth"):
        writer.generate("Hello", warmth=3)
    with pytest.raises(UserError, match="nothing to generate"):
        writer.generate([])
    with pytest.raises(UserError, match="no text"):
        writer.score("")


def test_a_picture_that_cannot_be_written(zoo, tmp_path, capfd):
    line = ("generate", "Hello", "--model", zoo / "bert", "--length", 4, "--gif", tmp_path)
    assert main([str(word) for word in line]) == 2
    assert capfd.readouterr().err == (
        f"unmask: cannot write to {tmp_path}, which is a folder; choose a file name\n"
    )


@pytest.mark.parametrize("name", ["a.gif", "index.html", "b.HTM", "c.png", "d.jsonl"])
def test_only_a_file_of_ours_is_replaced(refused, zoo, text_file, tmp_path, name):
    options = {"gif": "--gif", "html": "--html", "htm": "--html", "jsonl": "--frames"}
    ending = name.lower().rpartition(".")[2]
    line = ["generate", "The", "--model", zoo / "bert", "--length", "3"]
    if ending == "png":
        line = ["bench", "samplers", "--data", text_file, "--rows", "2", "--length", "3"]
        line += ["--steps", "1", "--sampler", "ancestral"]
    file = tmp_path / name
    ours = [str(word) for word in (*line, options.get(ending, "--plot"), file)]
    # Made by somebody else, one of them even with the right bytes at its beginning.
    for content in (b"<html>mine</html>", b"GIF89a", b"\x89PNG\r\n\x1a\n mine"):
        file.write_bytes(content)
        assert "is not overwritten" in refused(*ours)
        assert file.read_bytes() == content
    file.write_bytes(b"")
    assert main(ours) == 0
    assert file.stat().st_size
    assert main(ours) == 0


@pytest.mark.parametrize(
    "setting",
    [
        "model.config.hidden_size=16",
        "model.config.rope_parameters.full_attention.rope_theta=1.0",
        "model.type=bert",
        "model.name=bundled",
        "tokenizer.vocab_size=300",
        "tokenizer={vocab_size=300}",
        "model.config = {hidden_size=16}",
    ],
)
def test_a_setting_of_a_fresh_model_beside_a_model(refused, zoo, text_file, tmp_path, setting):
    line = ("train", "md4", "--data", text_file, "--out", tmp_path / "m", "--model", zoo / "bert")
    assert "would have no effect" in refused(*line, "--set", setting)


def test_a_card_says_nothing_of_a_fresh_model_that_was_not_made(zoo, text_file, tmp_path):
    line = ["train", "tiny", "--data", str(text_file), "--out", str(tmp_path / "m")]
    short = {"training.steps": 1, "training.batch_size": 4, "data.length": 24}
    line += [word for key, value in short.items() for word in ("--set", f"{key}={value}")]
    assert main([*line, "--model", str(zoo / "bert")]) == 0
    recipe = json.loads((tmp_path / "m" / "unmask.json").read_text("utf-8"))["training"]["recipe"]
    assert not recipe["model"]["config"]
    assert not recipe["model"]["type"]
    assert not recipe["tokenizer"]["keep_whole"]


@pytest.mark.parametrize("value", ["2020-01-01", "12:00:00", "2020-01-01T00:00:00Z", "[1, {a=1}]"])
@pytest.mark.parametrize(
    "key",
    [
        *("model.config.hidden_size", "model.config", "schedule.parameters.exponent"),
        *("training.steps", "training.learning_rate", "sampler.steps", "sampler.top_p", "model"),
        *("tokenizer.keep_whole", "objective.mask_rates", "sampler.name", "model.config.a.b"),
    ],
)
def test_a_value_of_another_kind(refused, tmp_path, key, value):
    # Data that is not there: a recipe that passed would be refused for it.
    line = ("train", "tiny", "--data", tmp_path / "none.txt", "--out", tmp_path / "m")
    said = refused(*line, "--set", f"{key}={value}")
    assert "none.txt" not in said or value.startswith("[")


def test_a_device_that_is_not_built_in(refused, zoo):
    for device in ("hpu", "xla", "nonsense", "meta:x"):
        assert f"'{device}'" in refused(
            "generate", "A", "--model", zoo / "bert", "--device", device
        )


def test_a_closed_standard_input(refused, zoo, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    assert "standard input is closed" in refused("generate", "-", "--model", zoo / "bert")


@pytest.mark.parametrize("value", ["many", [512], {"a": 1}, True, -5, None, 1e400, 0])
def test_a_longest_text_of_another_kind(zoo, tmp_path, capfd, value):
    model = tmp_path / "model"
    shutil.copytree(zoo / "bert", model)
    settings = json.loads((model / "tokenizer_config.json").read_text("utf-8"))
    (model / "tokenizer_config.json").write_text(
        json.dumps(settings | {"model_max_length": value}), "utf-8"
    )
    for line in (["generate", "The cat", "--length", "3"], ["score", "The cat sat."]):
        assert main([*line, "--model", str(model)]) in (0, 2)
        err = capfd.readouterr().err
        assert err.count("\n") <= 1


def test_a_panic_of_a_library_is_one_sentence(refused, zoo, monkeypatch):
    kind = type("PanicException", (BaseException,), {})

    def panic(*_args, **_options):
        raise kind("index out of bounds")

    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", panic)
    assert "index out of bounds" in refused("generate", "A", "--model", zoo / "bert")


def test_a_word_without_a_token_is_one_sentence(refused, zoo, tmp_path):
    """Many tokenizers of k-mers have no unknown token; their library raises a bare error."""
    words = ["<pad>", "<mask>", "the", "cat"]
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    shutil.copytree(zoo / "bert", tmp_path / "model")
    for path in (tmp_path / "model").glob("*token*"):
        path.unlink()
    PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", mask_token="<mask>"
    ).save_pretrained(tmp_path / "model")
    data = tmp_path / "data.txt"
    data.write_text("the cat\nthe dog\n", encoding="utf-8")
    model = ("--model", tmp_path / "model")
    assert "no tokens for a text" in refused("generate", "the dog", *model, "--length", 2)
    assert "no tokens for a text" in refused("score", "the dog", *model)
    line = ("--data", data, "--out", tmp_path / "out.jsonl", "--length", 2)
    assert f"row 2 of {data}: the tokenizer has no tokens" in refused("generate", *model, *line)
    assert len((tmp_path / "out.jsonl").read_text("utf-8").splitlines()) == 1
    # What may stand behind a blank is tried with words that it does not have either.
    assert main(["infill", "the cat [MASK]", "--steps", "1", *map(str, model)]) == 0


def test_a_fresh_model_of_too_many_layers(refused, text_file, tmp_path):
    line = ("train", "tiny", "--data", text_file, "--out", tmp_path / "out")
    says = refused(*line, "--set", "model.config.num_hidden_layers=1000000000")
    assert "num_hidden_layers is 1000000000" in says
