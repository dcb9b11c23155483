"""Writing a target for a source: the layout, what is noised, what is counted, what comes out."""

import io
import json
import math
import re
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from transformers import TrainerCallback

from test_training import SHORT, metrics, sets
from unmask import Unmasker
from unmask.cli import main
from unmask.cli.writing import watched
from unmask.data.pairs import SEPARATOR, Pair, PairCodec
from unmask.data.text import TextCodec
from unmask.data.text_rows import Text
from unmask.errors import UserError
from unmask.evaluation.likelihood import bound_of_rows, score_text
from unmask.models.checkpoint import RUN, Card
from unmask.pipelines import filling, mbr, recorder
from unmask.sampling.canvas import Canvas, Frame
from unmask.training import TrainingJob, resume, train
from unmask.training import recipe_file as recipes
from unmask.training.checkpoints import seal
from unmask.training.pair_dataset import read_pairs
from unmask.training.recipe import Recipe

LENGTH = 32
MARKS = {"before": "[", "between": "] "}
PAIRS = [
    Pair("the cat sat on the mat", "a dog"),
    Pair("a dog", "the little bird went to the river"),
    Pair("nobody slept", "the moon"),
    Pair("my old friend", "again"),
] * 3
COPY = ["cat", "dog", "bird", "horse"]


def codec_of(zoo: Path, name: str) -> TextCodec:
    return Unmasker.from_pretrained(str(zoo / name)).codec


def write_pairs(path: Path, pairs: list[Pair]) -> Path:
    lines = [json.dumps({"id": 7, "source": p.source, "target": p.target}) for p in pairs]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "pairs.jsonl", PAIRS)


def settings(**more: object) -> dict[str, object]:
    """Return settings of a short run on pairs; __ for the dot."""
    own = SHORT | {"data.before": MARKS["before"], "data.between": "'] '", "training.bf16": "off"}
    own |= {"training.gradient_accumulation": 1, "data.pairs": "true", "data.length": LENGTH}
    return own | {key.replace("__", "."): value for key, value in more.items()}


def run_train(data: Path, out: Path, *more: object, **changed: object) -> int:
    line = ["train", "diffusionbert-conditional", "--data", data, "--out", out, *more]
    return main([str(word) for word in [*line, *sets(settings(**changed))]])


@pytest.fixture(scope="module")
def trained(zoo, tmp_path_factory) -> Path:
    """A model that was trained on pairs, three steps."""
    folder = tmp_path_factory.mktemp("pairs")
    data = write_pairs(folder / "pairs.jsonl", PAIRS)
    assert run_train(data, folder / "model", "--model", zoo / "roberta") == 0
    return folder / "model"


@pytest.fixture(scope="module")
def writer(trained) -> Unmasker:
    return Unmasker.from_pretrained(str(trained))


# The layout.


@pytest.mark.parametrize("name", ["bert", "roberta", "modernbert"])
def test_a_row_is_the_source_then_the_target_then_end_symbols(zoo, name):
    codec = codec_of(zoo, name)
    rows = PairCodec(codec, **MARKS, length=LENGTH).lay_out(PAIRS[:2])
    for i, pair in enumerate(PAIRS[:2]):
        given = [*codec.start, *codec.encode(f"[{pair.source}] ")]
        target = codec.encode(pair.target)
        fillers = LENGTH - len(given) - len(target)
        assert fillers >= 2
        assert rows.ids[i].tolist() == [*given, *target, *[codec.end] * fillers]
        assert rows.editable[i].tolist() == [False] * len(given) + [True] * (LENGTH - len(given))
        assert int(rows.tokens[i]) == len(target) + 1
    assert rows.tally.left_out == []


@pytest.mark.parametrize(("name", "symbol"), [("bert", "[SEP]"), ("roberta", "</s>")])
def test_the_tokenizers_own_separator_stands_between(zoo, name, symbol):
    """Its separator, or the end symbol of a tokenizer that has none; never the letters of it."""
    codec = codec_of(zoo, name)
    rows = PairCodec(codec, "", SEPARATOR, LENGTH).lay_out(PAIRS[:1])
    separator = codec.tokenizer.convert_tokens_to_ids(symbol)
    given = [*codec.start, *codec.encode(PAIRS[0].source), separator]
    assert rows.ids[0, : len(given)].tolist() == given
    assert int(rows.given[0]) == len(given)


