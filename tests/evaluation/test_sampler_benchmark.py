"""The measure of samplers: zero for what is exact, the known number for what is not."""

import json

import pytest
import torch

import unmask.evaluation.sampler_benchmark
from checks import golden, random_joint
from unmask.cli import main
from unmask.evaluation.oracles.markov import SecondOrderOracle
from unmask.evaluation.sampler_benchmark import (
    Witness,
    against_joint,
    against_text,
    characters,
    letters,
    true_text,
    unfiltered,
)
from unmask.evaluation.sampler_study import label, settings
from unmask.sampling.samplers.registry import SAMPLERS

TEXT = "the cat sat on the mat and the dog sat on the cat while the bird sang to the man " * 40


def chain() -> SecondOrderOracle:
    return SecondOrderOracle.from_ids(*letters(TEXT))


def test_letters_are_lower_case_words():
    ids, size = letters("The  Cat,\n42 sat!")
    assert "".join(" abcdefghijklmnopqrstuvwxyz"[i] for i in ids) == "the cat sat"
    assert size == 27


def test_characters_are_told_apart_up_to_256_kinds():
    ids, size = characters("The cat. the")
    assert size == len(set("The cat. the")) == 8
    assert (ids[1] == ids[10], ids[0] == ids[9], ids[0] == ids[4]) == (True, False, False)
    kinds = "".join(chr(0x4E00 + i) for i in range(300))
    ids, size = characters(kinds + kinds[:100])
    assert size == 256
    assert ids[:100].tolist() == ids[300:].tolist() == list(range(100))
    assert ids[255:300].unique().tolist() == [255]


def test_one_step_has_the_divergence_of_the_product_of_marginals():
    found = against_joint(golden(), "one", "", unfiltered("ancestral", steps=1), rows=60_000)
    law = torch.tensor([[0.42, 0.28], [0.18, 0.12]], dtype=torch.float64)
    exact = float((law * (law / golden().probs).log()).sum())
    assert found.calls == 1
    assert found.error == pytest.approx(exact, abs=0.005)


