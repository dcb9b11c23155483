"""Symbols that stand for no text are never written unless they are asked for."""

import pytest
import torch

from unmask import Autoregressor, Unmasker
from unmask.cli import main
from unmask.data.special_tokens import symbols
from unmask.errors import UserError
from unmask.models.checkpoint import Card
from unmask.models.loading import load_tokenizer

NAMES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def eager(writer: Unmasker, *names: str) -> Unmasker:
    """Return a writer whose network prefers the tokens of some names to all others."""
    known = writer.codec.tokenizer.get_vocab()
    bias = writer.model.get_output_embeddings().bias
    with torch.no_grad():
        bias[[known[name] for name in names]] += 40.0
    return writer


@pytest.fixture
def bert(zoo) -> Unmasker:
    return Unmasker.from_pretrained(str(zoo / "bert"), backend="torch")


@pytest.fixture
def roberta(zoo) -> Unmasker:
    return Unmasker.from_pretrained(str(zoo / "roberta"), backend="torch")


def written(writer: Unmasker, prompt: str = "", **options) -> set[int]:
    *_, last = writer.stream(prompt, **({"length": 12, "num_samples": 4, "steps": 4} | options))
    return set(last.canvas.ids[last.canvas.editable].tolist())


@pytest.mark.parametrize("sampler", ["ancestral", "threshold", "gibbs", "refine", "left-to-right"])
def test_an_untouched_model_writes_no_symbol(bert, sampler):
    eager(bert, *NAMES)
    options = {"sampler": sampler, "temperature": None if sampler == "threshold" else 1.0}
    options |= {"steps": None} if sampler == "left-to-right" else {}
    assert not written(bert, **options) & set(bert.codec.symbols)
    assert not written(bert, "the [MASK:3] cat [MASK:2]", length=None, **options) & set(range(5))


def test_a_symbol_that_is_asked_for_is_written(bert):
    eager(bert, "[UNK]")
    unknown = bert.codec.tokenizer.unk_token_id
    assert written(bert, unban="[UNK]") == {unknown}
    assert unknown not in written(bert)
    settings = bert.generate("", length=2, unban=["[UNK]"]).settings
    assert settings["unban"] == ["[UNK]"]
    with pytest.raises(UserError, match="goes without its unban"):
        bert.generate("", length=2, unban="[UNK]", ban="[UNK]")
    with pytest.raises(UserError, match="'cat' goes with a symbol"):
        bert.generate("", length=2, unban="cat")
    with pytest.raises(UserError, match="a model that predicts it"):
        bert.generate("", length=2, unban="[PAD]")
    with pytest.raises(UserError, match="must be a text"):
        bert.generate("", length=2, unban=5)


def test_a_model_may_ask_for_a_symbol_in_its_card(bert):
    eager(bert, "[UNK]")
    asking = Unmasker(bert.model, bert.codec, Card(sampler={"name": "ancestral", "unban": "[UNK]"}))
    unknown = bert.codec.tokenizer.unk_token_id
    assert written(asking) == {unknown}
    assert unknown not in written(asking, ban="[UNK]")


def test_an_end_is_written_where_it_ends_the_text_of_a_model_that_was_trained_to(roberta):
    eager(roberta, "</s>")
    end = roberta.codec.end
    trained = Unmasker(roberta.model, roberta.codec, Card(training={"steps": 1}))
    assert end not in written(roberta)
    assert written(roberta, stop_at_end=True) == {end}
    assert written(trained) == {end}
    # An end before given text would end nothing.
    template = {"prompt": "The [MASK:3] sat [MASK:2]", "length": None}
    *_, last = trained.stream(**template)
    inner, after = last.canvas.before_given(), ~last.canvas.before_given()
    assert end not in last.canvas.ids[inner & last.canvas.editable]
    assert (last.canvas.ids[after] == end).all()
    assert written(trained, **template, unban="</s>") == {end}


def test_a_symbol_that_a_text_is_full_of_keeps_its_share_of_the_score(bert):
    """What is not written may stand in a text that is scored all the same."""
    before = bert.score("the ☃ sat on the mat", draws=4).nats_per_token
    eager(bert, "[UNK]")
    assert bert.codec.tokenizer.unk_token_id in bert.denoiser.data_ids
    assert bert.score("☃ ☃ ☃", draws=2).nats_per_token < 1e-3 < before


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("<unk>", True),
        ("Ġ<unk>", True),
        ("▁<pad>", True),
        ("unk>", True),
        ("[unused12]", True),
        ("<extra_id_3>", True),
        ("madeupword0001", True),
        ("<|endoftext|>", True),
        ("<null_1>", True),
        ("<s>NOTUSED", True),
        ("Ġunknown", False),
        ("unused", False),
        ("[", False),
        ("Ġs", False),
    ],
)
def test_symbols_are_known_by_their_spelling(zoo, name, found):
    tokenizer = load_tokenizer(str(zoo / "bert"))
    tokenizer.add_tokens([name])
    index = tokenizer.get_vocab()[name]
    assert (index in symbols(tokenizer)) == found


def test_what_was_added_as_special_is_a_symbol(zoo):
    tokenizer = load_tokenizer(str(zoo / "bert"))
    tokenizer.add_special_tokens({"extra_special_tokens": ["<task>"]})
    tokenizer.add_tokens(["fr_XX"], special_tokens=True)
    tokenizer.add_tokens(["snowman"])
    names = set(symbols(tokenizer).values())
    assert {*NAMES, "<task>", "fr_XX"} <= names
    assert "snowman" not in names


def test_the_model_of_the_package_writes_no_unknown_words():
    writer = Unmasker.from_pretrained(backend="torch")
    options = {"length": 60, "num_samples": 4, "steps": 12}
    assert not any("unk>" in text for text in writer.generate("The film", **options).texts)
    asked = writer.generate("The film", unban="<unk>", **options).texts
    assert any("<unk>" in text for text in asked)


def test_the_command_line_asks_for_symbols(bert, tmp_path, capsys):
    eager(bert, "[UNK]").save_pretrained(tmp_path / "model")
    line = ["generate", "--model", str(tmp_path / "model"), "--length", "3"]
    assert main([*line, "--unban", "[UNK]"]) == 0
    assert capsys.readouterr().out.split() == ["[UNK]"] * 3
    assert main(line) == 0
    assert "[UNK]" not in capsys.readouterr().out
    assert main([*line, "--unban", "nothing"]) == 2
    assert "goes with a symbol" in capsys.readouterr().err


def test_an_autoregressive_model_writes_no_symbol_either(zoo):
    writer = Autoregressor.from_pretrained(str(zoo / "gpt2"), backend="torch")
    known = writer.codec.symbols
    with torch.no_grad():
        # What the network says is the same everywhere; its head reads it off these rows.
        table = writer.model.get_output_embeddings().weight
        writer.model.base_model.ln_f.weight.zero_()
        writer.model.base_model.ln_f.bias.copy_(table[sorted(known)].mean(0))
        table[sorted(known)] *= 50
    assert len(known) > 2
    for result in (writer.generate("the", length=20, temperature=t) for t in (0.0, 1.0)):
        shown = result.tracks[0].snapshots[-1].pieces
        assert not {*shown} & {name for i, name in known.items() if i != writer.codec.end}
