"""Samplers by name: an option is honoured by those that have it and refused by the others.

And which of a model's own options make way for what is asked for.
"""

import math

import pytest
import torch
from examples.own_policy import OutsideIn

import unmask
from unmask import sampling
from unmask.diffusion.schedules.grids import time_grid
from unmask.errors import UserError
from unmask.pipelines.sampler_options import resolve_sampler
from unmask.sampling.logits_processors import Restriction
from unmask.sampling.policies.confidence import EntropyBound, Factor, MostConfident, Threshold
from unmask.sampling.policies.fixed_order import FirstHitting, LeftToRight, RandomQuota
from unmask.sampling.policies.remasking import Capped, Loop, Remask, Rescaled
from unmask.sampling.policies.self_correction import Edited, Planned
from unmask.sampling.samplers.base import Custom, GridSampler
from unmask.sampling.samplers.confidence import MaskGIT
from unmask.sampling.samplers.gibbs import Gibbs
from unmask.sampling.samplers.registry import OPTIONS, SAMPLERS, make_sampler
from unmask.sampling.samplers.remasking import Refine, ReMDMCap
from unmask.sampling.token_sampling import Draw

SURE = MostConfident("confidence", 1, Threshold(0.9))
# Every sampler that has an option of the policies, with the policy that it then is.
HONOURED = {
    "tokens_per_step": {
        "random": RandomQuota(2),
        "first-hitting": FirstHitting(2),
        "left-to-right": LeftToRight(2),
        "threshold": MostConfident("drawn", 2, Threshold(0.9)),
        "maskgit": MostConfident("drawn", 2),
        "fast-dllm-factor": MostConfident("confidence", 2, Factor(1.0)),
        "entropy-bound": MostConfident("entropy", 2, EntropyBound(0.1)),
        "threshold-edit": Edited(MostConfident("confidence", 2, Threshold(0.9))),
    },
    "threshold": {
        "threshold": MostConfident("drawn", 1, Threshold(0.25)),
        "threshold-edit": Edited(MostConfident("confidence", 1, Threshold(0.25))),
    },
    "factor": {"fast-dllm-factor": MostConfident("confidence", 1, Factor(0.25))},
    "gamma": {"entropy-bound": MostConfident("entropy", 1, EntropyBound(0.25))},
    "eta": {
        "remdm-cap": Remask(Capped(0.25)),
        "remdm-rescale": Remask(Rescaled(0.25)),
        "remdm-loop": Remask(Loop(0.25)),
        "p2": Planned(0.25),
    },
    "edit_threshold": {"threshold-edit": Edited(SURE, 0.25)},
    "alg_temperature": {"maskgit": MostConfident(alg_temperature=0.25)},
    "confidence_metric": {
        "threshold": MostConfident("confidence", 1, Threshold(0.9)),
        "maskgit": MostConfident("confidence"),
        "fast-dllm-factor": MostConfident("confidence", 1, Factor(1.0)),
        "threshold-edit": Edited(SURE),
    },
}
VALUES = {"tokens_per_step": 2, "confidence_metric": "confidence"}


@pytest.mark.parametrize("option", HONOURED)
@pytest.mark.parametrize("name", SAMPLERS)
def test_an_option_is_honoured_or_refused(name, option):
    value = VALUES.get(option, 0.25)
    if name in HONOURED[option]:
        sampler = make_sampler(name, **{option: value})
        assert sampler.policy == HONOURED[option][name]
        assert resolve_sampler({}, {"sampler": name, option: value})[1][option] == value
    elif (name, option) == ("entropy-bound", "confidence_metric"):
        with pytest.raises(UserError, match="ranks predictions by 'entropy'"):
            make_sampler(name, confidence_metric=value)
    else:
        assert option not in SAMPLERS[name].options(), f"add {name!r} to HONOURED[{option!r}]"
        with pytest.raises(UserError, match=f"has no {option.replace('_', '-')}; these have: "):
            make_sampler(name, **{option: value})


def test_a_refusal_names_the_samplers_that_have_the_option():
    with pytest.raises(UserError, match=r"these have: threshold, threshold-edit$"):
        make_sampler("ancestral", threshold=0.5)


def test_every_option_of_a_policy_is_tried_here():
    shared = {"steps", "grid", "temperature", "top_k", "top_p", "top_p_crossing", "min_p"}
    shared |= {"repetition_penalty", "ban", "unban", "burn_in"}
    untried = set(OPTIONS) - HONOURED.keys() - shared
    assert not untried, f"add what the samplers with {sorted(untried)} become to HONOURED"


