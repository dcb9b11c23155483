"""What was given comes back to the byte, whatever the tokenizer, and only blanks are new."""

import json
import random
import re

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LukeTokenizer,
    PreTrainedTokenizerFast,
)

import vocabularies
from unmask.cli import main
from unmask.data.encoding import encode_before
from unmask.data.templates import Blank
from unmask.data.text import TextCodec
from unmask.errors import UserError
from unmask.evaluation.report import legend, lines, notes
from unmask.models.checkpoint import Card
from unmask.pipelines.autoregressor import Autoregressor
from unmask.pipelines.unmasker import Unmasker
from unmask.training import TrainingJob, train
from unmask.training import recipe_file as recipes
from vocabularies import SCRIPTS

MARKED = ["xlm-roberta", "albert", "deberta", "byte-fallback", "t5", "byte-level-prefix"]
"""Those that put a blank before every text."""
KINDS = [
    *("bert-cased", "bert-uncased", "byte-level", "byte-level-prefix", "xlm-roberta", "albert"),
    *("deberta", "byte-fallback", "t5", "canine", "perceiver", "esm", "word-level"),
]
# No masked language model with a vocabulary of all characters is small.
WRITING = [kind for kind in KINDS if kind != "canine"]
TEMPLATES = [
    "The  CAT [MASK:3] on [MASK].\r\n",
    "[MASK]\tCafé [MASK:2]ing, 🎉 [MASK:2]今天[MASK]。 ",
    "שלום [MASK] 👩‍👩‍👧[MASK][MASK] مرحبا\n\n",
    "สวัสดี [MASK:2]  two blanks  [MASK] ",
    " [MASK] ",
]


@pytest.fixture(scope="module")
def codecs(tmp_path_factory):
    kinds = vocabularies.every_kind(tmp_path_factory.mktemp("esm"))
    assert list(kinds) == KINDS, "a kind of tests/vocabularies.py belongs in KINDS"
    return {name: TextCodec(tokenizer) for name, tokenizer in kinds.items()}


@pytest.fixture(scope="module")
def writers(codecs):
    return {name: writer_of(codecs[name]) for name in WRITING}


def writer_of(codec: TextCodec) -> Unmasker:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BertConfig(vocab_size=len(codec.tokenizer), intermediate_size=16, **sizes)
    return Unmasker(BertForMaskedLM(config), codec, Card())


def ordinary(codec: TextCodec) -> list[int]:
    known = range(min(len(codec.tokenizer), 50_000))
    return sorted(set(known) - set(codec.tokenizer.all_special_ids))


@pytest.mark.parametrize("kind", KINDS)
def test_one_space_before_a_blank_is_that_before_any_word(codecs, kind):
    codec = codecs[kind]
    unknown = codec.tokenizer.unk_token_id
    for text in ("the cat ", "The CAT, ", "Café ", "x\n ", "x  ", "今天 ", "1 - ", "the ( "):
        (layout,) = codec.rows(codec.template(f"{text}[MASK]"))
        ahead = encode_before(codec.encode, text, unknown)
        assert layout.row == [*codec.start, *ahead, None]