def test_symbols_spelt_out_in_a_text_are_letters(zoo):
    codec = codec_of(zoo, "roberta")
    rows = PairCodec(codec, "", "", LENGTH).lay_out([Pair("a </s>", "b </s>")])
    assert (rows.ids == codec.end).sum() == LENGTH - rows.given - rows.tokens + 1


def test_what_does_not_fit_is_counted(zoo):
    codec = codec_of(zoo, "roberta")
    layout = PairCodec(codec, **MARKS, length=LENGTH)
    room = LENGTH - len(layout.given(["a"])[0])
    # The longest target that fits has one end symbol after it and no filler.
    word = next(w for w in "abcdefgh" if len(codec.encode(w * 2)) == 2)
    fits, too_long = Pair("a", word * (room - 1)), Pair("a", word * room)
    assert len(codec.encode(fits.target)) == room - 1
    rows = layout.lay_out([fits, too_long, Pair("", "a"), Pair("a", " \n"), too_long])
    assert rows.targets == (fits.target,)
    assert rows.ids[0, -2:].tolist() == [codec.encode(word)[0], codec.end]
    assert rows.tally.counts == {"total": 5, "empty": 2, "too_long": 2}
    assert rows.tally.left_out == ["left out 4 of 5 pairs: 2 empty, 2 longer than 32 tokens"]
    with pytest.raises(UserError, match="none of the 2 pairs can be used: 1 empty, 1 longer"):
        layout.lay_out([too_long, Pair("", "")])


def test_a_tokenizer_without_an_end_symbol_is_refused(zoo):
    codec = codec_of(zoo, "roberta")
    codec.tokenizer.eos_token = codec.tokenizer.sep_token = None
    with pytest.raises(UserError, match="no end symbol"):
        PairCodec(codec, "", "", LENGTH)


# Reading.


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet", "folder"])
def test_tables_of_every_kind_are_read(tmp_path, kind):
    pairs = [Pair("one, two", "three"), Pair("four", ""), Pair('"five"', "six")]
    path = tmp_path / f"pairs.{kind}"
    if kind == "folder":
        path.mkdir()
        write_pairs(path / "a.jsonl", pairs[:1])
        write_pairs(path / "b.jsonl", pairs[1:])
    elif kind == "jsonl":
        write_pairs(path, pairs)
    else:
        from datasets import Dataset

        table = Dataset.from_list([vars(pair) for pair in pairs])
        table.to_csv(path) if kind == "csv" else table.to_parquet(path)
    assert read_pairs(str(path)) == pairs


def test_rows_that_are_no_pairs_are_refused(tmp_path, text_file):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"source": "a", "translation": "b"}\n')
    with pytest.raises(UserError, match=r"no text in the field 'target'.*source, translation"):
        read_pairs(str(path))
    path.write_text('{"source": "a", "target": 5}\n')
    with pytest.raises(UserError, match=r"row 1 .*'target'.*: source; pairs need"):
        read_pairs(str(path))
    for source in (str(text_file), "pydoc"):
        with pytest.raises(UserError, match="is no table"):
            read_pairs(source)
    with pytest.raises(UserError, match="no file or folder"):
        read_pairs(str(tmp_path / "none.jsonl"))


# Training.


class Seen(TrainerCallback):
    """Keeps what the network is shown while it is trained."""

    def __init__(self) -> None:
        self.rows = []

    def on_train_begin(self, args, state, control, model=None, **_):
        def note(module, arguments, named):
            self.rows.append(named["input_ids"].clone())

        model.register_forward_pre_hook(note, with_kwargs=True)


def recipe(name: str = "diffusionbert-conditional", **more: object) -> Recipe:
    return recipes.load(name, [f"{key}={value}" for key, value in settings(**more).items()])