def test_an_object_is_the_sampler_of_its_name():
    for name, sampler in SAMPLERS.items():
        assert make_sampler(name) == sampler()
        assert make_sampler(name, steps=7) == sampler(steps=7)
        assert sampler(steps=7).settings == resolve_sampler({}, {"sampler": sampler(steps=7)})[1]


def test_what_an_object_refuses_is_what_the_name_refuses():
    with pytest.raises(
        UserError, match=r"eta, a chance to be masked again, must be from 0 to 1, not 1\.5"
    ):
        ReMDMCap(eta=1.5)
    with pytest.raises(UserError, match="leave it out"):
        MaskGIT(steps=5, tokens_per_step=2)
    with pytest.raises(UserError, match="would have no effect"):
        Refine(temperature=0, top_k=7)
    assert Refine(temperature=0).draw == Draw(temperature=0)
    assert Refine(top_k=None).draw == Draw(top_p=0.95), "None takes a filter back"
    with pytest.raises(UserError, match="steps must be a whole number, not None"):
        Gibbs(steps=None)
    with pytest.raises(UserError, match="would have no effect"):
        make_sampler("refine", temperature=0, top_k=50)


def test_an_object_takes_no_options_of_the_call_and_keeps_the_bans_of_the_model():
    with pytest.raises(UserError, match="the sampler is an object with options of its own; set st"):
        resolve_sampler({}, {"sampler": Refine(), "steps": 5})
    saved = {"name": "refine", "steps": 3, "ban": ["cat"], "repetition_penalty": 1.5}
    chosen = resolve_sampler(saved, {"sampler": Refine(top_k=7, ban="dog")})[0]
    assert chosen == Refine(top_k=7, ban="dog", repetition_penalty=1.5)


def test_the_names_for_a_policy_of_ones_own_are_in_one_place():
    for name in sampling.__all__:
        assert getattr(sampling, name) is not None
    assert set(sampling.__all__) <= set(dir(sampling))
    assert unmask.sampling.Ancestral is SAMPLERS["ancestral"]
    with pytest.raises(AttributeError, match="no attribute 'Ancestrl'"):
        _ = sampling.Ancestrl


def test_the_policy_of_the_example_writes_from_both_ends(zoo):
    writer = unmask.Unmasker.from_pretrained(str(zoo / "roberta"))
    frames = list(writer.stream("[MASK:8]", sampler=OutsideIn(), steps=4))
    left = [frame.canvas.masked[0].nonzero()[:, 0].tolist() for frame in frames]
    first = left[0][0]
    kept = [[i - first for i in masked] for masked in left]
    assert kept == [list(range(8)), [1, 2, 3, 4, 5, 6], [2, 3, 4, 5], [3, 4], []]
    found = writer.generate("[MASK:8]", sampler=OutsideIn(), steps=4)
    assert found.settings["sampler"] == "OutsideIn"
    assert found.settings["steps"] == found.nfe == 4


def test_a_policy_takes_the_options_of_every_sampler():
    sampler, settings = resolve_sampler({}, {"sampler": RandomQuota(), "steps": 5, "top_p": 0.5})
    assert sampler == Custom(RandomQuota(), steps=5, top_p=0.5)
    assert (settings["sampler"], settings["steps"], len(sampler.times(9))) == ("RandomQuota", 5, 6)
    with pytest.raises(UserError, match="'RandomQuota' has no eta; these have: remdm-cap"):
        resolve_sampler({}, {"sampler": RandomQuota(), "eta": 0.5})


@pytest.mark.parametrize("name", SAMPLERS)
def test_steps_set_the_pace(name):
    """A policy that has a number of tokens per step of its own takes what the grid asks for."""
    sampler = make_sampler(name, steps=5)
    assert len(sampler.times(40)) == 6
    policy = sampler.policy.order if isinstance(sampler.policy, Edited) else sampler.policy
    assert getattr(policy, "tokens_per_step", None) is None


def test_as_many_steps_as_the_policy_may_need():
    assert len(make_sampler("left-to-right").times(40)) == 41
    assert len(make_sampler("maskgit", tokens_per_step=4).times(40)) == 41
    assert len(make_sampler("threshold-edit").times(40)) == 40 * 3 + 2


