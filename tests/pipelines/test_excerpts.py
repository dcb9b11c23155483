"""Blanks in texts that are longer than the model, and more texts than are written in one go."""

import re

import pytest

from conftest import POSITIONS, story
from unmask import Unmasker
from unmask.errors import UserError
from unmask.pipelines import excerpts, request
from unmask.pipelines.excerpts import cut_out, prefix, suffix


@pytest.fixture(scope="module")
def writers(zoo) -> dict[str, Unmasker]:
    return {name: Unmasker.from_pretrained(str(zoo / name)) for name in ("roberta", "bert")}


LONG = story(40, seed=3)
TEMPLATES = {
    "one": LONG + "The [MASK:4] sat." + LONG,
    "at the beginning": "[MASK:3-5] sat on the mat." + LONG,
    "at the end": LONG + "The cat sat on [MASK:2].",
    "together": LONG + "The [MASK] sat on [MASK:2-3]." + LONG,
    "apart": LONG + "The [MASK:2] sat." + LONG + "[MASK:3] went to [MASK].\n" + LONG,
    "not far apart": LONG + "The [MASK:9] sat. " + LONG[:250] + " The [MASK:9] sat." + LONG,
    "no blanks": "a" * 500 + "[MASK:2]" + "b" * 500,
}


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("model", ["roberta", "bert"])
def test_the_windows_of_a_text_fit_and_make_it_up(writers, model, name):
    codec, template = writers[model].codec, TEMPLATES[name]
    found = cut_out(codec, template, POSITIONS)

    def plain(text: str) -> str:
        return re.sub(r"\[MASK:(\d+)-\1\]", r"[MASK:\1]", text.replace("[MASK]", "[MASK:1]"))

    assert plain(found.filled(found.templates)) == plain(template)
    assert len(found.templates) == (2 if "apart" in name else 1)
    for window in found.templates:
        rows = [layout.row for layout in codec.rows(codec.template(window))]
        # Of a long text there is something to see, nearly as much as fits.
        longest = max(map(len, rows))
        assert longest <= POSITIONS
        # To a word-piece tokenizer a word without end is one unknown token.
        least = 5 if (model, name) == ("bert", "no blanks") else POSITIONS - 20
        assert longest >= (POSITIONS / 3 if name == "not far apart" else least)
    # A text that fits is one window.
    assert cut_out(codec, "The [MASK:4] sat.", POSITIONS).templates == ("The [MASK:4] sat.",)


@pytest.mark.parametrize("name", TEMPLATES)
def test_what_is_outside_of_a_window_comes_back_as_it_was(writers, name):
    writer, template = writers["roberta"], TEMPLATES[name]
    result = writer.infill([template, "The [MASK:2]."], num_samples=2, steps=2, seed=5)
    given = [re.escape(text) for text in re.split(r" ?\[MASK[^\]]*\]", template)]
    for text in result.texts[:2]:
        assert re.fullmatch(".*?".join(given), text, re.DOTALL)
    assert result.texts[0] != result.texts[1]
    assert result.texts[2:] == writer.infill("The [MASK:2].", num_samples=2, steps=2, seed=5).texts
    if "-" in "".join(re.findall(r"\[[^\]]*", template)):
        lengths = result.settings["blank_lengths"]
        assert [len(own) for own in lengths] == [template.count("[MASK")] * 2 + [1, 1]


def test_a_window_is_written_as_it_would_be_by_itself(writers):
    writer = writers["roberta"]
    (window,) = cut_out(writer.codec, TEMPLATES["one"], POSITIONS).templates
    alone = writer.infill(window, steps=3).texts[0]
    assert alone in writer.infill(TEMPLATES["one"], steps=3).texts[0]


def test_blanks_that_no_window_holds_are_refused(writers):
    with pytest.raises(UserError, match=f"{POSITIONS} positions"):
        writers["bert"].infill(LONG + f"[MASK:{POSITIONS}]" + LONG)


@pytest.mark.parametrize("text", [LONG, "a" * 999, "a b", "", " \n " * 99])
def test_parts_of_a_text_take_no_more_tokens_than_they_may(writers, text):
    for writer in writers.values():
        for count in (0, 1, 7, 50):
            for part in (prefix(writer.codec, text, count), suffix(writer.codec, text, count)):
                assert len(writer.codec.encode(part)) <= count
            assert text.startswith(prefix(writer.codec, text, count))
            assert text.endswith(suffix(writer.codec, text, count))
    if text == LONG:
        assert len(prefix(writers["bert"].codec, text, 50)) > 50


@pytest.mark.parametrize(
    "prompts",
    [["The cat", "", "A dog"], ["The [MASK:1-3] sat.", "The [MASK:2].", "[MASK:2-4] again."]],
)
@pytest.mark.parametrize("samples", [1, 3, 9])
def test_many_texts_are_those_of_one_go(writers, monkeypatch, prompts, samples):
    writer = writers["roberta"]
    options = {"num_samples": samples, "steps": 3, "seed": 2}
    options |= {} if "[" in prompts[0] else {"length": 5}
    if "[" in prompts[0]:
        options["choose_length"] = "sample"
    whole = writer.generate(prompts, **options)
    monkeypatch.setattr(request, "MAX_ROWS", 4)
    parts = writer.generate(prompts, **options)
    assert parts.texts == whole.texts
    assert len(set(whole.texts)) > samples
    assert parts.settings == whole.settings
    assert len(parts.tracks) == len(whole.tracks)


def test_more_texts_than_possible_are_refused_before_any_is_written(writers):
    for prompts, samples in ((["The"] * 1025, 1024), ("The", 10**12), ("The", 0)):
        with pytest.raises(UserError, match=r"num_samples|prompts x samples"):
            writers["bert"].generate(prompts, num_samples=samples)
    with pytest.raises(UserError, match="nothing to generate"):
        writers["bert"].generate([])
    for samples in (0, 1025):
        with pytest.raises(UserError, match=f"^num_samples must be from 1 to 1,024, not {samples}"):
            writers["bert"].stream("The", num_samples=samples)


def test_a_refusal_lists_the_options_that_are_taken(writers):
    with pytest.raises(UserError, match=r"unban, watch, window$"):
        writers["bert"].generate("The", x=1)
    with pytest.raises(UserError, match=r"unban, window$"):
        writers["bert"].stream("The", x=1)
    with pytest.raises(UserError, match="'watch' is an option of generate and not taken here"):
        writers["bert"].stream("The", watch=print)


def test_more_than_a_thousand_texts_are_written(writers):
    result = writers["bert"].generate("", length=1, num_samples=1030, steps=1)
    assert len(result.texts) == 1030
    assert result.texts[0] == writers["bert"].generate("", length=1, steps=1).texts[0]
    assert excerpts.cut_out(writers["bert"].codec, "", POSITIONS).templates == ("",)