@pytest.mark.parametrize("name", ["diffusionbert-conditional", "d3pm-uniform"])
def test_the_source_is_never_noised_and_the_fillers_are(zoo, data, tmp_path, name):
    seen = Seen()
    more = {"training__steps": 8, "data__validation_share": 0, "model__time": "none"}
    run = TrainingJob(recipe(name, **more), str(data), tmp_path / "model", str(zoo / "roberta"))
    train(run, [seen])
    codec = codec_of(zoo, "roberta")
    rows = PairCodec(codec, **MARKS, length=LENGTH).lay_out(PAIRS)
    shown = torch.cat(seen.rows)
    assert len(shown) == 32
    heads = {tuple(row[:n].tolist()): int(n) for row, n in zip(rows.ids, rows.given, strict=True)}
    hidden = []
    for row in shown.tolist():
        given = [n for head, n in heads.items() if tuple(row[:n]) == head]
        assert given, "a source was changed"
        clean = next(r for r in rows.ids.tolist() if r[: given[0]] == row[: given[0]])
        hidden.append([a != b for a, b in zip(clean, row, strict=True)])
        assert not any(hidden[-1][: given[0]])
    # The last position is a filler in every row.
    assert any(row[-1] for row in hidden)
    assert not all(row[-1] for row in hidden)


def test_what_is_left_out_is_said_and_noted(zoo, tmp_path, capsys):
    bad = [Pair("", "a"), Pair("a" * 99, "b"), Pair("c", "d" * 99)]
    data = write_pairs(tmp_path / "pairs.jsonl", PAIRS + bad)
    held_out = write_pairs(tmp_path / "held-out.jsonl", [PAIRS[1], bad[0]])
    out = tmp_path / "model"
    assert run_train(data, out, "--model", zoo / "bert", "--validation", held_out) == 0
    lines = capsys.readouterr().err.splitlines()
    assert "left out 3 of 15 pairs: 1 empty, 2 longer than 32 tokens" in lines
    assert "left out 1 of 2 validation pairs: 1 empty, 0 longer than 32 tokens" in lines
    card = Card.read(out)
    codec = codec_of(zoo, "bert")
    assert card.pairs == MARKS
    assert card.training["pairs"] == {"total": 15, "empty": 1, "too_long": 2}
    assert card.training["validation_pairs"] == {"total": 2, "empty": 1, "too_long": 0}
    assert card.training["data_tokens"] == sum(len(codec.encode(p.target)) + 1 for p in PAIRS)
    score = card.scores["validation"]
    assert score["tokens"] == len(codec.encode(PAIRS[1].target)) + 1
    assert score["characters"] == len(PAIRS[1].target)
    assert score["words"] == 7
    # From Python, without a console, the same is a warning.
    run = TrainingJob(recipe(), str(data), tmp_path / "again", str(zoo / "bert"), str(held_out))
    with pytest.warns(UserWarning, match="left out"):
        train(run)


def test_the_last_pairs_are_held_out(zoo, data, tmp_path):
    out = tmp_path / "model"
    assert run_train(data, out, "--model", zoo / "bert", data__validation_share=0.2) == 0
    card = Card.read(out)
    assert card.training["pairs"]["total"] == 9
    assert card.training["validation_pairs"]["total"] == 3
    assert card.scores["validation"]["characters"] == sum(len(p.target) for p in PAIRS[-3:])


