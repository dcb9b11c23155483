"""Guidance, classifiers and expressions as a user asks for them: what comes out, what is not."""

import json
import re
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    PreTrainedTokenizerFast,
)

from checks import assert_law
from conftest import BODY, SHARP, story
from laws import CHAINS
from test_bad_input import refused  # noqa: F401
from test_cli import unmask  # noqa: F401
from unmask import Unmasker
from unmask.data.text import TextCodec
from unmask.data.token_text import token_texts
from unmask.diffusion.formulation import UniformFormulation
from unmask.diffusion.processes.uniform import UniformProcess
from unmask.diffusion.schedules.continuous import Polynomial
from unmask.errors import UserError
from unmask.models.checkpoint import Card
from unmask.models.ordered_attention import attach
from unmask.sampling.samplers.registry import SAMPLERS

FEW_STEPS = {name: {"steps": 30 if name in CHAINS else 5} for name in SAMPLERS}
FEW_STEPS["threshold"] = {"threshold": 0.2}
FEW_STEPS["threshold-edit"] = {"edit_threshold": 0.3}
EXPRESSIONS = ["[a-z]+( [a-z]+)*", "(the|a) (cat|dog|mat|moon)", "[a-z ]{2,9}", "(.e)+.*", ".*"]


def sentencepiece() -> PreTrainedTokenizerFast:
    """Make a unigram tokenizer that spells rare characters in bytes, as SentencePiece has it."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*parts, decoders.Strip(" ", 1, 0)])
    special = ["<s>", "</s>", "<pad>", "<unk>", "<mask>", *(f"<0x{i:02X}>" for i in range(256))]
    trainer = trainers.UnigramTrainer(
        vocab_size=600, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator([story(300)], trainer)
    state = json.loads(tokenizer.to_str())
    state["model"]["byte_fallback"] = True
    state["added_tokens"] = state["added_tokens"][:5]
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)),
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
    )


@pytest.fixture(scope="module")
def writers(zoo, tmp_path_factory) -> dict[str, Unmasker]:
    """A word-piece, a byte-level and a SentencePiece model."""
    folder = tmp_path_factory.mktemp("pieces")
    tokenizer = sentencepiece()
    torch.manual_seed(0)
    ids = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    BertForMaskedLM(BertConfig(**BODY, **ids, **SHARP)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    names = {"bert": zoo / "bert", "roberta": zoo / "roberta", "sentencepiece": folder}
    return {name: Unmasker.from_pretrained(str(path)) for name, path in names.items()}


# --- the text of tokens ---


@pytest.mark.parametrize("name", ["bert", "roberta", "sentencepiece"])
def test_a_text_is_the_texts_of_its_tokens(writers, name):
    codec = writers[name].codec
    texts = token_texts(codec)
    for text in ("and the cat sat on the mat.", "a dog, nobody: slept!"):
        ids = codec.encode("a") + codec.encode(text)
        if all(i in texts for i in ids):
            lead = codec.decode(codec.encode("a"))
            assert codec.decode(ids) == lead + "".join(texts[i] for i in ids[1:])
    assert len(texts) > 80
    assert not any("\N{REPLACEMENT CHARACTER}" in text for text in texts.values())


def test_a_tokenizer_whose_tokens_depend_on_their_neighbours_is_refused(zoo):
    class Shouting(TextCodec):
        def decode_plainly(self, ids):
            text = super().decode_plainly(ids)
            return text.upper() if len(ids) > 4 else text

    codec = Shouting(AutoTokenizer.from_pretrained(zoo / "roberta"))
    with pytest.raises(UserError, match="depends on their neighbours"):
        token_texts(codec)


# --- expressions ---


@pytest.mark.parametrize("sampler", FEW_STEPS)
@pytest.mark.parametrize("name", ["bert", "roberta", "sentencepiece"])
def test_what_is_written_matches_for_every_sampler_and_seed(writers, name, sampler):
    writer, options = writers[name], {"sampler": sampler} | FEW_STEPS[sampler]
    for pattern in EXPRESSIONS:
        result = writer.infill(
            "the [MASK:3-7] mat.", matching=pattern, num_samples=4, seed=len(pattern), **options
        )
        for text in result.texts:
            assert re.fullmatch(rf"the ?(?:{pattern}) ?mat\.", text), (pattern, text)
        assert result.settings["matching"] == [pattern]


@pytest.mark.parametrize("name", ["bert", "roberta", "sentencepiece"])
def test_a_continuation_matches_up_to_its_end(writers, name):
    pattern = "[a-z]+( [a-z]+){2,4}"
    result = writers[name].generate("the cat", length=20, matching=pattern, num_samples=8, steps=5)
    for text in result.texts:
        assert re.fullmatch(rf"the cat ?(?:{pattern})", text), text
    assert len(set(result.texts)) > 4


@pytest.mark.parametrize("seed", range(3))
def test_each_blank_has_an_expression_of_its_own(writers, seed):
    result = writers["roberta"].infill(
        "The [MASK:2] sat on [MASK:4] and [MASK] .",
        matching=["[a-f]+", "[m-z ]+", " ?[^ ]*"],
        seed=seed,
        sampler="maskgit",
    )
    match = re.fullmatch(r"The ?[a-f]+ sat on ?[m-z ]+ and ?[^ ]* \.", result.texts[0])
    assert match, result.texts


def test_filters_and_temperature_go_with_an_expression(writers):
    for options in ({"top_k": 1}, {"top_p": 0.1}, {"temperature": 0}, {"temperature": 3.0}):
        result = writers["bert"].infill("the [MASK:5] mat.", matching="(c|b)at.*", **options)
        assert re.fullmatch(r"the ?(c|b)at.* ?mat\.", result.texts[0])


def test_lengths_that_cannot_match_are_left_out(writers):
    writer = writers["roberta"]
    spelled = len(writer.codec.encode(" the cat"))
    options = {"matching": "the cat", "sampler": "refine", "steps": 2, "num_samples": 30}
    result = writer.infill("A [MASK:1-12].", **options)
    assert set(result.texts) <= {"A the cat.", "Athe cat."}
    *_, last = writer.stream("A [MASK:1-12].", **options)
    lengths = last.canvas.editable.sum(1)
    assert len(lengths.unique()) > 1
    assert int(lengths.min()) >= spelled - 1
    assert result.settings["blank_lengths"] == lengths[:, None].tolist()


def test_a_sample_does_not_depend_on_its_batch(writers):
    writer, options = writers["roberta"], {"matching": "[a-z ]+", "steps": 5, "seed": 3}
    prompts = ["The cat", "[MASK:5] on the mat", "A [MASK:2-4] dog"]
    together = writer.generate(prompts, num_samples=2, **options).texts
    alone = [writer.generate(p, num_samples=2, **options).texts for p in prompts]
    assert list(together) == [text for texts in alone for text in texts]


def test_an_expression_that_everything_matches_leaves_the_law_of_the_model(writers):
    """But for tokens without a text of their own, the parts of characters."""
    writer, count = writers["roberta"], 1000
    texts = torch.tensor(sorted(token_texts(writer.codec)))
    *_, last = writer.stream(
        "The cat [MASK] the mat", num_samples=count, steps=1, seed=1, matching=r"[\s\S]*"
    )
    blank = last.canvas.editable[:1]
    ids = last.canvas.ids[:1].masked_fill(blank, writer.codec.mask_token_id)
    with torch.no_grad():
        prediction = writer.denoiser(ids, torch.ones(1), at=blank)[0].softmax(0)
    law = torch.zeros_like(prediction).index_copy(0, texts, prediction[texts])
    assert law.sum() < 0.999
    law /= law.sum()
    drawn = torch.bincount(last.canvas.ids[last.canvas.editable], minlength=len(law))
    often = law * count >= 5
    pooled = [torch.cat([x[often], x[~often].sum()[None]]) for x in (drawn, law.double())]
    assert often.sum() > 10
    assert_law(*pooled)


def test_a_model_without_masks_matches_too(writers):
    writer = Unmasker(writers["roberta"].model, writers["roberta"].codec, writers["roberta"].card)
    process = UniformProcess(Polynomial(), writer.denoiser.data_ids)
    writer.formulation = UniformFormulation(process, 8)
    result = writer.generate("The", length=8, steps=6, matching="[a-z ]+", num_samples=10)
    assert all(re.fullmatch("The[a-z ]+", text) for text in result.texts)
    with pytest.raises(UserError, match="guidance_scale is not supported for uniform-noise models"):
        writer.generate("The", length=8, guidance_scale=2.0)


def test_allowed_ids_of_each_token(writers):
    writer = writers["roberta"]
    cat, dog = (writer.codec.encode(word)[0] for word in (" cat", " a"))
    for seed in range(5):
        *_, last = writer.stream("The [MASK:3].", allowed=[{cat, dog}, None, [dog]], seed=seed)
        ids = last.canvas.ids[0, last.canvas.editable[0]].tolist()
        assert ids[0] in (cat, dog)
        assert ids[2] == dog
    with pytest.raises(UserError, match="2 entries, but 3 to 3"):
        writer.infill("The [MASK:3].", allowed=[None, None])
    with pytest.raises(UserError, match="allowed at place 1"):
        writer.infill("The [MASK:3].", allowed=[None, [writer.codec.mask_token_id], None])
    with pytest.raises(UserError, match="3 tokens of the allowed ones"):
        writer.infill("The [MASK:3].", allowed=[None, [dog], None], matching="[x-z]+")


# --- guidance ---


def test_a_scale_of_one_is_the_same_text_for_the_same_calls(writers):
    writer = writers["roberta"]
    plain = writer.generate("The cat", length=20, steps=6)
    same = writer.generate("The cat", length=20, steps=6, guidance_scale=1.0)
    assert (plain.texts, plain.nfe) == (same.texts, same.nfe)
    assert "guidance_scale" not in same.settings
    more = writer.generate("The cat", length=20, steps=6, guidance_scale=3.0)
    assert more.texts != plain.texts
    assert more.nfe == 2 * plain.nfe
    assert more.settings["guidance_scale"] == 3.0


def test_without_the_prompt_every_prompt_of_a_length_writes_the_same(writers):
    writer = writers["roberta"]
    prompts = ["The cat", "A dog"]
    assert len({len(writer.codec.encode(p)) for p in prompts}) == 1
    texts = writer.generate(prompts, length=12, steps=4, guidance_scale=0.0).texts
    assert texts[0].removeprefix(prompts[0]) == texts[1].removeprefix(prompts[1])
    guided = writer.generate(prompts, length=12, steps=4, guidance_scale=1.0).texts
    assert guided[0].removeprefix(prompts[0]) != guided[1].removeprefix(prompts[1])


# --- a classifier ---


@pytest.fixture(scope="module")
def judge(zoo, tmp_path_factory) -> Path:
    """A classifier that was trained on half-hidden sentences: is there a cat or a dog in it?"""
    folder = tmp_path_factory.mktemp("judge")
    tokenizer = AutoTokenizer.from_pretrained(zoo / "bert")
    config = AutoConfig.from_pretrained(zoo / "bert")
    config.id2label, config.label2id = {0: "cat", 1: "dog"}, {"cat": 0, "dog": 1}
    config.initializer_range = 0.02
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    sentences = [line for line in story(600, seed=3).splitlines() if "cat" in line or "dog" in line]
    batch = tokenizer(sentences, padding=True, return_tensors="pt")
    labels = torch.tensor([int("dog" in line) for line in sentences])
    body = batch["attention_mask"].bool() & (batch["input_ids"] > tokenizer.mask_token_id)
    for step in range(40):
        torch.manual_seed(step)
        rate = torch.rand(len(sentences), 1)
        ids = batch["input_ids"].masked_fill(
            (torch.rand(body.shape) < rate) & body, tokenizer.mask_token_id
        )
        model(ids, attention_mask=batch["attention_mask"], labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("form", [{}, {"classifier_top_k": 100}])
def test_a_classifier_finds_its_label_more_often(writers, judge, form):
    writer = writers["bert"]
    options = {"length": 8, "steps": 8, "num_samples": 60, "classifier": str(judge)}
    shares = []
    for label in ("cat", "dog"):
        result = writer.generate("", label=label, classifier_scale=10.0, **form, **options)
        words = [("cat" in text, "dog" in text) for text in result.texts]
        shares.append(sum(cat - dog for cat, dog in words))
    assert shares[0] > shares[1], shares
    assert result.settings["label"] == "dog"
    plain = writer.generate("", length=8, steps=8, num_samples=60)
    assert result.nfe == 2 * plain.nfe
    none = writer.generate("", label=0, classifier_scale=0.0, **options)
    assert none.texts == plain.texts


def test_what_is_banned_is_no_candidate_of_a_classifier(writers, judge):
    writer, ban = writers["bert"], ["the", "cat", "dog", "sat", "a"]
    options = {"length": 8, "steps": 8, "num_samples": 8, "classifier": str(judge), "label": "cat"}
    for count in (1, 2):
        texts = writer.generate("on", ban=ban, classifier_top_k=count, **options).texts
        assert not any(word in ban for text in texts for word in text.split())
        # The penalty is a matter of degree: it acts once, on the guided guess.
        assert writer.generate("on", repetition_penalty=2, classifier_top_k=count, **options).texts


def test_a_classifier_an_expression_and_a_prompt_together(writers, judge):
    result = writers["bert"].generate(
        "the",
        length=6,
        classifier=str(judge),
        label="cat",
        guidance_scale=1.5,
        matching="[a-z ]+",
        steps=4,
    )
    assert re.fullmatch("the[a-z ]+", result.texts[0])
    assert result.nfe % 3 == 0


# --- with the other options ---


def test_a_text_that_matches_can_stop_at_its_end(writers):
    writer, pattern = writers["roberta"], "[a-z ]+"
    options = {"length": 30, "steps": 10, "matching": pattern, "num_samples": 12}
    *_, last = writer.stream("The cat", stop_at_end=True, **options)
    result = writer.generate("The cat", stop_at_end=True, **options)
    for text in result.texts:
        assert re.fullmatch(f"The cat(?:{pattern})", text), text
    assert last.canvas.valid.sum(1).min() < last.canvas.valid.shape[1]


def test_what_is_banned_is_not_written_in_a_match_either(writers):
    writer = writers["roberta"]
    options = {"matching": " (cat|dog)( (cat|dog))*", "num_samples": 20, "steps": 3}
    plain = writer.generate("The", length=4, **options)
    assert any("cat" in text for text in plain.texts)
    banned = writer.generate("The", length=4, ban=[" cat"], **options)
    spelled = set(writer.codec.encode(" cat"))
    *_, last = writer.stream("The", length=4, ban=[" cat"], **options)
    if len(spelled) == 1:
        assert not torch.isin(last.canvas.ids, torch.tensor(list(spelled))).any()
    # One blank before the text does not count.
    assert all(re.fullmatch("The ?( (cat|dog))+", text) for text in banned.texts)


def test_a_long_text_is_guided_by_what_stands_before_each_stretch(writers):
    writer = writers["roberta"]
    options = {"length": 40, "window": 16, "stride": 8, "steps": 4}
    plain = writer.generate("The cat", **options)
    guided = writer.generate("The cat", guidance_scale=3.0, **options)
    assert guided.texts != plain.texts
    assert guided.nfe == 2 * plain.nfe
    both = writer.generate(["A dog", "The cat"], guidance_scale=3.0, **options)
    assert both.texts[1] == guided.texts[0]
    for wish in ({"matching": "[a-z ]+"}, {"allowed": [None] * 40}):
        with pytest.raises(UserError, match="longer than the window"):
            writer.generate("The cat", **wish, **options)


@pytest.mark.parametrize("wish", [{"guidance_scale": 2.0}, {"matching": "[a-z ]+"}])
def test_a_cache_changes_nothing_that_is_steered(zoo, wish):
    """Of a model that writes in any order, with rows that end at different times."""
    texts = []
    for cache in ("exact", "off"):
        model = AutoModelForMaskedLM.from_pretrained(zoo / "roberta").double()
        attach(model)
        codec = TextCodec(AutoTokenizer.from_pretrained(zoo / "roberta"))
        writer = Unmasker(model, codec, Card(attention="any-order"), cache=cache)
        options = {"length": 20, "steps": 9, "seed": 1, "stop_at_end": True} | wish
        together = writer.generate(["The cat", "A dog sat"], num_samples=4, **options).texts
        assert together[:4] == writer.generate("The cat", num_samples=4, **options).texts
        texts.append(together)
    assert texts[0] == texts[1]


# --- the command line ---


def test_the_options_of_the_command_line(unmask, zoo, judge):  # noqa: F811
    bert = ("--model", zoo / "bert", "--seed", 2)
    out = unmask("generate", "the cat", *bert, "--length", 9, "--match", "[a-z ]+")
    assert re.fullmatch("the cat[a-z ]+\n", out)
    blanks = ("the [MASK:2] sat [MASK:3].", *bert)
    out = unmask("infill", *blanks, "--match", "[a-m]+", "--match", "[n-z]+")
    assert re.fullmatch(r"the ?[a-m]+ sat ?[n-z]+ ?\.\n", out)
    line = ("generate", "the cat", *bert, "--length", 8, "--json", "--steps", 4)
    facts = json.loads(
        unmask(
            *(*line, "--guidance-scale", 2, "--classifier", judge, "--label", "dog"),
            *("--classifier-scale", 0.5, "--classifier-top-k", 3),
        )
    )
    assert (
        facts["settings"]
        | {
            "guidance_scale": 2.0,
            "classifier": str(judge),
            "label": "dog",
            "classifier_scale": 0.5,
            "classifier_top_k": 3,
        }
        == facts["settings"]
    )
    assert "matching" not in facts["settings"]


GENERATE = "generate the --model {bert} --length 5 "
MISTAKES = [
    (GENERATE + "--guidance-scale -1", "guidance-scale"),
    (GENERATE + "--guidance-scale nan", "guidance-scale"),
    ("generate --model {bert} --guidance-scale 2", "give a prompt"),
    ("infill [MASK:3] --model {bert} --guidance-scale 2", "give a prompt"),
    (GENERATE + "--label cat", "give a classifier"),
    (GENERATE + "--classifier-scale 2", "give a classifier"),
    (GENERATE + "--classifier-top-k 2", "give a classifier"),
    (GENERATE + "--classifier {judge}", "give the label"),
    (GENERATE + "--classifier {judge} --label bird", "choose one of cat, dog"),
    (GENERATE + "--classifier {judge} --label cat --classifier-scale -2", "classifier-scale"),
    (GENERATE + "--classifier {judge} --label cat --classifier-top-k 0", "classifier-top-k"),
    (GENERATE + "--classifier {judge} --label cat --classifier-top-k 3 --match .*", "leave it out"),
    (GENERATE + "--classifier {bert} --label cat", "no trained classifier"),
    (GENERATE + "--classifier ./nothing --label cat", "no model folder"),
    ("generate the --model {zoo}/roberta --classifier {judge} --label cat", "another vocabulary"),
    (GENERATE + "--match=", "only an empty text"),
    (GENERATE + "--match [a-", "position 0"),
    (GENERATE + "--match a(?=b)c", "position 1"),
    (GENERATE + "--match [a-z]{{400}}", "no text of 5 tokens"),
    (GENERATE + "--match \u0416", "no text of this model's tokens"),
    ("infill a[MASK:1-3]b --model {bert} --match (dog){{30}}", "no text of 1 to 3 tokens"),
    (GENERATE + "--match a* --window 4", "longer than the window"),
    (GENERATE + "--match a --match b", "differ in number, 2 and 1"),
]


@pytest.mark.parametrize(("line", "says"), MISTAKES, ids=[line for line, _ in MISTAKES])
def test_a_mistake_is_one_sentence(refused, zoo, judge, line, says):  # noqa: F811
    place = {"zoo": zoo, "bert": zoo / "bert", "judge": judge}
    assert says in refused(*(word.format(**place) for word in line.split(" ") if word))


def test_a_row_longer_than_the_classifier_is_refused(writers, judge):
    writer = writers["bert"]
    with pytest.raises(UserError, match="the classifier reads 63"):
        writer.generate("", length=63, classifier=str(judge), label="cat")
