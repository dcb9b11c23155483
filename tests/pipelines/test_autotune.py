"""Tuning: the measure is a distance, the choice is what was asked for, the card keeps it."""

import json
from dataclasses import replace

import pytest
from transformers import AutoModelForMaskedLM

from conftest import story
from unmask import Unmasker
from unmask.cli import main
from unmask.errors import UserError
from unmask.models.checkpoint import Card
from unmask.models.ordered_attention import attach
from unmask.pipelines.autotune import (
    ALONE,
    Trial,
    best_trial,
    fastest_first,
    measure_samplers,
    total_variation,
    trigrams,
)

FAST, MIDDLE, SLOW = (
    Trial({"name": "ancestral", "steps": n}, n, seconds, far)
    for n, seconds, far in ((8, 0.1, 0.5), (16, 0.2, 0.3), (64, 0.8, 0.2))
)
WORSE = Trial({"name": "refine", "steps": 20}, 20, 0.3, 0.4)
ALL = [SLOW, WORSE, FAST, MIDDLE]


def test_the_distance_is_the_total_variation_of_trigrams():
    assert trigrams(["abcab", "xy"]) == {"abc": 1, "bca": 1, "cab": 1}
    one, two = trigrams(["aaaa"]), trigrams(["aaab"])
    assert total_variation(one, one) == 0
    assert total_variation(one, two) == pytest.approx(0.5)
    assert total_variation(two, one) == total_variation(one, two)
    assert total_variation(one, trigrams(["bbbb"])) == 1
    assert total_variation(one, trigrams([""])) == 1


def test_the_choice_is_on_the_frontier():
    assert fastest_first(ALL) == [FAST, MIDDLE, SLOW]
    assert best_trial(ALL) is SLOW
    assert best_trial(ALL, seconds=0.5) is MIDDLE
    assert best_trial(ALL, quality=0.3) is MIDDLE
    assert best_trial(ALL, quality=0.45) is MIDDLE
    for wrong, words in [
        ({"seconds": 0.01}, "the fastest is ancestral, steps 8 with 0.10 s"),
        ({"quality": 0.1}, "the nearest is ancestral, steps 64 with 0.200"),
        ({"quality": 0.1, "seconds": 1.0}, "not both"),
        ({"seconds": -1.0}, "above 0, not -1"),
        ({"seconds": float("nan")}, "above 0, not nan"),
        ({"quality": 1.5}, "at most 1, not 1.5"),
    ]:
        with pytest.raises(UserError, match=words):
            best_trial(ALL, **wrong)


def test_a_text_is_nearer_to_itself_than_what_an_untrained_network_writes(zoo):
    writer, text = Unmasker.from_pretrained(str(zoo / "roberta")), story(400)
    few = [{"name": "ancestral", "steps": 2}, {"name": "entropy-bound", "gamma": 3.0}]
    found = measure_samplers(writer, text, candidates=few, length=12, rows=4)
    again = measure_samplers(writer, text, candidates=few, length=12, rows=4)
    assert [t.distance for t in found.trials] == [t.distance for t in again.trials]
    assert [t.sampler for t in found.trials] == few
    assert found.trials[0].calls == 2
    # Calls are those of a text by itself: a batch goes on until its last row is done.
    options = {"length": 12, "sampler": "entropy-bound", "gamma": 3.0}
    alone = [writer.generate(seed=seed, **options).nfe for seed in range(ALONE)]
    assert found.trials[1].calls == sum(alone) / ALONE
    assert max(alone) <= writer.generate(num_samples=4, **options).nfe
    assert 0 < found.floor < min(t.distance for t in found.trials)
    with pytest.raises(UserError, match="10,000 characters"):
        measure_samplers(writer, "short")


def test_a_candidate_takes_nothing_from_the_models_own_sampler(zoo):
    """A model that was tuned before is measured, and writes later, by the candidate alone."""
    writer, text = Unmasker.from_pretrained(str(zoo / "roberta")), story(400)
    few = [{"name": "ancestral", "steps": 4}]
    fresh = measure_samplers(writer, text, candidates=few, length=12, rows=4)
    own = {"name": "ancestral", "steps": 2, "temperature": 0}
    writer.card = replace(writer.card, sampler=own)
    tuned = measure_samplers(writer, text, candidates=few, length=12, rows=4)
    assert tuned.trials[0].distance == fresh.trials[0].distance
    assert writer.card.sampler == own
    # But what is not to be written is not written in the trials either.
    banned = [chr(letter) for letter in range(ord("a"), ord("z") + 1)]
    writer.card = replace(writer.card, sampler=own | {"ban": banned})
    restricted = measure_samplers(writer, text, candidates=few, length=12, rows=4)
    assert restricted.trials[0].distance != fresh.trials[0].distance


def test_a_text_must_be_longer_than_what_is_compared_with_it(zoo):
    writer, text = Unmasker.from_pretrained(str(zoo / "roberta")), story(400)
    with pytest.raises(UserError, match="at least twice as many, so pass more text or a smaller"):
        measure_samplers(writer, text, length=len(text), rows=1)