def test_the_logged_loss_is_per_target_token(zoo, tmp_path):
    # In one step from all masks, a flat network is asked for every token of a row: log V each.
    data = write_pairs(tmp_path / "pairs.jsonl", [Pair("the cat", "a dog")] * 8)
    model, out = tmp_path / "flat", tmp_path / "model"
    flat = Unmasker.from_pretrained(str(zoo / "roberta"))
    for weight in flat.model.parameters():
        if weight.ndim > 1:
            torch.nn.init.zeros_(weight)
    flat.save_pretrained(model)
    more = {"objective__num_steps": 1, "objective__cross_entropy_weight": 0}
    more |= {"training__learning_rate": 1e-12}
    assert run_train(data, out, "--model", model, **more) == 0
    rows = PairCodec(flat.codec, **MARKS, length=LENGTH).lay_out([Pair("the cat", "a dog")])
    share = float(rows.editable.sum() / rows.tokens.sum())
    assert share > 2
    nats = pytest.approx(share * math.log(len(flat.denoiser.data_ids)), rel=1e-4)
    records = metrics(out)
    assert [r["loss"] for r in records if "loss" in r] == [nats] * 3
    assert [r["eval_nats_per_token"] for r in records if "loss" not in r] == [nats] * 2


def test_words_are_counted_where_they_are_noised(zoo, data, tmp_path):
    out = tmp_path / "model"
    spindle = {"schedule__name": "spindle", "schedule__parameters": "{strength = 0.3}"}
    more = {"data__validation_share": 0, "objective__cross_entropy_weight": 0, **spindle}
    assert run_train(data, out, "--model", zoo / "roberta", **more) == 0
    counts = load_file(out / "unmask.safetensors")["unmask_schedule.counts"]
    codec = codec_of(zoo, "roberta")
    rows = PairCodec(codec, **MARKS, length=LENGTH).lay_out(PAIRS)
    assert counts.sum() == rows.editable.sum()
    assert counts[codec.end] == (rows.ids[rows.editable] == codec.end).sum()
    assert counts[codec.encode("[")[0]] == 0


def test_a_fresh_model_learns_its_tokenizer_from_both_texts(data, tmp_path):
    out = tmp_path / "model"
    fresh = {
        "model__name": "",
        "model__type": "bert",
        "model__config__hidden_size": 32,
        "model__config__num_hidden_layers": 1,
        "model__config__num_attention_heads": 4,
        "model__config__intermediate_size": 48,
        "tokenizer__vocab_size": 330,
    }
    assert run_train(data, out, **fresh) == 0
    writer = Unmasker.from_pretrained(str(out))
    for word in ("nobody", "again"):
        assert len(writer.codec.encode(word)) < len(word)
    assert writer.transform("a dog", steps=4).settings["length"] > 0


def test_a_mapping_is_learned(zoo, tmp_path):
    # The target is a word of the source, or two: both which and how many have to be read off it.
    pairs = [Pair(f"one {word}", word) for word in COPY]
    pairs += [Pair(f"two {word}", f"{word} {word}") for word in COPY]
    data = write_pairs(tmp_path / "pairs.jsonl", pairs * 4)
    out = tmp_path / "model"
    line = ["train", "diffuse", "--data", data, "--out", out, "--model", zoo / "bert"]
    learn = settings(
        data__length=14,
        data__prefix_share=0,
        data__random_length_share=0,
        data__validation_share=0,
        training__steps=150,
        training__batch_size=16,
        training__learning_rate=5e-3,
        training__log_every=150,
        training__optimizer="muon",
        training__warmup_steps=20,
    )
    assert main([str(word) for word in [*line, *sets(learn)]]) == 0
    writer = Unmasker.from_pretrained(str(out))
    sources = [pair.source for pair in pairs]
    result = writer.transform(sources, sampler="maskgit", steps=20, temperature=0)
    right = [text == pair.target for text, pair in zip(result.texts, pairs, strict=True)]
    # By chance not one would be.
    assert sum(right) >= len(right) - 2, result.texts


# Writing.