class TestPieces:
    @pytest.mark.parametrize("kind", KINDS)
    def test_pieces_in_a_row_are_the_decoded_text(self, codecs, kind):
        codec = codecs[kind]
        for text in [*SCRIPTS.values(), "unbelieved ##ed #### the cat sat.", "LAGVSERT"]:
            ids = codec.encode(text)
            assert "".join(codec.pieces(ids)) == codec.decode(ids)
            assert len(codec.pieces(ids)) == len(ids)
        rng = random.Random(0)
        for _ in range(50):
            ids = rng.choices(ordinary(codec), k=20)
            assert "".join(codec.pieces(ids)) == codec.decode(ids)

    def test_a_hash_in_a_vocabulary_does_not_make_it_word_pieces(self, codecs):
        codec = codecs["byte-level"]
        assert "##" in codec.tokenizer.get_vocab()
        ids = codec.encode("the unbelieved ##ed")
        assert len(codec.pieces(ids)) > 5
        assert "".join(codec.pieces(ids)) == "the unbelieved ##ed"

    @pytest.mark.parametrize("kind", ["byte-level", "perceiver", "byte-fallback"])
    @pytest.mark.parametrize("text", [SCRIPTS["chinese"], SCRIPTS["hebrew"], SCRIPTS["emoji"]])
    def test_a_character_of_several_tokens_is_the_piece_of_its_last_one(self, codecs, kind, text):
        codec = codecs[kind]
        ids = codec.encode(text)
        pieces = codec.pieces(ids)
        assert len(ids) > len(text)
        assert "".join(pieces) == text
        # In front of the last token of a character there is nothing to see.
        assert [p for p in pieces if p] == list(text)

    @pytest.mark.parametrize("kind", ["byte-level", "perceiver"])
    def test_a_half_written_character_does_not_touch_the_others(self, codecs, kind):
        codec = codecs[kind]
        ids = codec.encode("今天天气")
        hidden = [*ids[:4], codec.mask_token_id, *ids[5:]]
        pieces = codec.pieces(hidden)
        assert pieces[:3] == ["", "", "今"]
        assert pieces[4] == ""
        assert set(pieces[3] + pieces[5]) == {"\N{REPLACEMENT CHARACTER}"}
        assert "".join(pieces[6:]) == "天气"

    def test_a_picture_has_no_place_for_a_token_without_text(self, codecs):
        from unmask.pipelines.trace import Snapshot
        from unmask.render.layout import arrange, reserved

        codec = codecs["byte-level"]
        pieces = tuple(codec.pieces(codec.encode("今天 on")))
        count = len(pieces)
        blank = Snapshot(0, 0.0, 0, ("",) * count, ("masked",) * count, (None,) * count)
        done = Snapshot(1, 0.0, 1, pieces, ("revealed",) * count, (None,) * count)
        known = reserved([blank, done])
        assert known == pieces
        cells = arrange(known, 20)
        assert [cell.width for cell in cells if cell.width] == [2, 2, 2]
        assert cells[-1].column == 5

    def test_the_pieces_of_masks_and_special_symbols(self, codecs):
        codec = codecs["bert-cased"]
        known = codec.tokenizer.get_vocab()
        ids = [known[t] for t in ("[CLS]", "the", "[MASK]", "cat", "##s", "[UNK]", "[SEP]")]
        assert codec.pieces(ids) == ["[CLS]", " the", "", " cat", "s", " [UNK]", "[SEP]"]