def test_samplers_that_a_model_cannot_use_are_left_out(zoo):
    writer, text = Unmasker.from_pretrained(str(zoo / "roberta")), story(400)
    uniform = Unmasker(writer.model, writer.codec, Card(process="uniform"))
    few = [{"name": "refine", "steps": 3}, {"name": "ancestral", "steps": 3}]
    found = measure_samplers(uniform, text, candidates=few, length=12, rows=2)
    assert [t.sampler for t in found.trials] == few[1:]
    assert list(found.refused) == ["refine, steps 3"]
    assert "have no masks" in found.refused["refine, steps 3"]
    with pytest.raises(UserError, match="none of the samplers: uniform-noise models have no masks"):
        measure_samplers(uniform, text, candidates=few[:1], length=12, rows=2)
    with pytest.raises(UserError, match="positions"):
        measure_samplers(uniform, text, candidates=few, length=200, rows=2)
    frames = []
    with pytest.raises(UserError, match="lengths is not supported for uniform-noise models"):
        uniform.generate("[MASK:1-2]", steps=2, watch=lambda *frame: frames.append(frame))
    assert not frames, "refused before the work"


def test_a_model_of_any_kind_is_tuned(zoo, tmp_path, capsys):
    text, folder = tmp_path / "text.txt", tmp_path / "model"
    text.write_text(story(400), encoding="utf-8")
    order = AutoModelForMaskedLM.from_pretrained(zoo / "roberta")
    attach(order)
    codec = Unmasker.from_pretrained(str(zoo / "roberta")).codec
    Unmasker(order, codec, Card(attention="any-order")).save_pretrained(folder)
    line = ["tune", "--model", str(folder), "--data", str(text), "--length", "6", "--rows", "1"]
    assert main([*line, "--json"]) == 0
    said = capsys.readouterr()
    record = json.loads(said.out)
    assert "p2, steps 16" in record["left_out"]
    assert said.err.count("left out:") == 1
    assert "keeps generated tokens" in said.err
    before = (folder / "unmask.json").read_bytes()
    for wrong in (["--seconds", "-1"], ["--quality", "0"]):
        assert main([*line, *wrong]) == 2
        assert capsys.readouterr().err.count("\n") == 1
        assert (folder / "unmask.json").read_bytes() == before
    # Out of reach; what was measured is printed all the same.
    assert main([*line, "--seconds", "1e-9"]) == 2
    said = capsys.readouterr()
    assert "no sampler generates a text in 1e-09 s" in said.err.splitlines()[-1]
    assert said.out.count("best for its time") >= 1
    assert "chosen" not in said.out
    assert (folder / "unmask.json").read_bytes() == before


def test_what_is_never_to_be_written_outlives_the_choice(zoo, tmp_path):
    text, folder = tmp_path / "text.txt", tmp_path / "model"
    text.write_text(story(400), encoding="utf-8")
    writer = Unmasker.from_pretrained(str(zoo / "bert"))
    own = {"name": "refine", "steps": 3, "ban": ["cat"], "repetition_penalty": 1.5}
    writer.card = replace(writer.card, sampler=own)
    writer.save_pretrained(folder)
    line = ["tune", "--model", str(folder), "--data", str(text), "--length", "6", "--rows", "1"]
    assert main(line) == 0
    card = json.loads((folder / "unmask.json").read_text("utf-8"))
    chosen = card["scores"]["tuning"]["chosen"]["sampler"]
    assert card["sampler"] == chosen | {"ban": ["cat"], "repetition_penalty": 1.5}


def test_the_card_keeps_the_choice(zoo, tmp_path, capsys):
    text, out = tmp_path / "text.txt", tmp_path / "tuned"
    text.write_text(story(400), encoding="utf-8")
    line = ["tune", "--model", str(zoo / "bert"), "--data", str(text), "--length", "6"]
    assert main([*line, "--rows", "1", "--out", str(out)]) == 0
    table = capsys.readouterr().out
    assert "chosen" in table
    card = json.loads((out / "unmask.json").read_text("utf-8"))
    tuned = card["scores"]["tuning"]
    assert card["sampler"] == tuned["chosen"]["sampler"]
    assert len(tuned["trials"]) > 20
    assert (out / "tuning.png").stat().st_size > 5000
    # What was chosen is how the model writes from now on.
    assert main(["generate", "--model", str(out), "--length", "6", "--json"]) == 0
    settings = json.loads(capsys.readouterr().out)["settings"]
    assert settings["sampler"] == card["sampler"]["name"]
    for wrong, words in [
        (["tune", "--data", str(text)], "pass --out"),
        ([*line, "--out", str(out)], "or pass --overwrite"),
        ([*line, "--seconds", "1", "--quality", "0.5"], "not both"),
        (["tune", "--data", str(text), "--seconds", "-1"], "x>0"),
        (["tune", "--model", str(out), "--data", str(tmp_path / "no.txt")], "no.txt"),
    ]:
        assert main(wrong) == 2
        assert words in capsys.readouterr().err
    assert main([*line, "--rows", "1", "--out", str(out), "--overwrite"]) == 0