def test_the_text_of_a_target_ends_at_its_first_end_symbol(zoo):
    codec = codec_of(zoo, "roberta")
    given, target = codec.start + codec.encode("[a dog] "), codec.encode("the moon")
    end = codec.end

    def texts(written: list[int]) -> tuple[str, str]:
        sizes, given_texts = [len(written)], ["[a dog] ", ""]
        canvas = Canvas.from_rows([[*given, *[None] * len(written)]], codec.mask_token_id, 0)
        canvas = canvas.reveal(canvas.masked, torch.tensor([[*given, *written]]))
        nothing = torch.zeros_like(canvas.masked)
        zero = torch.zeros(1, dtype=torch.float64)
        frame = Frame(1, zero, canvas, nothing, nothing, torch.ones_like(canvas.ids).float(), 1)
        whole, _ = filling.fill(codec, frame, 0, sizes, given_texts)
        return filling.target(codec, frame, 0).text, whole

    assert texts([*target, *[end] * 5]) == ("the moon", "[a dog] the moon")
    assert texts([*target, end, *target, end]) == ("the moon", "[a dog] the moon")
    assert texts([end] * 4) == ("", "[a dog] ")
    assert texts(target) == ("the moon", "[a dog] the moon")


def test_every_source_gets_its_target_whatever_is_beside_it(writer):
    sources = ["the cat sat on the mat", "a dog", "nobody"]
    together = writer.transform(sources, steps=6, seed=5)
    alone = [writer.transform(source, steps=6, seed=5) for source in sources]
    assert together.texts == tuple(result.texts[0] for result in alone)
    assert len(set(together.texts)) == 3
    for source, result in zip(sources, alone, strict=True):
        given = len(writer.pairs.given([source])[0])
        assert result.settings["length"] == LENGTH - given
        shown = result.tracks[0].snapshots[-1]
        assert "".join(shown.pieces[: given - 1]) == f"[{source}] "
        assert shown.status.count("given") == given - 1
    assert 1 <= together.nfe <= 6


def test_the_candidate_that_agrees_most_is_kept(writer, monkeypatch):
    single = [writer.transform("a dog", steps=6, seed=seed).texts[0] for seed in (3, 3)]
    assert single[0] == single[1]
    asked = []

    def last(candidates, utility):
        asked.append(list(candidates))
        return len(candidates) - 1

    monkeypatch.setattr(mbr, "choose", last)
    frames = []
    options = {
        "steps": 6,
        "seed": 3,
        "candidates": 4,
        "watch": lambda frame, _: frames.append(frame),
    }
    result = writer.transform(["a dog", "nobody"], **options)
    assert [len(candidates) for candidates in asked] == [4, 4]
    assert asked[0][0] == single[0], "candidate 0 is not that of the same seed"
    assert len(set(asked[0])) > 1
    assert result.texts == (asked[0][3], asked[1][3])
    assert result.settings["candidates"] == 4
    # Of the second source the last of four rows.
    kept = recorder.snapshot(writer.codec, frames[-1], 0.0, 7)
    assert result.tracks[1].snapshots[-1].pieces == kept.pieces
    assert result.nfe == frames[-1].nfe


def test_bleu_and_the_choice():
    bleu = mbr.bleu()
    # Too short costs the brevity penalty, too long costs precision.
    assert bleu("a b c d", "a b c d e f") == pytest.approx(math.exp(1 - 6 / 4))
    precision = (4 / 6) * (3 / 5) * (2 / 4) * (1 / 3)
    assert bleu("a b c d e f", "a b c d") == pytest.approx(precision**0.25)
    # Method 4: the first precision of 0 becomes ln(words) / (2 * 5) over the number of n-grams.
    precision = (4 / 5) * (2 / 4) * (1 / 3) * (math.log(5) / (2 * 5) / 2)
    assert bleu("a b c x d", "a b c y d") == pytest.approx(precision**0.25)
    one, other = "the cat sat on the mat today", "a dog"
    for words in ([one, one, other], [other, one, one], ["cat", "cat", "dog"], ["", "cat", "cat"]):
        assert words[mbr.choose(words, bleu)] == max(words, key=words.count)
    assert mbr.choose(["", ""], bleu) == 0
    # The BLEU of a text with itself grows with its length and must not count.
    short, long = "New York", "a place that is far away"
    assert bleu(long, long) > 4 * bleu(short, short)
    assert mbr.choose([short] * 4 + [long], bleu) == 0
    assert mbr.choose([long] + [short] * 4, bleu) == 1
    assert mbr.choose([short, long], bleu) == 0, "the utility of one reference each is the same"
    assert mbr.choose([long], bleu) == 0
    # The first argument is the hypothesis, the second the reference.
    worth = {("a", "b"): 1.0, ("b", "a"): 0.0}
    assert mbr.choose(["b", "a"], lambda one, other: worth.get((one, other), 0.5)) == 1


