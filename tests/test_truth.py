"""The measure of samplers: zero for what is exact, the known number for what is not."""

from functools import partial

import pytest
import torch

from checks import golden, random_joint
from unmask.oracle_chain import SecondOrderOracle
from unmask.truth import against_joint, against_text, exactly, frontier, letters, true_text

TEXT = "the cat sat on the mat and the dog sat on the cat while the bird sang to the man " * 40


def chain() -> SecondOrderOracle:
    return SecondOrderOracle.from_ids(letters(TEXT), 27)


def test_letters_are_lower_case_words():
    ids = letters("The  Cat,\n42 sat!")
    assert "".join(" abcdefghijklmnopqrstuvwxyz"[i] for i in ids) == "the cat sat"


def test_one_step_has_the_divergence_of_the_product_of_marginals():
    found = against_joint(golden(), "one", exactly("ancestral", 1), rows=60_000)
    law = torch.tensor([[0.42, 0.28], [0.18, 0.12]], dtype=torch.float64)
    exact = float((law * (law / golden().probs).log()).sum())
    assert found.calls == 1
    assert found.error == pytest.approx(exact, abs=0.005)


def test_more_steps_come_down_to_no_divergence():
    joint = random_joint(3, 4)
    errors = [against_joint(joint, "a", exactly("ancestral", n)).error for n in (1, 4, 100)]
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
    measure = partial(against_text, oracle, rows=24, length=40)
    one, many = frontier(measure, [("ancestral", {})], [1, 150])
    floor = true_text(oracle, rows=24, length=40, seed=1)
    assert one.error > 1
    assert one.trigrams > 0.5
    assert abs(many.error) < 0.25
    assert many.trigrams < floor.trigrams + 0.1
    assert one.calls == 1
    # A step in which no row reveals anything needs no call.
    assert 40 < many.calls <= 150


def test_the_same_seed_measures_the_same():
    oracle, preset = chain(), exactly("schedule-confidence", 8)
    one, two = (against_text(oracle, "x", preset, rows=4, length=16, seed=s) for s in (3, 3))
    assert one.error == two.error
    assert against_text(oracle, "x", preset, rows=4, length=16, seed=4).error != one.error