def test_two_paces_are_refused_and_the_saved_one_gives_way():
    with pytest.raises(UserError, match="leave it out"):
        make_sampler("left-to-right", steps=5, tokens_per_step=2)
    saved = {"name": "maskgit", "steps": 5, "top_p": 0.5}
    sampler, settings = resolve_sampler(saved, {"tokens_per_step": 2})
    assert (sampler.num_steps, sampler.policy.tokens_per_step, sampler.draw.top_p) == (None, 2, 0.5)
    assert settings["tokens_per_step"] == 2
    saved = {"name": "left-to-right", "tokens_per_step": 3}
    sampler, settings = resolve_sampler(saved, {"steps": 5})
    assert (sampler.num_steps, sampler.policy.tokens_per_step) == (5, None)
    assert "tokens_per_step" not in settings


def test_a_temperature_that_would_change_nothing_is_refused():
    """The likeliest token is taken, and the measure is that of temperature 1."""
    for name in ("fast-dllm-factor", "threshold-edit"):
        with pytest.raises(UserError, match="temperature goes without confidence_metric"):
            make_sampler(name, temperature=0.5)
        assert make_sampler(name, temperature=0.0).draw.greedy
    with pytest.raises(UserError, match="temperature goes without confidence_metric"):
        make_sampler("threshold", temperature=0.5, confidence_metric="margin")
    assert make_sampler("threshold", temperature=0.5).draw == Draw(0.5, greedy=True)
    # One that was saved for the measure before gives way; one of a random draw stays.
    saved = {"name": "threshold", "temperature": 0.8}
    assert (
        resolve_sampler(saved, {"confidence_metric": "margin"})[1]["confidence_metric"] == "margin"
    )
    saved = {"name": "maskgit", "temperature": 0.7}
    assert resolve_sampler(saved, {"confidence_metric": "margin"})[0].draw.temperature == 0.7


def test_settings_hold_what_is_in_force_and_nothing_else():
    settings = resolve_sampler({}, {"sampler": "threshold-edit", "threshold": 0.5})[1]
    assert settings == {
        "sampler": "threshold-edit",
        "steps": None,
        "temperature": 1.0,
        "top_k": None,
        "top_p": 1.0,
        "tokens_per_step": 1,
        "confidence_metric": "confidence",
        "threshold": 0.5,
        "edit_threshold": 0.01,
    }
    assert "eta" not in resolve_sampler({}, {"sampler": "remdm-conf"})[1]


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("entropy-bound", {"gamma": -1.0}, "gamma"),
        ("fast-dllm-factor", {"factor": float("nan")}, "factor"),
        ("remdm-cap", {"eta": 1.5}, "eta"),
        ("p2", {"eta": -1.0}, "eta"),
        ("left-to-right", {"tokens_per_step": 0}, "tokens_per_step"),
        ("threshold-edit", {"edit_threshold": 2.0}, "edit_threshold"),
        ("threshold", {"confidence_metric": "margn"}, "'margin'"),
        ("threshold", {"confidence_metric": "entropy"}, "ranks predictions by"),
        (
            "threshold-edit",
            {"confidence_metric": "margin"},
            "editing judges by",
        ),
        ("gibbs", {"steps": 6, "burn_in": 6, "top_k": 1}, "a burn_in below steps"),
        ("gibbs", {"steps": 6, "burn_in": 2, "temperature": 0}, "burn_in goes with top_k"),
        ("ancestral", {"temperature": 0, "top_p_crossing": "keep"}, "top_p_crossing goes with"),
        ("maskgit", {"alg_temperature": -1.0}, "alg_temperature"),
        ("entropy-bound", {"gamma": -1.0}, "^gamma, in nats, must be at least 0, not -1"),
        ("p2", {"eta": math.inf}, "^eta must be at least 0 and finite, not inf"),
        ("maskgit", {"alg_temperature": 1e308}, "alg_temperature"),
        ("ancestral", {"alg_temperature": 1.0}, "these have: maskgit$"),
    ],
)
def test_numbers_out_of_range_are_refused(name, options, says):
    with pytest.raises(UserError, match=says):
        make_sampler(name, **options)


def test_an_unknown_option_is_named():
    with pytest.raises(UserError, match="unknown sampler option 'warmth'"):
        resolve_sampler({}, {"warmth": 1})


def test_a_grid_and_tokens_per_step_exclude_each_other_and_the_saved_one_gives_way():
    for grid in ("cosine", [1, 0.5, 0]):
        with pytest.raises(UserError, match="tokens_per_step goes without grid"):
            make_sampler("random", grid=grid, tokens_per_step=2)
    saved = {"name": "random", "tokens_per_step": 3}
    sampler = resolve_sampler(saved, {"grid": [1, 0.5, 0]})[0]
    assert (sampler.num_steps, sampler.policy.tokens_per_step) == (2, None)
    saved = {"name": "random", "grid": [1, 0.5, 0]}
    sampler = resolve_sampler(saved, {"tokens_per_step": 2})[0]
    assert (sampler.grid, sampler.policy.tokens_per_step) == ("uniform", 2)