def test_more_steps_come_down_to_no_divergence():
    joint = random_joint(3, 4)
    errors = [
        against_joint(joint, "a", "", unfiltered("ancestral", steps=n)).error for n in (1, 4, 100)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.02
    assert abs(errors[2]) < 0.006


def test_the_triples_of_a_chain_have_the_law_that_it_says():
    oracle = chain()
    found = true_text(oracle, rows=3000, length=20, seed=0)
    assert abs(found.error) < 0.01
    assert found.trigrams < 0.04
    assert found.error == pytest.approx(0, abs=4 * found.error_se)
    few = true_text(oracle, rows=30, length=20, seed=0)
    assert few.trigrams > found.trigrams, "fewer rows, more noise"


def test_letters_written_at_once_cost_more_than_the_truth():
    oracle = chain()
    one, many = (
        against_text(oracle, "a", "", unfiltered("ancestral", steps=n), rows=24, length=40)
        for n in (1, 150)
    )
    floor = true_text(oracle, rows=24, length=40, seed=1)
    assert one.error > 1
    assert one.trigrams > 0.5
    assert abs(many.error) < 0.25
    assert many.trigrams < floor.trigrams + 0.1
    assert one.calls == 1
    assert 20 < many.calls <= 40, "a step in which a row reveals nothing is no call of it"


def test_the_same_seed_measures_the_same():
    oracle, sampler = chain(), unfiltered("maskgit", steps=8)
    one, two = (against_text(oracle, "x", "", sampler, rows=4, length=16, seed=s) for s in (3, 3))
    assert one.error == two.error
    assert against_text(oracle, "x", "", sampler, rows=4, length=16, seed=4).error != one.error


def test_every_setting_is_a_sampler():
    chosen = list(settings([1, 4], 16))
    assert len(chosen) == len({(name, str(options)) for name, options in chosen})
    missing = set(SAMPLERS) - {name for name, _ in chosen}
    assert not missing, f"add {missing} to settings of evaluation/sampler_study.py"
    for name, options in chosen:
        found = against_joint(golden(), name, label(options), unfiltered(name, **options), rows=500)
        assert found.calls >= 1
        assert found.error > -0.05


def test_more_steps_than_tokens_are_for_those_that_use_them():
    chosen = [
        (name, options["steps"]) for name, options in settings([4, 64], 16) if "steps" in options
    ]
    assert ("random", 16) in chosen
    assert ("random", 64) not in chosen
    assert ("ancestral", 64) in chosen


@pytest.mark.parametrize(
    ("name", "options"),
    [("first-hitting", {}), ("left-to-right", {}), ("entropy-bound", {"gamma": 0.0})],
)
def test_one_token_a_step_is_exact_row_by_row(name, options):
    found = against_text(chain(), name, "", unfiltered(name, **options), rows=6, length=20)
    assert found.bound == pytest.approx(0, abs=1e-6)
    assert found.bound_se == pytest.approx(0, abs=1e-6)
    assert found.calls == 20


def test_the_bound_of_one_step_is_the_divergence_itself():
    oracle = chain()
    sampler = unfiltered("ancestral", steps=1)
    found = against_text(oracle, "a", "", sampler, rows=3000, length=4)
    joint = oracle.joint(4)
    marginal = joint(torch.full((1, 4), 27), torch.ones(1))[0]
    one_by_one = sum(-float((row.exp() * row).sum()) for row in marginal)
    # KL(product of marginals || p) = -H(product) - E log p, with E over the product.
    product = torch.einsum("a,b,c,d->abcd", *marginal.exp())
    exact = (-float((product * joint.probs.log()).sum()) - one_by_one) / 4
    assert found.bound == pytest.approx(exact, abs=4 * found.bound_se)
    assert found.bound_se < 0.05 * exact


def test_the_bound_is_above_the_divergence():
    oracle = SecondOrderOracle.from_ids(torch.tensor([0, 1, 0, 0, 1, 1, 1, 0] * 20), 2, 2.0)
    sampler = unfiltered("random", steps=2)
    bound = against_text(oracle, "q", "", sampler, rows=20_000, length=6)
    exact = against_joint(oracle.joint(6), "q", "", sampler, rows=20_000)
    assert exact.error > 10 * exact.error_se
    assert 6 * bound.bound > exact.error - 4 * exact.error_se


def test_orders_that_look_at_what_is_drawn_have_no_bound():
    sampler = unfiltered("maskgit", steps=4)
    assert against_text(chain(), "s", "", sampler, rows=4, length=8).bound is None
    sampler = unfiltered("maskgit", steps=4, confidence_metric="entropy")
    assert against_text(chain(), "s", "", sampler, rows=4, length=8).bound > 0


def test_the_error_of_a_divergence_is_its_spread_over_seeds():
    joint, sampler = random_joint(3, 4), unfiltered("ancestral", steps=2)
    found = [against_joint(joint, "a", "", sampler, rows=1000, seed=seed) for seed in range(40)]
    spread = float(torch.tensor([one.error for one in found]).std())
    assert found[0].error_se == pytest.approx(spread, rel=0.4)


def test_a_visible_token_is_judged_by_all_others():
    joint = random_joint(3, 4)
    witness = Witness(joint, 3, True, torch.zeros(2, dtype=torch.int64))
    xt = torch.tensor([[0, 1, 2, 3], [2, 3, 3, 0]])
    at = torch.tensor([[True, False, True, True], [False, False, True, False]])
    found = witness(xt, torch.ones(2), at=at, valid=torch.ones_like(at))
    unseen = torch.tensor([[3, 1, 2, 3], [0, 1, 3, 3], [0, 1, 2, 3], [2, 3, 3, 0]])
    exact = joint(unseen, torch.ones(4))[torch.arange(4), torch.tensor([0, 2, 3, 2])]
    assert torch.allclose(found, exact)
    assert witness.calls.tolist() == [1, 1]


def test_what_is_only_written_anew_is_kept():
    errors = [
        against_joint(golden(), "r", "", unfiltered("refine", steps=n), rows=4000).error
        for n in (1, 10)
    ]
    assert errors[1] < errors[0] / 2, "an exact denoiser is certain of what it sees"


def test_gibbs_and_what_edits_hide_what_the_truth_doubts():
    joint = random_joint(3, 4)
    found = against_joint(joint, "g", "", unfiltered("gibbs", steps=60), rows=4000)
    assert abs(found.error) < 5 * found.error_se
    plain = against_joint(joint, "p", "", unfiltered("p2", steps=4, eta=0.0), rows=500)
    edited = against_joint(joint, "p", "", unfiltered("p2", steps=4, eta=3.0), rows=500)
    assert edited.error != plain.error


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
    one = next(row for row in content["text"] if row["sampler"] == "ancestral")
    assert one["calls"] == 1
    assert one["error"] > 0.5
    assert main([*line, "--steps", "8", "--sampler", "gibbs", "--sampler", "ancestral"]) == 0
    out = capsys.readouterr().out
    assert "| ancestral | grid uniform, steps 8 |" in out
    assert "refine" not in out
    table = tmp_path / "table.csv"
    table.write_text("a,b\n" + '1,"Cats, 42 Dogs!"\n' * 120, encoding="utf-8")
    few = ["--length", "6", "--rows", "2", "--steps", "2", "--sampler", "random", "--json"]
    entropies = []
    for symbols in ("letters", "characters"):
        line_of = ["bench", "samplers", "--data", str(table), "--field", "b", "--symbols", symbols]
        assert main([*line_of, *few]) == 0
        entropies.append(json.loads(capsys.readouterr().out)["text"][0]["setting"])
    assert entropies[0] != entropies[1]
    for wrong, words in [
        (["--sampler", "ancestrel"], "did you mean"),
        (["--steps", "0"], "whole numbers from 1"),
        (["--steps", "x"], "whole numbers from 1"),
        (["--length", "2"], "x>=3"),
        (["--rows", "1"], "x>=2"),
    ]:
        assert main([*line, *wrong]) == 2
        assert words in capsys.readouterr().err


def test_ctrl_c_prints_what_is_measured(capsys, tmp_path, monkeypatch):
    text = tmp_path / "text.txt"
    text.write_text(TEXT, encoding="utf-8")
    measure, done = unmask.evaluation.sampler_benchmark.against_text, []

    def interrupted(*given):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(given)
        return measure(*given)

    monkeypatch.setattr(unmask.evaluation.sampler_benchmark, "against_text", interrupted)
    line = ["bench", "samplers", "--data", str(text), "--length", "8", "--rows", "2", "--json"]
    assert main(line) == 130
    printed = capsys.readouterr()
    content = json.loads(printed.out)
    assert [len(content[world]) for world in ("joint", "text")] == [2, 3]
    assert "interrupted" in printed.err
