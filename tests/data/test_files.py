"""Files that other people made: what is read of them is what stands in them, or one sentence."""

import bz2
import gzip
import json
import lzma
import os
import random
import socket
import time
import tracemalloc
from array import array
from pathlib import Path

import pyarrow
import pytest
import torch
from pyarrow import parquet
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from conftest import story, wordpiece
from unmask.data import text_files
from unmask.data.documents import Documents, Piece, joined, pieces_of, read_documents
from unmask.data.records import RecordCodec
from unmask.data.sources import read_records
from unmask.data.text import TextCodec
from unmask.errors import UserError
from unmask.training import record_dataset, stream, tokenizer
from unmask.training.splitting import find_cut, split
from unmask.training.stream import tokenize
from unmask.training.tokenizer import train_tokenizer

AB = ["first", "second"]
LINES = b'{"text": "first"}\n{"text": "second"}\n'
MARK = b"\xef\xbb\xbf"
FILES = {
    "data.jsonl": (LINES, AB),
    "data.ndjson": (LINES, AB),
    "data.NDJSON": (LINES, AB),
    "mark.jsonl": (MARK + LINES.replace(b"\n", b"\r\n\r\n"), AB),
    "utf-16.jsonl": (LINES.decode().encode("utf-16"), AB),
    "lines.json": (LINES, AB),
    "array.json": (b'[{"text": "first"},\n {"text": "second"}]', AB),
    "array.jsonl": (b'[{"text": "first"}, {"text": "second"}]', AB),
    "one.json": (b'{\n  "text": "first"\n}\n', AB[:1]),
    "late.jsonl": (b'{"text": "first", "n": 1}\n' * 999 + b'{"text": "second", "n": "x"}', None),
    "data.csv": (b"n,text\n1,first\n2,second\n", AB),
    "DATA.CSV": (MARK + b"text\r\nfirst\r\nsecond\r\n", AB),
    "words.csv": (
        b"n,text\n1,null\n2,NA\n3,None\n4,nan\n5,12\n",
        ["null", "NA", "None", "nan", "12"],
    ),
    "lines.csv": (b'text\n"a\n""b"", c"\n', ['a\n"b", c']),
    "data.tsv": (b'n\ttext\n1\t"a ""b"""\n2\tc\n', ['a "b"', "c"]),
    "plain.tsv": (
        b'n\ttext\n1\t"Hello," he said\n2\tit is 5" wide\n',
        ['"Hello," he said', 'it is 5" wide'],
    ),
    "mark.txt": (MARK + b"first\r\nsecond\rthird\n", ["first\r\nsecond\rthird\n"]),
    "DATA.TXT": (b"first", ["first"]),
    "no-ending": (b"first", ["first"]),
    "utf-16.txt": ("é\r\n".encode("utf-16"), ["é\r\n"]),
    "big-end.txt": (b"\xfe\xff" + "é\r\n".encode("utf-16-be"), ["é\r\n"]),
    "utf-32.txt": ("é\r\n".encode("utf-32"), ["é\r\n"]),
    "data.txt.gz": (gzip.compress(b"first\r\n"), ["first\r\n"]),
    "data.txt.BZ2": (bz2.compress(b"first\n"), ["first\n"]),
    "data.jsonl.xz": (lzma.compress(MARK + LINES), AB),
    "data.csv.gz": (gzip.compress(b"text\nfirst\n"), AB[:1]),
    "data.fasta": (b">one of them\nACG\nT\n\n>two\nGG T\n", ["ACGT", "GGT"]),
    "data.FA": (b";note\n>one\r\nAC\r\nGT\r\n", ["ACGT"]),
    "data.fna.gz": (gzip.compress(b">one\nACGT"), ["ACGT"]),
}


@pytest.mark.parametrize("name", FILES)
def test_what_stands_in_a_file_is_read(tmp_path, name):
    content, documents = FILES[name]
    (tmp_path / name).write_bytes(content)
    documents = documents or ["first"] * 999 + ["second"]
    assert read_documents(str(tmp_path / name)) == documents


