"""A score is the bound, its error is its error, and its units are those of what was scored."""

import json
import math
from dataclasses import replace

import pytest
import torch
from transformers import AutoTokenizer

from checks import chain, draw_rows, generator, random_joint
from unmask.data.text import TextCodec
from unmask.data.text_rows import Text, row_starts
from unmask.diffusion.formulation import MaskedFormulation
from unmask.diffusion.processes.absorbing import AbsorbingProcess
from unmask.diffusion.schedules.continuous import Polynomial
from unmask.errors import UserError
from unmask.evaluation.intervals import GROUP, clusters_of, over_masks, over_texts
from unmask.evaluation.likelihood import bound_of_rows, score_text, spread_times, strata_of
from unmask.evaluation.report import table
from unmask.evaluation.scores import Difference
from unmask.pipelines.unmasker import Unmasker

REPEATS = 200
# How many of 200 intervals at 95 % hold the truth: 190 on average, fewer than 176 by chance with
# 3e-5, all of them with 4e-5.
COVERED = range(176, REPEATS)


def text_of(rows, documents=None):
    every = torch.ones_like(rows, dtype=torch.bool)
    if documents is None:
        documents = torch.arange(len(rows))
    return made(rows, every, documents)


def made(rows, editable, documents, characters=None):
    """A text of one-letter words, or of so many characters a row."""
    every, size = torch.ones_like(editable), editable.sum(1).double()
    characters = size if characters is None else characters
    total = int(size.sum())
    return Text(
        rows=rows,
        editable=editable,
        valid=every,
        documents=documents,
        row_units={"tokens": editable.sum(1), "characters": characters, "words": size},
        num_documents=len(documents.unique()),
        units={"tokens": total, "characters": int(characters.sum()), "words": total},
        unknown=0,
        lossy=False,
    )


def bound_on(oracle):
    formulation = MaskedFormulation(AbsorbingProcess(Polynomial(), oracle.mask_token_id))
    return bound_of_rows(oracle, formulation.bound)


@pytest.mark.parametrize(("rows", "draws"), [(1, 32), (3, 64), (70, 4)])
def test_the_interval_over_masks_covers_the_bound_of_this_text(rows, draws):
    # With exact guesses the bound of every sequence is its own -log p.
    oracle = random_joint()
    text = text_of(draw_rows(oracle, rows, seed=1))
    truth = -float(oracle.log_prob(text.rows).sum())
    covered = 0
    for seed in range(REPEATS):
        score = score_text(text, bound_on(oracle), draws=draws, seed=seed)
        low, high = score.interval("nats_per_token", "masks")
        covered += low <= truth / score.tokens <= high
    assert covered in COVERED


def test_drawing_until_the_error_is_small_covers_as_well():
    oracle = random_joint()
    text = text_of(draw_rows(oracle, 2, seed=3))
    truth = -float(oracle.log_prob(text.rows).sum())
    covered = 0
    for seed in range(REPEATS):
        score = score_text(text, bound_on(oracle), draws=None, precision=0.03, seed=seed)
        assert score.masks.error <= 0.03 * score.nats
        low, high = score.interval("nats_per_token", "masks")
        covered += low <= truth / score.tokens <= high
    # Stopping where the error happens to look small costs a little.
    assert covered >= 170


def documents_of(count, seed):
    """Rows of documents that each have a level of their own, of 1 to 8 rows."""
    source = generator(seed)
    rows = torch.randint(1, 9, (count,), generator=source)
    document = torch.arange(count).repeat_interleave(rows)
    level = torch.randn(count, generator=source, dtype=torch.float64)
    rng = torch.randn(len(document), generator=source, dtype=torch.float64)
    return 300 + 30 * level[document] + 20 * rng, document


def test_the_interval_over_texts_covers_the_rate_of_the_population():
    covered, as_if_independent = 0, 0
    for seed in range(REPEATS):
        nats, document = documents_of(60, seed)
        tokens = torch.full_like(nats, 100)
        truth = 3 * float(tokens.sum())
        gap = abs(float(nats.sum()) - truth)
        covered += gap <= over_texts(nats, tokens, clusters_of(document)[0]).margin
        as_if_independent += gap <= over_texts(nats, tokens, torch.arange(len(nats))).margin
    assert covered in COVERED
    assert as_if_independent < 160, "rows of one document are not independent"


