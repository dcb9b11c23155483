"""The measure of samplers: zero for what is exact, the known number for what is not."""

import json

import pytest
import torch

from checks import golden, random_joint
from unmask.cli import main
from unmask.oracle_chain import SecondOrderOracle
from unmask.truth import against_joint, against_text, exactly, letters, settings, true_text

TEXT = "the cat sat on the mat and the dog sat on the cat while the bird sang to the man " * 40


def chain() -> SecondOrderOracle:
    return SecondOrderOracle.from_ids(letters(TEXT), 27)


def test_letters_are_lower_case_words():
    ids = letters("The  Cat,\n42 sat!")
    assert "".join(" abcdefghijklmnopqrstuvwxyz"[i] for i in ids) == "the cat sat"


def test_one_step_has_the_divergence_of_the_product_of_marginals():
    found = against_joint(golden(), "one", "", exactly("ancestral", steps=1), rows=60_000)
    law = torch.tensor([[0.42, 0.28], [0.18, 0.12]], dtype=torch.float64)
    exact = float((law * (law / golden().probs).log()).sum())
    assert found.calls == 1
    assert found.error == pytest.approx(exact, abs=0.005)


def test_more_steps_come_down_to_no_divergence():
    joint = random_joint(3, 4)
    errors = [
        against_joint(joint, "a", "", exactly("ancestral", steps=n)).error for n in (1, 4, 100)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.02
    assert abs(errors[2]) < 0.006


def test_the_triples_of_a_chain_have_the_law_that_it_says():
    oracle = chain()
    found = true_text(oracle, rows=3000, length=20, seed=0)
    assert abs(found.error) < 0.01
    assert found.trigrams < 0.04
    few = true_text(oracle, rows=30, length=20, seed=0)
    assert few.trigrams > found.trigrams, "fewer rows, more noise"


def test_letters_written_at_once_cost_more_than_the_truth():
    oracle = chain()
    one, many = (
        against_text(oracle, "a", "", exactly("ancestral", steps=n), rows=24, length=40)
        for n in (1, 150)
    )
    floor = true_text(oracle, rows=24, length=40, seed=1)
    assert one.error > 1
    assert one.trigrams > 0.5
    assert abs(many.error) < 0.25
    assert many.trigrams < floor.trigrams + 0.1
    assert one.calls == 1
    # A step in which no row reveals anything needs no call.
    assert 40 < many.calls <= 150


def test_the_same_seed_measures_the_same():
    oracle, preset = chain(), exactly("schedule-confidence", steps=8)
    one, two = (against_text(oracle, "x", "", preset, rows=4, length=16, seed=s) for s in (3, 3))
    assert one.error == two.error
    assert against_text(oracle, "x", "", preset, rows=4, length=16, seed=4).error != one.error


def test_every_setting_is_a_sampler():
    chosen = list(settings([1, 4], 16))
    assert len(chosen) == len({(name, str(options)) for name, options in chosen})
    for name, options in chosen:
        found = against_joint(golden(), name, str(options), exactly(name, **options), rows=500)
        assert found.calls >= 1
        assert found.error > -0.05


def test_what_the_command_line_prints(capsys, tmp_path):
    plot, text = tmp_path / "plot.png", tmp_path / "text.txt"
    text.write_text(TEXT, encoding="utf-8")
    line = ["bench", "samplers", "--data", str(text), "--length", "8", "--rows", "4"]
    assert main([*line, "--steps", "1,8", "--plot", str(plot)]) == 0
    out = capsys.readouterr().out
    assert "| ancestral | steps 8 |" in out
    assert plot.stat().st_size > 5000
    assert main([*line, "--steps", "1", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    one = next(row for row in content["letters"] if row["sampler"] == "ancestral")
    assert one["calls"] == 1
    assert one["error"] > 0.5
    for wrong, words in [
        (["--steps", "0"], "whole numbers from 1"),
        (["--steps", "x"], "whole numbers from 1"),
        (["--length", "2"], "at least 3"),
        (["--rows", "0"], "at least 1"),
    ]:
        assert main([*line, *wrong]) == 2
        assert words in capsys.readouterr().err