def test_filters_reach_the_draw_and_the_burn_in_has_none():
    sampler = make_sampler("ancestral", top_p=0.8, top_p_crossing="drop", min_p=0.1)
    assert sampler.draw == Draw(top_p=0.8, top_p_crossing="drop", min_p=0.1)
    drawing = make_sampler("gibbs", min_p=0.2, steps=10, burn_in=3).drawing
    assert drawing.at(2) == Draw()
    assert drawing.at(3) == Draw(top_k=100, min_p=0.2)


def test_a_saved_burn_in_that_is_too_long_gives_way():
    saved = {"name": "gibbs", "steps": 100, "burn_in": 80}
    assert resolve_sampler(saved, {})[1]["burn_in"] == 80
    assert resolve_sampler(saved, {"steps": 200})[1]["burn_in"] == 80
    assert resolve_sampler(saved, {"steps": 50})[1]["burn_in"] == 25
    assert resolve_sampler(saved, {"steps": 50, "burn_in": 10})[1]["burn_in"] == 10


def test_a_saved_temperature_of_0_gives_way_to_filters_and_to_a_burn_in():
    saved = {"name": "gibbs", "steps": 10, "temperature": 0}
    assert resolve_sampler(saved, {})[1]["temperature"] == 0
    assert "burn_in" not in resolve_sampler(saved, {})[1]
    for wished in ({"top_k": 5}, {"burn_in": 3}):
        assert resolve_sampler(saved, wished)[1]["temperature"] == 1
    assert resolve_sampler(saved, {"top_p": 1.0})[1]["temperature"] == 0
    saved = {"name": "gibbs", "steps": 10, "burn_in": 3}
    assert "burn_in" not in resolve_sampler(saved, {"temperature": 0})[1]


def test_what_is_not_to_be_written_is_said_to_every_sampler():
    saved = {"name": "refine", "steps": 3, "ban": ["cat"], "repetition_penalty": 1.5}
    for name in SAMPLERS:
        sampler, settings = resolve_sampler(saved, {"sampler": name})
        assert sampler.restriction == Restriction(1.5, ("cat",))
        assert (settings["ban"], settings["repetition_penalty"]) == (["cat"], 1.5)
    assert (
        resolve_sampler(saved, {"sampler": "ancestral"})[0].steps == SAMPLERS["ancestral"]().steps
    )
    assert resolve_sampler(saved, {"ban": ["dog"]})[0].restriction.ban == ("dog",)


def test_saved_filters_give_way_where_all_steps_are_burn_in():
    saved = {"name": "gibbs", "steps": 100, "top_k": 7, "min_p": 0.1}
    assert resolve_sampler(saved, {})[0].draw.top_k == 7
    for wished in ({"burn_in": 100}, {"steps": 8, "burn_in": 8}):
        sampler, settings = resolve_sampler(saved, wished)
        assert sampler.burnt_in == sampler.steps == settings["burn_in"]
        assert sampler.draw == Draw()
        assert (settings["top_k"], "min_p" in settings) == (None, False)
    with pytest.raises(UserError, match="a burn_in below steps"):
        resolve_sampler(saved, {"burn_in": 100, "top_k": 7})
    # And a saved burn-in where a filter is asked for.
    saved = {"name": "gibbs", "steps": 100, "burn_in": 100}
    assert resolve_sampler(saved, {})[1]["burn_in"] == 100
    assert resolve_sampler(saved, {"top_k": 7})[1]["burn_in"] == 50
    assert resolve_sampler(saved | {"burn_in": 80}, {"top_k": 7})[1]["burn_in"] == 80


def test_temperature_0_drops_the_filters_that_nobody_asked_for():
    saved = {"name": "ancestral", "top_p": 0.9, "top_p_crossing": "drop", "min_p": 0.1, "steps": 5}
    sampler, settings = resolve_sampler(saved, {"temperature": 0})
    assert sampler.draw == Draw(temperature=0)
    assert settings["steps"] == 5
    with pytest.raises(UserError, match="min-p"):
        resolve_sampler(saved, {"temperature": 0, "min_p": 0.2})


def test_top_p_1_takes_the_saved_convention_with_it():
    saved = {"name": "ancestral", "top_p": 0.9, "top_p_crossing": "drop"}
    assert resolve_sampler(saved, {"top_p": 0.5})[0].draw.top_p_crossing == "drop"
    assert resolve_sampler(saved, {"top_p": 1})[0].draw == Draw()
    with pytest.raises(UserError, match="a top_p below 1"):
        resolve_sampler(saved, {"top_p": 1, "top_p_crossing": "drop"})