def test_rows_of_a_single_document_are_taken_in_blocks():
    covered = 0
    for seed in range(REPEATS):
        # A level that wanders: neighbouring rows are alike, rows 15 apart hardly.
        shocks = torch.randn(700, generator=generator(seed), dtype=torch.float64)
        level = [torch.zeros((), dtype=torch.float64)]
        for shock in shocks:
            level.append(0.8 * level[-1] + shock)
        nats = 300 + 10 * torch.stack(level[101:])
        tokens = torch.full_like(nats, 100)
        clusters, name = clusters_of(torch.zeros(len(nats), dtype=torch.int64))
        assert (len(clusters.unique()), name) == (20, "blocks of rows")
        covered += (
            abs(float(nats.sum()) - 300 * len(nats)) <= over_texts(nats, tokens, clusters).margin
        )
    # Blocks of 30 rows are nearly, not quite, independent.
    assert 168 <= covered < REPEATS


def test_paired_differences_cover_and_are_narrower_than_two_intervals():
    oracle = random_joint()
    worse = random_joint(seed=8)
    text = text_of(draw_rows(oracle, 40, seed=5))
    truth = float((oracle.log_prob(text.rows) - worse.log_prob(text.rows)).sum())
    covered, narrower = 0, 0
    for seed in range(REPEATS):
        one, two = (
            score_text(text, bound_on(which), draws=4, seed=seed) for which in (worse, oracle)
        )
        difference = Difference.of(one, two)
        covered += abs(difference.nats - truth) <= difference.masks.margin
        narrower += difference.masks.error < math.hypot(one.masks.error, two.masks.error)
    assert covered in COVERED
    assert narrower > REPEATS / 2


def test_a_model_does_not_differ_from_itself():
    oracle = random_joint()
    text = text_of(draw_rows(oracle, 40, seed=5))
    score = score_text(text, bound_on(oracle), draws=4)
    difference = Difference.of(score, score)
    assert difference.nats == 0
    assert difference.masks.p_value(difference.nats) == 1
    other = score_text(text_of(draw_rows(oracle, 40, seed=6)), bound_on(oracle), draws=4)
    with pytest.raises(UserError, match="different rows"):
        Difference.of(score, other)
    with pytest.raises(UserError, match="draws"):
        Difference.of(score, score_text(text, bound_on(oracle), draws=8))


def test_p_values_of_equal_models_are_uniform():
    # 200 pairs of estimates of one and the same number: 5 % have p < 0.05, more than 24 of 200 by
    # chance with 3e-5.
    oracle = random_joint()
    text = text_of(draw_rows(oracle, 40, seed=5))
    small = 0
    for seed in range(REPEATS):
        one, two = (
            score_text(text, bound_on(oracle), draws=4, seed=2 * seed + i) for i in range(2)
        )
        spread = over_masks(one.rounds - two.rounds)
        small += spread.p_value(one.nats - two.nats) < 0.05
    assert 0 < small <= 24


@pytest.mark.parametrize("draws", [1, 4, 48])
def test_the_masks_of_a_row_do_not_depend_on_the_batch(draws):
    oracle = chain()
    rows = torch.randint(3, (37, 12), generator=generator(0))
    scores = [
        score_text(text_of(rows), bound_on(oracle), draws=draws, seed=4, batch_size=size)
        for size in (1, 5, 64)
    ]
    for score in scores[1:]:
        assert torch.allclose(score.rounds, scores[0].rounds, rtol=1e-12)
    other = score_text(text_of(rows), bound_on(oracle), draws=draws, seed=5)
    assert not torch.allclose(other.rounds, scores[0].rounds)