class TestEncoding:
    def test_ordinary_vocabulary_that_is_found_like_special_symbols(self, codecs):
        codec = codecs["esm"]
        ids = codec.encode("LAGVSERT")
        assert codec.tokenizer.convert_ids_to_tokens(ids) == list("LAGVSERT")
        assert codec.decode(ids) == "LAGVSERT"
        assert codec.encode("L A\nG V") == codec.encode("LAGV")

    def test_words_of_several_letters_without_blanks(self, tmp_path):
        from transformers import EsmTokenizer

        mers = [a + b + c for a in "ACGT" for b in "ACGT" for c in "ACGT"]
        tokens = ["<unk>", "<pad>", "<mask>", "<cls>", *mers, *"ACGTN"]
        (tmp_path / "vocab.txt").write_text("\n".join(tokens), encoding="utf-8")
        codec = TextCodec(EsmTokenizer(str(tmp_path / "vocab.txt"), eos_token=None))
        ids = codec.encode("ACGTTTGACN")
        assert len(ids) == 4
        assert codec.unknown not in ids
        assert codec.decode(ids) == "ACGTTTGACN"
        assert codec.pieces(ids) == ["ACG", "TTT", "GAC", "N"]

    @pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "canine"])
    def test_special_symbols_that_are_spelt_out_are_letters(self, codecs, kind):
        codec = codecs[kind]
        special = set(codec.tokenizer.all_special_ids) - {codec.unknown}
        for symbol in codec.tokenizer.all_special_tokens:
            for text in (symbol, f"the {symbol} cat", f"the{symbol}{symbol}LAG"):
                assert special.isdisjoint(codec.encode(text))
        ids = codec.encode(f"LAG{codec.tokenizer.mask_token}LAG")
        assert ids[:3] == codec.encode("LAG")[:3] or kind != "esm"

    @pytest.mark.parametrize("kind", ["bert-cased", "bert-uncased"])
    def test_no_blank_between_characters_that_need_none(self, codecs, kind):
        codec = codecs[kind]
        assert codec.decode(codec.encode("今天天气很好。")) == "今天天气很好。"
        assert codec.decode(codec.encode("the cat sat")) == "the cat sat"

    @pytest.mark.parametrize("kind", MARKED)
    def test_text_behind_a_blank_is_encoded_as_in_running_text(self, codecs, kind):
        codec = codecs[kind]
        for behind in (".", " on the mat.", "s at", ", dog", "。"):
            (layout,) = codec.rows(["the cat", Blank(1, 1), behind])
            running = codec.encode(f"the cat river{behind}")
            tail = layout.row[layout.row.index(None) + 1 :]
            assert tail
            assert tail == running[-len(tail) :]
            assert codec.decode(tail).strip() == behind.strip()

    @pytest.mark.parametrize("kind", [kind for kind in WRITING if kind not in MARKED])
    def test_where_a_beginning_is_not_marked_text_is_encoded_alone(self, codecs, kind):
        codec = codecs[kind]
        for behind in (".", " on the mat.", "s at", ", dog", "ing", "\n\tx", "今天"):
            (layout,) = codec.rows(["the cat", Blank(1, 1), behind])
            tail = layout.row[layout.row.index(None) + 1 :]
            assert tail == codec.encode(behind)

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("ahead", ["the cat ", "the cat  ", "the\n", "the cat \n", "  ", "\t"])
    def test_white_space_before_a_blank_has_the_tokens_that_it_has_in_running_text(
        self, codecs, kind, ahead
    ):
        codec = codecs[kind]
        (layout,) = codec.rows([ahead, Blank(1, 1), " a"])
        given = layout.row[len(codec.start) : layout.row.index(None)]
        for word in ("at", "the", "A", "."):
            running = codec.encode(ahead + word)
            assert running[: len(given)] == given or codec.unknown in running
        if kind in ("canine", "perceiver"):
            assert given == codec.encode(ahead)

    def test_what_is_banned_is_not_written_directly_after_a_word(self, writers, codecs):
        for kind in MARKED:
            known = codecs[kind].tokenizer.get_vocab()
            if "." in known:
                assert [known["."]] in codecs[kind].spellings(".")
        known = codecs["xlm-roberta"].tokenizer.get_vocab()
        either = [[known["."], known["▁cat"]]]
        result = writers["xlm-roberta"].infill("the[MASK:12]", allowed=12 * either, ban=".")
        assert "." not in result.texts[0]

    def test_tokens_of_which_two_are_a_token_are_put_together_as_well(self):
        words = [
            "[UNK]",
            "[MASK]",
            *"CNO()=cn123",
            "@",
            "@@",
            "[nH]",
            "Cl",
            ">",
            ">>",
            "/",
            "#",
            ".",
        ]
        known = {word: i for i, word in enumerate(words)}
        tokenizer = Tokenizer(models.WordLevel(known, unk_token="[UNK]"))
        parts = Regex(r"\[[^\]]+\]|Cl|@@?|>>?|.")
        tokenizer.pre_tokenizer = pre_tokenizers.Split(parts, "isolated")
        names = {"unk_token": "[UNK]", "mask_token": "[MASK]"}
        codec = TextCodec(PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names))
        for text in ("CC(=O)Nc1cc[nH]1>>CCl", "C@N@@O"):
            assert codec.decode(codec.encode(text)) == text

    def test_a_symbol_that_is_unknown_and_padding_is_counted_as_unknown(self):
        tokenizer = vocabularies.bert(cased=True)
        tokenizer.add_special_tokens({"pad_token": "[UNK]"})
        codec = TextCodec(tokenizer)
        (note,) = writer_of(codec).infill("Xylophone [MASK]", steps=1).notes
        assert "1 of 1 tokens" in note

    def test_a_tokenizer_that_does_not_know_how_to_split_special_symbols(self):
        spec = json.loads(vocabularies.byte_level().backend_tokenizer.to_str())["model"]
        entities = {"[MASK]": 0, "[UNK]": 1, "[PAD]": 2, "[MASK2]": 3}
        merges = [tuple(pair) for pair in spec["merges"]]
        codec = TextCodec(LukeTokenizer(spec["vocab"], merges, entity_vocab=entities))
        text = "The cat</s> sat <mask>."
        ids = codec.encode(text)
        assert codec.decode(ids) == text
        assert not {*ids} & {*codec.symbols}
        assert codec.beginning(text, 4) == (ids[:4], codec.decode(ids[:4]))

    def test_a_mark_of_thousands_of_digits(self, codecs):
        for mark in (f"[MASK:{'9' * 5000}]", f"[MASK:1-{'9' * 5000}]", "[MASK:٣]"):
            with pytest.raises(UserError) as raised:
                codecs["byte-level"].template(mark)
            assert len(str(raised.value)) < 200

    def test_one_symbol_for_unknown_start_and_end(self):
        tokenizer = vocabularies.byte_level()
        tokenizer.add_special_tokens(
            {"unk_token": "</s>", "bos_token": "</s>", "cls_token": "</s>", "sep_token": "</s>"}
        )
        codec = TextCodec(tokenizer)
        assert codec.unknown is None
        assert codec.decode([codec.end, *codec.encode("the cat"), codec.end]) == "the cat"
        writer = writer_of(codec)
        assert writer.generate("the cat", length=3, steps=1).texts[0].startswith("the cat")
        assert writer.score("the cat").unknown == 0

    @pytest.mark.parametrize("parts", [False, True])
    def test_added_words_that_look_like_bytes_come_back(self, parts):
        tokenizer = vocabularies.byte_level()
        if parts:
            backend = tokenizer.backend_tokenizer
            backend.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Fuse()])
        words = ["đem", "Bác", "Zürich", "New York"]
        assert tokenizer.add_tokens(words) == len(words)
        codec = TextCodec(tokenizer)
        text = "The đem sat, BácBác in Zürich: é🎉 New York."
        ids = codec.encode(text)
        assert set(tokenizer.convert_tokens_to_ids(words)) <= set(ids)
        assert codec.decode(ids) == text
        assert "".join(codec.pieces(ids)) == "".join(codec.text_pieces(ids)) == text
        assert "đem" in codec.pieces(ids)
        writer = writer_of(codec)
        assert not writer.score(text, draws=1).lossy
        result = writer.infill("The [MASK] sat.", matching="đem", steps=1)
        assert result.fillings[0][0].text == "đem"

    def test_a_word_of_the_vocabulary_that_is_added_again_stays_spelt_in_bytes(self):
        tokenizer = vocabularies.byte_level()
        word = next(token for token in tokenizer.get_vocab() if re.fullmatch("Ġ[a-z]+", token))
        tokenizer.add_tokens([word])
        codec = TextCodec(tokenizer)
        assert codec.decode([tokenizer.get_vocab()[word]]) == word.replace("Ġ", " ")

    def test_characters_with_a_token_for_the_blank(self):
        known = {c: i for i, c in enumerate(["?", "_", *" abcdehnost."])}
        tokenizer = Tokenizer(models.WordLevel(known, unk_token="?"))
        tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
        names = {"unk_token": "?", "mask_token": "_"}
        codec = TextCodec(PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names))
        ids = codec.encode("the cat  sat.")
        assert len(ids) == 13
        assert codec.decode(ids) == "the cat  sat."
        assert codec.pieces(ids) == list("the cat  sat.")