def test_without_the_library_there_is_one_sentence(trained, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "nltk", None)
    monkeypatch.setitem(sys.modules, "nltk.translate.bleu_score", None)
    line = ["generate", "--source", "a dog", "--model", str(trained), "--steps", "2"]
    assert main([*line, "--candidates", "2"]) == 2
    assert "pip install 'unmask[metrics]'" in capsys.readouterr().err
    assert main(line) == 0


# Scoring.


class Flat:
    """A denoiser to which all tokens are equally likely."""

    def __init__(self, real) -> None:
        self.vocab_size, self.data_ids = real.vocab_size, real.data_ids

    def __call__(self, xt, t, *, at=None, valid=None):
        return torch.zeros(int(at.sum()), len(self.data_ids))


def test_the_bound_is_on_all_that_is_written_per_target_token(writer):
    pairs = [PAIRS[0], Pair("a", PAIRS[0].target), PAIRS[1]]
    rows = writer.pairs.lay_out(pairs)
    text = Text.from_pairs(rows, writer.codec)
    # Exact, for a network without an opinion: hiding k of n costs n / k times k log V.
    bound = bound_of_rows(Flat(writer.denoiser), writer.formulation.bound)
    score = score_text(text, bound, draws=2)
    ends = sum(len(writer.codec.encode(pair.target)) + 1 for pair in pairs)
    written = sum(LENGTH - len(head) for head in writer.pairs.given([p.source for p in pairs]))
    assert score.nats == pytest.approx(written * math.log(len(writer.denoiser.data_ids)))
    assert score.tokens == ends < written
    assert score.nats_per_token == pytest.approx(score.nats / ends)
    assert score.characters == sum(len(pair.target) for pair in pairs)
    assert score.words == 2 + 2 + 7
    # However long its source is, a target counts the same.
    assert text.tokens[0] == text.tokens[1]
    assert len(Text.from_pairs(rows, writer.codec, max_rows=2).rows) == 2


def test_the_command_line_from_training_to_a_score(trained, data, tmp_path, monkeypatch, capsys):
    files = {name: tmp_path / f"out.{name}" for name in ("gif", "html", "jsonl")}
    pictures = ["--gif", files["gif"], "--html", files["html"], "--frames", files["jsonl"]]
    line = ["generate", "--model", trained, "--steps", "5", "--candidates", "3", "--json"]

    def run(*words: object) -> dict:
        capsys.readouterr()
        assert main([str(word) for word in words]) == 0
        return json.loads(capsys.readouterr().out)

    facts = run(*line, "--source", "a dog", *pictures)
    assert facts["settings"]["candidates"] == 3
    assert facts["settings"]["steps"] == 5
    assert facts["settings"]["top_k"] == 15
    assert "a dog]" not in facts["text"]
    assert all(file.stat().st_size > 100 for file in files.values())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a dog\n")))
    assert run(*line, "--source", "-")["text"] == facts["text"]
    score = run(
        "evaluate", "--model", trained, "--data", data, "--json", "--report", tmp_path / "r"
    )
    (score,) = score.values()
    codec = Unmasker.from_pretrained(str(trained)).codec
    assert score["tokens"] == sum(len(codec.encode(pair.target)) + 1 for pair in PAIRS)
    assert score["characters"] == sum(len(pair.target) for pair in PAIRS)
    assert score["pairs"] == {"total": 12, "empty": 0, "too_long": 0}
    assert "given their sources" in (tmp_path / "r" / "report.md").read_text("utf-8")
    write_pairs(data, [*PAIRS, Pair("", "a")])
    assert main(["evaluate", "--model", str(trained), "--data", str(data)]) == 0
    assert "left out 1 of 13 pairs" in capsys.readouterr().err