@pytest.mark.parametrize("name", ["data[1].jsonl", "data*.csv", "d?ta.jsonl", "[data].parquet"])
def test_a_name_is_no_pattern(tmp_path, name):
    for other, text in ((name.translate({ord(c): "" for c in "[]*"}), "wrong"), (name, "right")):
        other = other.replace("?", "a") if text == "wrong" else other
        path = tmp_path / other
        if path.suffix == ".parquet":
            parquet.write_table(pyarrow.table({"text": [text]}), path)
        else:
            line = json.dumps({"text": text}) if path.suffix == ".jsonl" else f"text\n{text}"
            path.write_text(line, encoding="utf-8")
    assert read_documents(str(tmp_path / name)) == ["right"]


def test_a_changed_table_of_the_same_age_is_read_anew(tmp_path):
    path = tmp_path / "data.jsonl"
    for text in ("first", "other"):
        path.write_text(json.dumps({"text": text}), encoding="utf-8")
        os.utime(path, (1e9, 1e9))
        assert read_documents(str(path)) == [text]


EMPTY = {
    "data.jsonl": b'{"text": "a"}\n{"text": null}\n{"text": ""}\n{"text": " "}\n{"text": "b"}\n',
    "data.csv": b'n,text\n1,a\n2,\n3,""\n4,  \n5,b\n',
    "data.fa": b">a\na\n>b\n>c\n>d\n\n>e\nb\n",
}


@pytest.mark.parametrize("name", [*EMPTY, "data.parquet"])
def test_what_is_empty_is_left_out_and_counted(tmp_path, name):
    path, notes = tmp_path / name, []
    if name in EMPTY:
        path.write_bytes(EMPTY[name])
    else:
        cells = ["a", None, "", " ", "b"]
        parquet.write_table(pyarrow.table({"n": range(5), "text": cells}), path)
    documents = Documents(str(path), note=notes.append)
    for _ in range(2):
        assert list(documents.pieces()) == [Piece("a", True), Piece("b", True)]
    kind = "records" if name == "data.fa" else "rows"
    assert notes == [f"left out 3 of 5 {kind} of {path}, which are empty"]