class TestFillings:
    @pytest.mark.parametrize("kind", WRITING)
    @pytest.mark.parametrize("template", TEMPLATES)
    def test_what_was_given_comes_back_to_the_byte(self, writers, kind, template):
        writer = writers[kind]
        parts = writer.codec.template(template)
        result = writer.infill(template, num_samples=2, seed=3, steps=2)
        for text, fillings in zip(result.texts, result.fillings, strict=True):
            own = iter(fillings)
            spelt = [next(own).text if isinstance(part, Blank) else part for part in parts]
            assert text == "".join(spelt)
            assert [len(f.ids) for f in fillings] == [
                part.longest for part in parts if isinstance(part, Blank)
            ]
            for filling in fillings:
                assert "".join(filling.tokens) == filling.text
                assert len(filling.tokens) == len(filling.ids) == len(filling.probabilities)
                assert all(0 < p <= 1 for p in filling.probabilities)

    @pytest.mark.parametrize("kind", WRITING)
    def test_a_prompt_comes_back_to_the_byte(self, writers, kind):
        for prompt in ("The  Cat\r\n", "Café ", "今天", "\tUN", "👩‍👩‍👧 "):
            result = writers[kind].generate(prompt, length=6, seed=1, steps=2)
            ((filling,),) = result.fillings
            assert result.texts[0] == prompt + filling.text
            assert len(filling.ids) <= 6

    @pytest.mark.parametrize(
        ("kind", "template", "allowed", "text"),
        [
            ("bert-uncased", "The CAT [MASK] it", ["sat"], "The CAT sat it"),
            ("bert-uncased", "The CAT[MASK] it", ["sat"], "The CAT sat it"),
            ("bert-uncased", "The CAT[MASK] it", ["##s"], "The CATs it"),
            ("bert-uncased", "The CAT[MASK]", ["."], "The CAT."),
            ("bert-uncased", "Cafe\r\n[MASK:2]!", ["sat", "on"], "Cafe\r\nsat on!"),
            ("bert-uncased", "it (un[MASK])", ["sat"], "it (un sat)"),
            ("bert-uncased", "it ([MASK])", ["sat"], "it (sat)"),
            ("bert-uncased", "it '[MASK]'", ["sat"], "it 'sat'"),
            ("bert-uncased", "the cat'[MASK]", ["sat"], "the cat' sat"),
            ("bert-uncased", "un-[MASK:2]", ["believ", "##ed"], "un-believed"),
            ("bert-uncased", "The CAT,[MASK]", ["sat"], "The CAT, sat"),
            ("xlm-roberta", "([MASK])", ["▁sat"], "( sat)"),
            ("bert-uncased", "[MASK][MASK] cat", ["un", "##ed"], "uned cat"),
            ("xlm-roberta", "The CAT [MASK].", ["▁sat"], "The CAT sat."),
            ("xlm-roberta", "The CAT[MASK].", ["▁sat"], "The CAT sat."),
            ("xlm-roberta", "The CAT[MASK].", ["s"], "The CATs."),
            ("xlm-roberta", "[MASK:2] CAT", ["▁the", "▁dog"], "the dog CAT"),
            ("byte-level", "The CAT [MASK].", ["Ġsat"], "The CAT sat."),
            ("byte-level", "x\n[MASK].", ["Ġsat"], "x\n sat."),
            ("byte-level", "x   [MASK].", ["Ġsat"], "x   sat."),
            ("esm", "LAG[MASK:2]VS", ["E", "R"], "LAGERVS"),
            ("word-level", "the cat [MASK], ok", ["sat"], "the cat sat, ok"),
        ],
    )
    def test_blanks_at_the_edges_of_a_filling(self, writers, kind, template, allowed, text):
        writer = writers[kind]
        known = writer.codec.tokenizer.get_vocab()
        wanted = [[known[token]] for token in allowed]
        assert writer.infill(template, allowed=wanted).texts == (text,)

    def test_nothing_counts_behind_an_end_symbol(self, writers):
        writer = writers["bert-uncased"]
        known = writer.codec.tokenizer.get_vocab()
        wanted = [[known[t]] for t in ("sat", "[SEP]", "on", "[SEP]")]
        result = writer.generate("The CAT ", length=4, allowed=wanted, unban="[SEP]")
        assert result.texts == ("The CAT sat",)
        assert result.fillings[0][0].ids == (known["sat"],)

    def test_fillings_are_facts_for_json(self, writers):
        result = writers["bert-uncased"].infill("The [MASK:2] sat", steps=2)
        (facts,) = result.as_dict()["fillings"][0]
        assert facts["text"] == result.fillings[0][0].text
        assert set(facts) == {"text", "tokens", "ids", "probabilities"}

    @pytest.mark.parametrize("kind", ["t5", "word-level"])
    def test_a_tokenizer_without_start_or_end_symbol(self, writers, kind):
        writer = writers[kind]
        assert writer.codec.start == []
        assert len(writer.generate("", length=3, steps=2).fillings[0][0].ids) <= 3
        assert writer.score("the cat sat on the mat", draws=2).nats > 0

    def test_a_prompt_of_an_autoregressive_model(self, codecs):
        torch.manual_seed(0)
        for kind in ("bert-uncased", "xlm-roberta", "byte-level"):
            codec = codecs[kind]
            sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 64}
            model = GPT2LMHeadModel(GPT2Config(vocab_size=len(codec.tokenizer), **sizes))
            writer = Autoregressor(model, codec, Card(kind="causal"))
            for prompt in ("The  Cat\r\n", "Café ", "今天"):
                text = writer.generate(prompt, length=4).texts[0]
                assert text.startswith(prompt)
                assert not text.startswith(prompt + " ") or not prompt.endswith(" ")

    def test_proteins_match_expressions(self, writers):
        writer = writers["esm"]
        pattern = "[ACDEFGHIKLMNPQRSTVWY]{8}"
        result = writer.infill("LAGV[MASK:8]SERT", matching=pattern, steps=3)
        assert re.fullmatch(f"LAGV{pattern}SERT", result.texts[0])
        result = writer.generate("", length=3, matching="L[AG]V", steps=1)
        assert re.fullmatch("L[AG]V", result.texts[0])

    def test_chinese_matches_expressions(self, writers):
        result = writers["bert-cased"].infill("今天[MASK:3]。", matching="[今天气很好]{3}")
        assert re.fullmatch("今天[今天气很好]{3}。", result.texts[0])