def test_times_cover_the_unit_interval_in_every_group_and_row():
    times = spread_times(rows=40, strata=4, seed=1, index=2)
    assert times.shape == (40, 4)
    assert ((times > 0) & (times <= 1)).all()
    for group in (times[:GROUP], times[GROUP:]):
        cell = (group.flatten() * group.numel()).ceil().long()
        assert sorted(cell.tolist()) == list(range(1, group.numel() + 1))
    assert ((times * 4).ceil().sort(1).values == torch.arange(1, 5)).all()
    assert not torch.equal(times, spread_times(40, 4, seed=1, index=3))


def test_a_short_text_is_hidden_at_several_times_in_a_round():
    short, long = (torch.zeros(1, size, dtype=torch.int64) for size in (4, 300))
    assert strata_of(text_of(short), None) == 32
    assert strata_of(text_of(short), 16) == 2
    assert strata_of(text_of(short), 4) == 1, "four rounds show how rounds differ"
    assert strata_of(text_of(long), None) == 1


@pytest.mark.parametrize(
    ("count", "body", "stride"), [(10, 4, 4), (10, 4, 2), (10, 4, 3), (3, 4, 1), (9, 4, 1)]
)
def test_rows_with_a_stride_predict_every_token_once(zoo, count, body, stride):
    codec = TextCodec(AutoTokenizer.from_pretrained(zoo / "roberta"))
    ids = codec.encode("The old cat sat on the mat again and again without a word.")[:count]
    string = codec.decode(ids)
    assert len(codec.encode(string)) == count
    text = Text.from_string(string, codec, body + 1, stride=stride)
    assert text.rows[text.editable].tolist() == codec.encode(string)
    assert text.tokens.tolist()[1:-1] == [stride] * (len(text.rows) - 2)
    assert row_starts(count, body, stride)[-1] + body >= count
    first = text.rows[:, 1:][text.valid[:, 1:]]
    assert len(first) >= count


def test_a_stride_conditions_on_what_stands_before(zoo):
    # With exact guesses of a chain, a window that slides one token at a time is the chain rule.
    oracle = chain()
    ids = torch.randint(3, (1, 9), generator=generator(2))
    truth = float(oracle.initial[ids[0, 0]].log())
    truth += float(oracle.transition[ids[0, :-1], ids[0, 1:]].log().sum())
    columns = torch.arange(8)[:, None] + torch.arange(2)
    rows, editable = ids[0][columns], torch.tensor([[True, True]] + [[False, True]] * 7)
    text = made(rows, editable, torch.zeros(8, dtype=torch.int64))
    # A window of two tokens starts anywhere in the chain; from the second row on the first token
    # is given, so its marginal drops out.
    score = score_text(text, bound_on(oracle), draws=64)
    assert score.nats == pytest.approx(-truth, abs=4.5 * score.masks.error + 1e-9)


def test_units_of_a_tokenizer_that_loses_text(zoo):
    codec = TextCodec(AutoTokenizer.from_pretrained(zoo / "bert"))
    lost = Text.from_string("The Cat\nsat .\n\n", codec, 32)
    plain = Text.from_string("the cat sat .", codec, 32)
    assert torch.equal(lost.rows, plain.rows)
    assert lost.units == plain.units
    assert (plain.units["characters"], plain.units["words"]) == (13, 4)
    assert lost.lossy
    tight = Text.from_string("the cat sat.", codec, 32)
    assert (tight.units["characters"], tight.units["words"]) == (12, 3), "never more than there is"
    whole = Text.from_string(
        "The cat  sat.\n", TextCodec(AutoTokenizer.from_pretrained(zoo / "roberta")), 32
    )
    assert (whole.units["characters"], whole.units["words"], whole.lossy) == (14, 4, False)


def test_documents_are_cut_one_behind_the_other_and_remembered(zoo):
    codec = TextCodec(AutoTokenizer.from_pretrained(zoo / "roberta"))
    documents = ["The cat sat on the mat again.", "A dog slept.\n", "Nobody went to the river."]
    text = Text.from_documents(documents, codec, 6)
    joined = "".join(one if one.endswith("\n") else one + "\n" for one in documents)
    assert codec.decode(text.rows[text.editable].tolist()) == joined
    assert text.units["characters"] == len(joined)
    ends = torch.tensor([len(codec.encode(one.rstrip("\n") + "\n")) for one in documents]).cumsum(0)
    for row in range(len(text.rows)):
        assert text.documents[row] == int((ends <= row * 5).sum())