def test_the_canvas_is_shown_live(writer):
    console = Console(file=io.StringIO(), force_terminal=True, width=60)
    result = watched(writer, partial(writer.transform, "a dog"), console, steps=3)
    assert "[a dog]" in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", console.file.getvalue())
    assert len(result.tracks[0].snapshots) == 4


# Mistakes.


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("Hello --source dog --model {trained}", "a prompt goes without a source"),
        ("--source dog --length 4 --model {trained}", "goes without a source"),
        ("--source dog --choose-length likeliest --model {trained}", "goes without a source"),
        ("--source dog --num-samples 2 --model {trained}", "goes without a source"),
        ("--candidates 3 --model {trained}", "--candidates goes with --source"),
        ("Hello --candidates 1 --model {trained}", "--candidates goes with --source"),
        ("--source dog --candidates 0 --model {trained}", "candidates must be from 1"),
        ("--source dog --candidates 9999 --model {trained}", "candidates must be from 1"),
        ("--source dog --model {bert}", "not trained on pairs"),
        ("--source= --model {trained}", "source is empty"),
        ("--source " + "dog," * 30 + " --model {trained}", "no room for a target"),
    ],
)
def test_wrong_uses_of_a_source_are_refused(zoo, trained, capsys, words, message):
    places = {"trained": trained, "bert": zoo / "bert"}
    assert main(["generate", *words.format(**places).split()]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"data__prefix_share": 0.5}, "set data.prefix_share=0"),
        ({"data__random_length_share": 0.1}, "set data.random_length_share=0"),
        ({"data__skip_empty_lines": "true"}, "set data.skip_empty_lines=false"),
        ({"data__pairs": "false"}, "goes with data.pairs = true"),
        ({"data__length": 4}, "none of the 11 pairs can be used: 0 empty, 11 longer than 4"),
    ],
)
def test_what_does_not_go_with_pairs_is_refused(zoo, data, tmp_path, capsys, changed, message):
    assert run_train(data, tmp_path / "m", "--model", zoo / "bert", **changed) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


def test_more_wrong_uses(zoo, trained, data, text_file, tmp_path, capsys):
    ar = ["train", "ar", "--data", data, "--out", tmp_path / "m", "--set", "data.pairs=true"]
    evaluate = ["evaluate", "--data", data, "--model", trained]
    out = ["--data", data, "--out", tmp_path / "m", "--model", zoo / "bert"]
    for line, message in [
        (ar, "goes with masked models"),
        ([*evaluate, "--model", zoo / "bert"], "evaluate them apart"),
        (
            [*evaluate, "--max-chars", 5],
            "--max-chars is not supported for models trained on pairs; leave",
        ),
        ([*evaluate, "--field", "body"], "leave out --field body"),
        (["evaluate", "--data", text_file, "--model", trained], "is no table"),
        (["train", "diffusionbert-conditional", *out, "--field", "body"], "leave out --field"),
    ]:
        capsys.readouterr()
        assert main([str(word) for word in line]) == 2, line
        assert message in capsys.readouterr().err


def test_a_damaged_card_is_refused(trained, tmp_path):
    content = json.loads((trained / "unmask.json").read_text("utf-8"))
    for pairs in ({"before": ""}, {"before": "", "between": 3}, "yes"):
        (tmp_path / "unmask.json").write_text(json.dumps(content | {"pairs": pairs}))
        with pytest.raises(UserError, match="is damaged"):
            Card.read(tmp_path)


# The recipe.


def test_the_recipe_has_the_published_numbers():
    paper = recipes.load("diffusionbert-conditional")
    assert paper.model.name == "roberta-base"
    assert paper.data.pairs
    assert paper.data.length == 128
    # No spindle; nothing of the recipe below is left of the schedule.
    assert paper.schedule.as_card() == {"name": "linear"}
    assert (paper.objective.num_steps, paper.objective.cross_entropy_weight) == (2000, 3e-4)
    training = paper.training
    assert (training.batch_size, training.gradient_accumulation) == (64, 4)
    assert (training.epochs, training.learning_rate, training.warmup_steps) == (200, 5e-5, 10_000)
    assert paper.sampler == {"name": "ancestral", "steps": 200, "top_k": 15}