class TestTop:
    @pytest.mark.parametrize("kind", WRITING)
    def test_the_probabilities_are_those_of_the_plain_model(self, writers, kind):
        writer = writers[kind]
        codec = writer.codec
        calls = []
        handle = writer.model.register_forward_hook(lambda *_: calls.append(1))
        found = writer.top("the [MASK] sat on [MASK:2].", 4)
        handle.remove()
        assert len(calls) == 1
        assert [len(row) for row in found] == [4, 4, 4]
        (layout,) = codec.rows(codec.template("the [MASK] sat on [MASK:2]."))
        ids = [codec.mask_token_id if i is None else i for i in layout.row]
        with torch.no_grad():
            logits = writer.model(torch.tensor([ids])).logits[0].double()
        # Symbols that no text holds have no probability.
        outside = sorted(set(range(logits.shape[1])) - set(writer.denoiser.data_ids.tolist()))
        logits[:, outside] = float("-inf")
        probs = logits.softmax(1)
        places = [i for i, token in enumerate(layout.row) if token is None]
        special = set(codec.symbols)
        for place, row in zip(places, found, strict=True):
            order = [i for i in probs[place].argsort(descending=True).tolist() if i not in special]
            assert [c.id for c in row] == order[:4]
            for candidate in row:
                assert candidate.probability == pytest.approx(probs[place, candidate.id].item())
                assert candidate.token == codec.tokenizer.convert_ids_to_tokens(candidate.id)

    def test_a_word_that_means_unknown_is_none_of_the_likeliest(self):
        # WikiText writes it for every rare word, so that a model has learned it as one.
        for row in Unmasker.from_pretrained().top("The film was directed by [MASK:2] .", 20):
            assert len(row) == 20
            assert not any("unk" in candidate.text for candidate in row)

    def test_what_has_no_likeliest_tokens_is_refused(self, writers):
        writer = writers["bert-cased"]
        for template, k, says in [
            ("no blank", 3, "there is no blank"),
            ("a [MASK:1-3]", 3, "one length"),
            ("a [MASK]", 0, "from 1 to"),
            ("a [MASK]", 10**9, "from 1 to"),
            ("a [MASK:600]", 3, "positions"),
        ]:
            with pytest.raises(UserError, match=says):
                writer.top(template, k)

    def test_on_the_command_line(self, writers, tmp_path, capsys):
        model = tmp_path / "model"
        writers["bert-cased"].save_pretrained(model)
        line = ["infill", "the [MASK] Xy sat [MASK].", "--model", str(model), "--top", "3"]
        assert main([*line, "--json"]) == 0
        out, err = capsys.readouterr()
        rows = json.loads(out)["top"]
        assert [len(row) for row in rows] == [3, 3]
        assert "unknown" in err
        assert main(line) == 0
        out = capsys.readouterr().out
        assert all(f"{c['probability']:.4f}  {c['text']!r}" in out for row in rows for c in row)
        for option in (["--steps", "3"], ["--temperature", "1"], ["--num-samples", "1"]):
            assert main([*line, *option]) == 2
            assert f"{option[0]} has no effect" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["t5", "word-level", "esm"])
