"""Records: one text, one row, with its end, and a length that is drawn from the data's."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from checks import generator
from conftest import POSITIONS, WORDS, wordpiece
from test_training import SHORT, sets
from unmask import Unmasker
from unmask.cli import main
from unmask.data.records import RecordCodec, quantiles
from unmask.data.text import TextCodec
from unmask.data.text_rows import Text
from unmask.errors import UserError
from unmask.training.recipe_file import load
from unmask.training.record_dataset import RecordDataset
from unmask.training.rows import Batcher

SHORTEST = [f"{who} {does}" for who in WORDS["who"] for does in WORDS["does"]]
LONGEST = [f"{text} the mat without a word today" for text in SHORTEST[:12]]
RECORDS = [*SHORTEST, *LONGEST]


def run_train(data: Path, out: Path, *more: object, **changed: object) -> int:
    changed = {key.replace("__", "."): value for key, value in changed.items()}
    settings = SHORT | {"training.bf16": "off"} | changed
    line = ["train", "records", "--data", data, "--out", out, *more, *sets(settings)]
    return main([str(word) for word in line])


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("records") / "data.jsonl"
    lines = [*RECORDS, "", "word " * 99]
    path.write_text("".join(json.dumps({"text": t}) + "\n" for t in lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trained(zoo, data) -> Path:
    out = data.parent / "model"
    validation = data.parent / "valid.txt"
    validation.write_text("the cat sat on\n\na dog\n" + "word " * 99, encoding="utf-8")
    assert run_train(data, out, "--model", zoo / "bert", "--validation", validation) == 0
    return out


@pytest.fixture(scope="module")
def writer(trained) -> Unmasker:
    return Unmasker.from_pretrained(str(trained))


def test_the_card_says_what_was_learned_from(trained, writer):
    card = json.loads((trained / "unmask.json").read_text("utf-8"))
    sizes = [len(writer.codec.encode(text)) for text in RECORDS]
    assert card["training"]["records"] == {"total": 49, "empty": 0, "too_long": 1}
    assert card["training"]["data_tokens"] == sum(sizes) + len(sizes)
    assert card["records"]["lengths"] == sorted(sizes)
    score = card["scores"]["validation"]
    assert score["tokens"] == sum(
        len(writer.codec.encode(t)) + 1 for t in ("the cat sat on", "a dog")
    )
    assert score["characters"] == len("the cat sat on" + "a dog")


def test_what_is_left_out_is_said(zoo, data, tmp_path, capsys):
    assert run_train(data, tmp_path / "out", "--model", zoo / "bert") == 0
    said = " ".join(capsys.readouterr().err.split())
    assert f"left out 1 of 50 rows of {data}, which are empty" in said
    assert "left out 1 of 3 validation records: 0 empty, 1 longer than 24 tokens" in said


def test_a_row_is_a_record_with_its_end_and_padding_is_no_token():
    codec = TextCodec(wordpiece("\n".join(RECORDS)))
    layout = RecordCodec(codec, 24)
    bodies = [[*codec.encode(text), codec.end] for text in RECORDS]
    stream = torch.tensor([i for body in bodies for i in body], dtype=torch.int32)
    lengths = torch.tensor([len(body) for body in bodies])
    items = RecordDataset(stream, lengths, layout)
    assert len(items) == len(RECORDS)
    chosen = torch.utils.data.default_collate([items[i] for i in (0, 40, 5)])
    batch = Batcher(0.0, 1, 0, 0.0, len(codec.start))(chosen, generator(0))
    longest = max(len(bodies[i]) for i in (0, 40, 5)) + 1
    assert batch.rows.shape == (3, longest)
    for row, editable, valid, i in zip(
        batch.rows, batch.editable, batch.valid, (0, 40, 5), strict=True
    ):
        assert row[valid].tolist() == [*codec.start, *bodies[i]]
        assert row[editable].tolist() == bodies[i]
        assert (row[~valid] == codec.pad_token_id).all()
    assert batch.tokens.tolist() == [len(bodies[i]) for i in (0, 40, 5)]
    # A prefix leaves at least the end.
    always = Batcher(1.0, 20, 23, 0.0, len(codec.start))(chosen, generator(0))
    assert always.tokens.tolist() == [1, 1, 1]
    assert always.rows[always.editable].tolist() == [codec.end] * 3
    # Rows laid out at once are the same.
    laid = layout.lay_out(RECORDS)
    assert laid.ids[laid.valid].tolist() == [i for body in bodies for i in (*codec.start, *body)]


def test_the_bound_of_a_record_does_not_depend_on_its_padding(writer):
    texts = [SHORTEST[0], LONGEST[0]]
    both = Text.from_records(writer.records.lay_out(texts), writer.codec)
    alone = Text.from_records(writer.records.lay_out(texts[:1]), writer.codec)
    assert both.rows.shape[1] > alone.rows.shape[1]
    first, same = (writer.pseudo_score(text).rounds[:, 0] for text in (both, alone))
    torch.testing.assert_close(first, same, rtol=1e-4, atol=1e-4)
    # What stands on padding is of no account.
    other = replace(both, rows=both.rows.masked_fill(~both.valid, 7))
    assert writer.score(other, draws=8).nats == writer.score(both, draws=8).nats


def test_lengths_are_drawn_from_those_of_the_data(writer):
    result = writer.generate("", num_samples=400, steps=1, seed=1)
    lengths = Counter(int(track.snapshots[-1].status.count("revealed")) for track in result.tracks)
    known = Counter(writer.card.records["lengths"])
    assert lengths.keys() <= known.keys()
    for length, count in known.items():
        share = count / known.total()
        error = (share * (1 - share) / 400) ** 0.5
        assert abs(lengths[length] / 400 - share) < 4.5 * error
    # The end stands where the length puts it, and what is asked for is honoured.
    assert all(track.snapshots[0].status[-1] == "given" for track in result.tracks)
    four = writer.generate("", length=4, num_samples=5, steps=2)
    assert {track.snapshots[0].status.count("masked") for track in four.tracks} == {4}
    # A sample is the same in any company.
    alone = writer.generate(["a dog", ""], num_samples=3, steps=1, seed=1).texts[3:]
    assert alone == result.texts[:3]


def test_a_prompt_counts_and_must_be_shorter_than_a_record(writer):
    used = len(writer.codec.encode("the cat"))
    result = writer.generate("the cat", num_samples=50, steps=1)
    known = {n - used for n in writer.card.records["lengths"]}
    assert {t.snapshots[0].status.count("masked") for t in result.tracks} <= known
    with pytest.raises(UserError, match="give a length"):
        writer.generate("the " * 22)
    assert writer.generate("the " * 22, length=3).texts
    assert writer.infill("the [MASK:2-3] sat on").settings["blank_lengths"][0][0] in (2, 3)
    for options in ({"stop_at_end": True}, {"window": 9}, {"length": POSITIONS}):
        with pytest.raises(UserError):
            writer.generate("", **options)


def test_score_and_evaluate_take_the_rows_of_training(trained, writer, data, tmp_path, capsys):
    text = SHORTEST[3]
    score = writer.score(text, draws=4)
    assert score.tokens == len(writer.codec.encode(text)) + 1
    assert score.characters == len(text)
    with pytest.raises(UserError, match="1 longer than 24 tokens"):
        writer.score("word " * 99)
    lines = tmp_path / "data.txt"
    lines.write_text("\n".join(RECORDS), encoding="utf-8")
    line = ["evaluate", "--model", str(trained), "--json", "--draws", "2", "--data"]
    capsys.readouterr()
    found = []
    for source in (data, lines):
        assert main([*line, str(source)]) == 0
        out, err = capsys.readouterr()
        assert ("1 longer than 24" in err) == (source == data)
        found.append(json.loads(out)[str(trained)])
    assert found[0]["records"] == {"total": 49, "empty": 0, "too_long": 1}
    assert found[0]["nats"] == found[1]["nats"]
    assert main([*line, str(data), "--window", "9"]) == 2


def test_quantiles_stand_for_all():
    lengths = torch.randint(1, 60, (5000,), generator=generator(0))
    found = torch.tensor(quantiles(lengths)).double()
    assert len(found) == 100
    assert {*found.int().tolist()} <= {*lengths.tolist()}
    assert abs(found.mean() - lengths.double().mean()) < 0.2
    assert quantiles(torch.tensor([7, 3, 3])) == [3, 3, 7]


REFUSED = {
    ("diffuse", "data.rows=record"): "did you mean 'records'",
    ("diffuse", "data.rows=records"): "random_length_share",
    ("records", "data.random_length_share=0.5"): "random_length_share",
    ("records", "data.skip_empty_lines=true"): "skip_empty_lines",
    ("pairs", "data.rows=records"): "data.pairs = false",
    ("ar", "data.rows=records"): "masked models",
}


@pytest.mark.parametrize(("recipe", "setting"), REFUSED)
def test_what_does_not_go_with_records_is_refused(recipe, setting):
    with pytest.raises(UserError, match=REFUSED[recipe, setting]):
        load(recipe, [setting])