@pytest.mark.parametrize(
    "given", ["1,0.7,.2,0", [1, 0.7, 0.2, 0], (1.0, 0.7, 0.2, 0.0), "1, 0.7,0.2 ,0"]
)
def test_a_grid_of_times_is_taken_as_it_is(given):
    sampler = make_sampler("ancestral", grid=given)
    assert sampler.num_steps == 3
    for masks in (1, 50):
        assert sampler.times(masks).tolist() == [1, 0.7, 0.2, 0]
    _, settings = resolve_sampler({"name": "ancestral", "steps": 64}, {"grid": given})
    assert settings["grid"] == [1, 0.7, 0.2, 0]
    assert settings["steps"] == 3


def test_a_grid_by_name():
    for name, kind in SAMPLERS.items():
        if issubclass(kind, GridSampler):
            for grid in ("uniform", "cosine"):
                sampler, settings = resolve_sampler({}, {"sampler": name, "grid": grid, "steps": 7})
                assert torch.equal(sampler.times(30), time_grid(7, grid))
                assert settings.get("grid", kind().grid) == grid


def test_the_times_of_confidence_are_a_pace():
    sampler = make_sampler("threshold", grid=[1, 0.5, 0])
    assert sampler.policy.tokens_per_step is None
    assert sampler.num_steps == 2


def test_steps_and_a_saved_grid_make_way_for_each_other():
    saved = {"name": "ancestral", "grid": [1, 0.5, 0]}
    assert resolve_sampler(saved, {})[0].num_steps == 2
    sampler, settings = resolve_sampler(saved, {"steps": 9})
    assert torch.equal(sampler.times(5), time_grid(9, "cosine"))
    assert "grid" not in settings
    named = {"name": "ancestral", "grid": "uniform", "steps": 3}
    assert torch.equal(resolve_sampler(named, {"steps": 4})[0].times(5), time_grid(4, "uniform"))
    # Options of a model's own sampler belong to that one alone.
    assert resolve_sampler(saved, {"sampler": "refine"})[0] == Refine()


def test_restrictions_of_a_model_can_be_taken_back():
    saved = {"name": "ancestral", "ban": ["cat"], "repetition_penalty": 1.2}
    sampler, settings = resolve_sampler(saved, {})
    assert sampler.restriction == Restriction(1.2, ("cat",))
    assert (settings["ban"], settings["repetition_penalty"]) == (["cat"], 1.2)
    sampler, settings = resolve_sampler(saved, {"ban": [], "repetition_penalty": 1})
    assert sampler.restriction == Restriction()
    assert "ban" not in settings
    assert make_sampler("refine", ban="a dog").restriction.ban == ("a dog",)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("ancestral", {"grid": [1, 0.5]}, "end at 0"),
        ("ancestral", {"grid": [0.9, 0.5, 0]}, "begin at 1"),
        ("ancestral", {"grid": [1, 0.5, 0.5, 0]}, "fall at every step"),
        ("ancestral", {"grid": [1, 0.2, 0.5, 0]}, "fall at every step"),
        ("ancestral", {"grid": [1, float("nan"), 0]}, "fall at every step"),
        ("ancestral", {"grid": [1]}, "begin at 1"),
        ("ancestral", {"grid": []}, "not none"),
        ("ancestral", {"grid": "1,x,0"}, "cannot read the grid"),
        ("ancestral", {"grid": 5}, "cannot read the grid"),
        ("ancestral", {"grid": [1, None, 0]}, "cannot read the grid"),
        ("ancestral", {"grid": "cosin"}, "choose uniform or cosine"),
        ("ancestral", {"grid": [1, 0.5, 0], "steps": 2}, "steps goes without a grid"),
        ("gibbs", {"grid": "cosine"}, "has no grid; it draws one position per step, so use steps$"),
        ("gibbs-sequential", {"grid": [1, 0]}, "has no grid"),
        ("threshold", {"grid": "cosine"}, "goes with steps"),
        ("threshold", {"min_p": 0.1}, "min-p"),
        ("ancestral", {"top_p_crossing": "drop"}, "a top_p below 1"),
        ("refine", {"top_p_crossing": "dorp"}, "'drop'"),
        ("ancestral", {"top_p_crossing": "keep"}, "a top_p below 1"),
        ("refine", {"min_p": 2}, "from 0 to 1"),
    ],
)
def test_what_makes_no_sense_is_refused(name, options, says):
    with pytest.raises(UserError, match=says):
        make_sampler(name, **options)