def test_training_without_start_end_or_padding(writers, tmp_path, kind):
    writer = writers[kind]
    writer.save_pretrained(tmp_path / "model")
    text = "LAGVSERT" * 60 if kind == "esm" else "the cat sat on the mat " * 60
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    settings = ["training.steps=1", "data.length=16", "training.batch_size=2"]
    recipe, said = recipes.load("diffuse", settings), []
    run = TrainingJob(recipe, str(tmp_path / "text.txt"), tmp_path / "out", str(tmp_path / "model"))
    train(run, report=said.append)
    assert not any("unknown" in line for line in said)
    again = Unmasker.from_pretrained(str(tmp_path / "out"))
    assert again.generate("", length=4, steps=2).fillings[0][0].ids


def test_the_number_of_a_perplexity_is_short(writers):
    score = writers["esm"].score("LAGV" * 30, draws=2)
    assert score.word_perplexity > 1e30
    assert max(len(word) for line in lines(score) for word in line.split()) < 20


class TestUnknown:
    def test_text_that_is_unknown_is_told_with_an_example(self, writers):
        writer = writers["esm"]
        (note,) = writer.generate("lagvsert", length=2, steps=1).notes
        assert "1 of 1 tokens" in note
        assert "'lagvsert'" in note
        assert writer.generate("LAGVSERT", length=2, steps=1).notes == ()
        (note,) = writer.infill("LAGV[MASK]x", steps=1).notes
        assert "1 of 5 tokens" in note
        assert "(20%)" in note

    def test_a_long_word_is_named_by_its_first_unknown_letter(self, writers):
        (note,) = writers["xlm-roberta"].infill(f"{'a' * 40}🎉{'a' * 9}[MASK]", steps=1).notes
        assert "'🎉'" in note

    @pytest.mark.parametrize(("share", "told"), [(0.005, False), (0.02, True)])
    def test_from_one_per_cent_on(self, writers, share, told):
        writer = writers["bert-cased"]
        words = ["Xylophone", *["the"] * (round(1 / share) - 1)]
        score = writer.pseudo_score(" ".join(words))
        assert score.unknown == 1
        assert any("Xylophone" in line for line in notes(score)) == told
        assert ("notes" in score.as_dict()) == told
        assert ("bert: 1 of" in legend({"bert": score})) == told

    def test_training_says_it(self, writers, tmp_path):
        writers["bert-cased"].save_pretrained(tmp_path / "model")
        (tmp_path / "text.txt").write_text("the cat sat on Xylophone " * 200, encoding="utf-8")
        said = []
        settings = ["training.steps=1", "data.length=16", "training.batch_size=2"]
        recipe = recipes.load("diffuse", settings)
        data, model = str(tmp_path / "text.txt"), str(tmp_path / "model")
        run = TrainingJob(recipe, data, tmp_path / "out", model)
        train(run, report=said.append)
        assert any("(20%)" in line and "Xylophone" in line for line in said)