def test_our_own_recipe_is_of_no_one_task(zoo, data, tmp_path):
    """From the command line to an answer: neutral, deterministic, in few calls."""
    out = tmp_path / "model"
    short = SHORT | {"data.length": LENGTH, "training.bf16": "off"}
    line = ["train", "pairs", "--data", data, "--out", out, "--model", zoo / "bert", *sets(short)]
    assert main([str(word) for word in line]) == 0
    writer = Unmasker.from_pretrained(str(out))
    assert writer.card.pairs == {"before": "", "between": SEPARATOR}
    codec, source = writer.codec, PAIRS[0].source
    assert writer.pairs.given([source]) == [
        [*codec.start, *codec.encode(source), codec.tokenizer.sep_token_id]
    ]
    answers = [writer.transform(source, seed=0) for _ in range(2)]
    assert answers[0].texts == answers[1].texts
    assert answers[0].settings["temperature"] == 0
    assert answers[0].nfe <= 20


def test_a_model_without_pairs_names_the_recipe(zoo):
    with pytest.raises(UserError, match=r"recipe pairs$"):
        Unmasker.from_pretrained(str(zoo / "bert")).transform("a cat")


def test_a_run_that_was_started_before_a_key_existed_goes_on(tmp_path):
    settings = ["training.steps=9", "sampler.confidence_metric=margin", "sampler.name=maskgit"]
    what = resume.describe(recipes.load("diffuse", settings), "m", "d", None)
    resume.begin(tmp_path, what, "")
    before = json.loads((tmp_path / RUN).read_text("utf-8"))
    for key in ("pairs", "before", "between"):
        del before["recipe"]["data"][key]
    training = before["recipe"]["training"]
    training["schedule"] = training.pop("lr_schedule")
    sampler = before["recipe"]["sampler"]
    sampler |= {"name": "schedule-confidence", "measure": sampler.pop("confidence_metric")}
    (tmp_path / RUN).write_text(json.dumps(before))
    (tmp_path / "checkpoint-2").mkdir()
    state = {"global_step": 2, "epoch": 0.5}
    (tmp_path / "checkpoint-2" / "trainer_state.json").write_text(json.dumps(state))
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        torch.save({}, tmp_path / "checkpoint-2" / name)
    seal(tmp_path / "checkpoint-2", 0.0)
    steps = Recipe().training.__class__(steps=9)
    assert resume.last_checkpoint(tmp_path, what, steps).folder.name == "checkpoint-2"
    what["recipe"]["data"]["pairs"] = True
    with pytest.raises(UserError, match=r"recipe.data.pairs = False, now it is True"):
        resume.last_checkpoint(tmp_path, what, steps)


def test_every_source_of_a_file_gets_its_target(trained, writer, data, tmp_path, capsys):
    out = tmp_path / "out.jsonl"
    line = ["generate", "--model", trained, "--data", data, "--field", "source", "--out", out]
    assert main([str(word) for word in [*line, "--steps", 2]]) == 0
    found = [json.loads(row) for row in out.read_text("utf-8").splitlines()]
    assert [Pair(row["source"], row["target"]) for row in found] == PAIRS
    sources = [row["source"] for row in found]
    assert [row["text"] for row in found] == list(writer.transform(sources, steps=2).texts)
    capsys.readouterr()
    assert main([str(word) for word in [*line, "--overwrite", "--length", 3]]) == 2
    assert "goes without" in capsys.readouterr().err


def test_what_was_written_for_a_source_is_told_token_by_token(writer):
    result = writer.transform(["the cat sat on the mat", "a dog"], candidates=1, steps=6, seed=5)
    assert len(result.fillings) == 2
    for text, (own,) in zip(result.texts, result.fillings, strict=True):
        assert own.text == text == "".join(own.tokens)
        assert len(own.ids) == len(own.tokens) == len(own.probabilities)
        assert all(0 < p <= 1 for p in own.probabilities)