def test_a_folder_says_what_it_leaves_out(tmp_path):
    for name in ("b.txt", "a.TXT", "sub/c.ndjson", "x.log", "sub/y.log", "z"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        text = '{"text": "c"}' if name.endswith("json") else name
        (tmp_path / name).write_text(text, encoding="utf-8")
    notes = []
    assert read_documents(str(tmp_path), note=notes.append) == ["a.TXT", "b.txt", "c"]
    assert notes == [f"left out 3 of 6 files in {tmp_path}: .log, z"]


def test_other_endings_of_tables_and_what_is_read_as_plain_text(tmp_path):
    names = {
        "data.jsonlines": LINES,
        "data.jl": LINES,
        "data.tab": b"n\ttext\n1\tfirst\n2\tsecond\n",
    }
    for name, content in names.items():
        (tmp_path / name).write_bytes(content)
        assert read_documents(str(tmp_path / name)) == AB
    parquet.write_table(pyarrow.table({"text": AB}), tmp_path / "data.pq")
    assert read_documents(str(tmp_path / "data.pq")) == AB
    path, notes = tmp_path / "reads.fastq", []
    path.write_text("@a\nACGT\n+\nIIII\n", encoding="utf-8")
    assert read_documents(str(path), note=notes.append) == [path.read_text("utf-8")]
    assert notes == [f"{path} is read as plain text, whatever .fastq stands for"]


def test_a_folder_without_what_is_hidden(tmp_path):
    for name in ("a.txt", "._a.txt", ".git/b.txt", "sub/.cache/c.txt", "sub/d.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name, encoding="utf-8")
    (tmp_path / "again").symlink_to(tmp_path / "sub")
    notes = []
    assert read_documents(str(tmp_path), note=notes.append) == ["a.txt", "sub/d.txt"]
    assert notes == [f"left out 4 of 6 files in {tmp_path}: .txt, again"]


SENTENCES = 'id\ttext\n1\t"This is\n2\ta test."\n3\t"It is," he said\n'


@pytest.mark.parametrize("end", [3, 4])
def test_quotation_marks_over_several_rows_join_no_rows(tmp_path, end):
    lines = SENTENCES.splitlines(keepends=True)[:end]
    path = tmp_path / "data.tsv"
    path.write_text("".join(lines), encoding="utf-8")
    assert read_documents(str(path)) == [line.strip().split("\t")[1] for line in lines[1:]]
    path.write_text('id\ttext\n1\t"two\nlines"\n2\t"a ""b"""\n', encoding="utf-8")
    assert read_documents(str(path)) == ["two\nlines", 'a "b"']
    path.write_text('text\n"two\nlines"\n', encoding="utf-8")
    assert read_documents(str(path)) == ["two\nlines"]


def test_a_place_that_is_no_text_is_where_it_is(tmp_path):
    content = b"some text\n" * 100_000 + b"\xe9t\xe9"
    for name, pack in (("data.txt", bytes), ("data.txt.gz", gzip.compress)):
        (tmp_path / name).write_bytes(pack(content))
        with pytest.raises(UserError, match=r"not UTF-8 text \(byte 1000000\)"):
            read_documents(str(tmp_path / name))


def test_half_a_character_is_named_by_its_row(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text('{"text": "first"}\n{"text": "\\ud83d"}\n', encoding="utf-8")
    with pytest.raises(UserError, match=r"row 2 of .*data.jsonl holds half a character"):
        read_documents(str(path))


def test_a_value_that_python_cannot_hold_is_one_sentence(tmp_path):
    path = tmp_path / "data.parquet"
    far = pyarrow.array([2**61], pyarrow.timestamp("us"))
    parquet.write_table(pyarrow.table({"text": ["first"], "when": far}), path)
    # Of other columns nothing is asked.
    assert read_documents(str(path)) == ["first"]
    with pytest.raises(UserError, match=r"cannot read .* as parquet"):
        list(read_records(str(path)))


def test_a_record_that_is_too_long_takes_no_memory():
    class Ids(list):
        def tolist(self):
            taken.append(len(self))
            return list(self)

    taken: list[int] = []
    layout = RecordCodec(TextCodec(train_tokenizer([story(20)], 300)), 16)
    parts = [(Ids([5] * 10), False)] * 50 + [(Ids([5]), True), (Ids([6, 7]), True)]
    counts = {"total": 0, "empty": 0, "too_long": 0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record_dataset, "encoded", lambda pieces, codec: iter(parts))
        found = list(record_dataset._bodies(iter(()), layout, array("q"), counts))
    assert counts == {"total": 2, "empty": 0, "too_long": 1}
    assert [ids[:2] for ids in found] == [[6, 7]]
    assert len(taken) <= 3


@pytest.mark.parametrize("name", ["data.jsonl", "data.fa", "data.txt"])
def test_a_document_of_one_line_comes_in_pieces_all_the_same(tmp_path, name):
    letters = "".join(random.Random(0).choices("ACGT", k=2 * text_files.PIECE + 5))
    content = {"data.jsonl": json.dumps({"text": letters}), "data.fa": f">a\n{letters}\n"}
    (tmp_path / name).write_text(content.get(name, letters), encoding="utf-8")
    found = list(Documents(str(tmp_path / name)).pieces())
    assert [len(piece.text) for piece in found][:3] == [text_files.PIECE, text_files.PIECE, 5]
    assert [piece.last for piece in found] == [False] * (len(found) - 1) + [True]
    assert "".join(piece.text for piece in found) == letters


BAD = {
    "long.csv": (b"n,text\n1,Hello, world\n", "line 2 has 3 cells under 2 names"),
    "twice.csv": (b"text,text\na,b\n", "two columns have the name 'text'"),
    "open.csv": (b'text\n"a\nb\n', "unexpected end"),
    "list.jsonl": (b'{"text": "a"}\n[1]\n', "line 2 is no object"),
    "broken.jsonl": (b'{"text": "a"}\n{"text": "b\n', "line 2: "),
    "deep.jsonl": (b"[" * 100_000, "cannot read"),
    "half.txt": (b"\xff\xfea", "not UTF-16 text"),
    "packed.txt.xz": (b"no xz", "cannot read"),
    "cut.txt.gz": (gzip.compress(b"text" * 999)[:-9], "cannot read"),
    "data.pdf": (b"%PDF-1.4\n%\xe2\xe3\xcf\xd3", "not UTF-8 text"),
    "data.png": (b"PNG\0", "binary"),
    "letters.fa": (b"ACGT\n", "no FASTA file"),
    "headers.fa": (b">a\n>b\n", "holds no text"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.filterwarnings("ignore:left out")
def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path, name):
    content, says = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=says) as caught:
        read_documents(str(tmp_path / name))
    assert name in str(caught.value)


def test_what_is_no_file_is_one_sentence(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        for name in (tmp_path / "pipe", tmp_path / "socket", "/dev/zero", "/dev/null"):
            for read in (read_documents, lambda source: list(read_records(source))):
                with pytest.raises(UserError, match="not an ordinary file"):
                    read(str(name))
    for name in ("~no-such-user", "~no-such-user/data.txt", "data.NDJSON"):
        with pytest.raises(UserError, match="there is no file or folder"):
            read_documents(name)


def unigram() -> PreTrainedTokenizerFast:
    """Train the kind of tokenizer that puts a mark before the first word of whatever it gets."""
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=80, special_tokens=["<unk>", "<mask>"], unk_token="<unk>", show_progress=False
    )
    made.train_from_iterator([story(300)], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="<unk>", mask_token="<mask>", eos_token="<unk>"
    )


LONG = {
    "lines": story(300).replace(".\n", ".\n\n  \n", 40),
    "blanks": story(300).replace("\n", " ").replace("mat", "mat     "),
    "returns": story(300).replace("\n", "\r\n"),
    "letters": "".join(random.Random(0).choices("ACGT", k=20_000)),
    "no blanks": "猫は黒い。" * 3000,
}


@pytest.mark.parametrize("text", LONG)
@pytest.mark.parametrize("kind", ["bytes", "wordpiece", "unigram"])
def test_a_long_document_in_parts_has_the_tokens_of_the_whole(monkeypatch, kind, text):
    make = {
        "bytes": lambda: train_tokenizer([story(300), LONG["letters"]], 400),
        "wordpiece": lambda: wordpiece(story(300)),
        "unigram": unigram,
    }
    codec = TextCodec(make[kind]())
    documents = [LONG[text], "", "The cat.", " \n", LONG["lines"]]
    expected = [
        *codec.encode(LONG[text]),
        *(codec.end, *codec.encode("The cat."), codec.end),
        *(*codec.encode(LONG["lines"]), codec.end),
    ]
    monkeypatch.setattr(stream, "PART", 2500)
    cuts = []
    found = stream.cut_of
    monkeypatch.setattr(stream, "cut_of", lambda *given: cuts.append(found(*given)) or cuts[-1])
    pieces = [
        Piece(document[i : i + 700], i + 700 >= len(document))
        for document in documents
        for i in range(0, max(len(document), 1), 700)
    ]
    assert tokenize(pieces, codec).tolist() == expected
    assert any(cuts)


def test_empty_lines_are_skipped_whatever_the_pieces(monkeypatch):
    codec = TextCodec(train_tokenizer([story(100)], 300))
    text = story(100).replace("\n", "\r\n \r\n")
    kept = "".join(line for line in text.splitlines(keepends=True) if line.strip())
    monkeypatch.setattr(stream, "PIECE", 500)
    pieces = [Piece(text[i : i + 7], i + 7 >= len(text)) for i in range(0, len(text), 7)]
    assert tokenize(pieces, codec, skip_empty_lines=True).tolist() == [
        *codec.encode(kept),
        codec.end,
    ]


def test_the_tokens_of_a_large_file_are_not_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "PART", 10_000)
    monkeypatch.setattr(text_files, "PIECE", 10_000)
    codec = TextCodec(wordpiece(story(300)))
    peaks = []
    for size in (4, 4, 16):
        path = tmp_path / f"{size}.txt"
        path.write_text(story(1000, seed=size) * size, encoding="utf-8")
        tracemalloc.start()
        ids = tokenize(Documents(str(path)).pieces(), codec, folder=tmp_path)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(ids) > 5_000 * size
    # The first call loads what is loaded once.
    assert peaks[2] < 1.3 * peaks[1]
    # The file of the tokens has no name.
    assert {path.name for path in tmp_path.iterdir()} == {"16.txt", "4.txt"}


def split_of_old(documents: list[str], share: float) -> tuple[list[str], str]:
    """Split documents that are all at hand."""
    keep = round(sum(map(len, documents)) * (1 - share))
    learn: list[str] = []
    for index, document in enumerate(documents):
        if len(document) > keep:
            cut = document.rfind("\n", int(0.8 * keep), keep) + 1 or keep
            rest = [document[cut:], *documents[index + 1 :]]
            return ([*learn, document[:cut]] if cut else learn), joined(rest)
        keep -= len(document)
        learn.append(document)
    return learn, ""


def test_a_cut_is_the_same_in_pieces():
    numbers = random.Random(1)
    for _ in range(200):
        documents = [
            "".join(numbers.choices("ab \n", weights=(9, 9, 9, 2), k=numbers.choice((0, 1, 30))))
            for _ in range(numbers.randint(1, 5))
        ]
        share = numbers.choice((0.0, 0.05, 0.3, 0.9, 1.0))
        assert split(documents, share) == split_of_old(documents, share)
        pieces = [
            Piece(text[i : i + 7], i + 7 >= len(text))
            for text in documents
            for i in range(0, max(len(text), 1), 7)
        ]
        whole = find_cut(lambda documents=documents: pieces_of(documents), share)
        assert find_cut(lambda pieces=pieces: iter(pieces), share) == whole


def test_a_tokenizer_learns_from_a_text_without_blanks_in_little_time(monkeypatch):
    letters = "".join(random.Random(0).choices("ACGT", k=100_000))
    begun = time.perf_counter()
    made = train_tokenizer([letters], 500)
    assert time.perf_counter() - begun < 10
    assert TextCodec(made).decode(TextCodec(made).encode(letters)) == letters
    # Of ordinary text the tokens are what they were.
    bounded = train_tokenizer([story(300)], 400).get_vocab()
    monkeypatch.setattr(tokenizer, "LONGEST", 65_000)
    assert train_tokenizer([story(300)], 400).get_vocab() == bounded


def test_training_reads_a_fasta_file_record_by_record(zoo, tmp_path, capsys):
    from unmask.cli import main

    data = tmp_path / "data.fa"
    data.write_text("".join(f">r{i}\nthe cat\nsat on\n" for i in range(99)) + ">empty\n")
    line = ["train", "--model", zoo / "bert", "--data", data, "--out", tmp_path / "out"]
    sets = {"data.length": 24, "training.steps": 1, "training.batch_size": 4}
    words = [*line, *(word for key, value in sets.items() for word in ("--set", f"{key}={value}"))]
    assert main([str(word) for word in words]) == 0
    assert f"left out 1 of 100 records of {data}, which are empty" in capsys.readouterr().err
    card = json.loads(Path(tmp_path, "out", "unmask.json").read_text("utf-8"))
    expected = tokenize(pieces_of(["thecatsaton"] * 94 + ["t"]), TextCodec(wordpiece(story(300))))
    assert card["training"]["data_tokens"] == len(expected)
    assert torch.isfinite(torch.tensor(card["scores"]["validation"]["nats"]))