def test_score_draws_until_the_error_is_small(zoo):
    writer = Unmasker.from_pretrained(str(zoo / "roberta"))
    score = writer.score("The cat sat on the mat.")
    assert score.masks.error <= 0.01 * score.nats
    assert score.draws > 16
    again = writer.score("The cat sat on the mat.", batch_size=7)
    assert again.draws == score.draws
    assert again.nats == pytest.approx(score.nats, rel=1e-5)
    facts = score.as_dict()
    low, high = facts["nats_per_token_95_masks"]
    assert low < facts["nats_per_token"] < high
    assert None not in facts.values()


@pytest.mark.parametrize(("window", "stride"), [(1, None), (65, None), (16, 0), (16, 16)])
def test_windows_and_strides_that_do_not_fit_are_refused(zoo, window, stride):
    writer = Unmasker.from_pretrained(str(zoo / "roberta"))
    with pytest.raises(UserError, match=r"window|stride"):
        writer.rows("The cat sat.", window, stride)


def test_the_interval_over_texts_is_that_of_its_unit():
    # Every token costs the same, but documents differ in their characters per token.
    rows = torch.zeros(40, 10, dtype=torch.int64)
    documents = torch.arange(40)
    characters = torch.where(documents % 2 == 0, 16.0, 44.0).double()
    text = made(rows, torch.ones_like(rows, dtype=torch.bool), documents, characters)
    score = score_text(text, lambda part: torch.full((len(part.rows),), 50.0), kind="exact")
    low, high = score.interval("nats_per_token")
    assert high - low == pytest.approx(0, abs=1e-9)
    low, high = score.interval("bits_per_char")
    # 40 draws of one of two lengths: the rate is nats over their mean.
    spread = 40 / 39 * 40 * (14 / 30 * 50) ** 2
    half = 2.0227 * math.sqrt(spread) / math.log(2) / score.characters
    assert (high - low) / 2 == pytest.approx(half, rel=1e-3)
    assert score.as_dict()["texts_over"] == "40 documents"


def test_rows_of_many_short_documents_are_not_called_documents(zoo):
    codec = TextCodec(AutoTokenizer.from_pretrained(zoo / "roberta"))
    text = Text.from_documents(["The cat sat."] * 400, codec, 64)
    score = score_text(text, lambda part: torch.ones(len(part.rows)), kind="exact")
    assert score.clusters == f"{len(text.rows)} rows of several documents"


def test_numbers_beyond_float64_are_fit_for_json():
    text = made(torch.zeros(1, 900, dtype=torch.int64), torch.ones(1, 900, dtype=torch.bool),
                torch.zeros(1, dtype=torch.int64))  # fmt: skip
    score = score_text(
        replace(text, units=text.units | {"words": 1}),
        lambda part: torch.full((1,), 5000.0),
        kind="exact",
    )
    facts = json.loads(json.dumps(score.as_dict(), allow_nan=False))
    assert facts["word_perplexity"] is None
    assert facts["nats_per_token"] == pytest.approx(5000 / 900)


def test_a_table_names_each_error_by_its_place():
    oracle = random_joint()
    many, one = text_of(draw_rows(oracle, 40, seed=1)), text_of(draw_rows(oracle, 1, seed=1))
    bound, exact = bound_on(oracle), lambda part: torch.ones(len(part.rows))
    cells = {
        "both": score_text(many, bound, draws=4),
        "no masks": score_text(many, bound, draws=1),
        "exact": score_text(many, exact, kind="exact"),
        "one row": score_text(one, bound, draws=32),
    }
    found = {line.split("|")[1].strip(): line.split("|")[2] for line in table(cells).splitlines()}
    assert found["both"].count("±") == 2
    assert "?" not in found["both"]
    assert "± ? ± 0" in found["no masks"]
    assert "± 0 ± 0" in found["exact"]
    assert found["one row"].strip().endswith("± ?")
