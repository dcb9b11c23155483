"""Options of a sampler: what they become, which of a model's own make way, and what is refused."""

import pytest
import torch

from unmask.draw import Draw
from unmask.errors import UserError
from unmask.presets import PRESETS, choose_preset, make_preset
from unmask.restriction import Restriction
from unmask.schedule import time_grid


def test_filters_reach_the_draw_and_the_burn_in_has_none():
    preset = make_preset("ancestral", top_p=0.8, top_p_crossing="drop", min_p=0.1)
    assert preset.draw == Draw(top_p=0.8, top_p_crossing="drop", min_p=0.1)
    drawing = make_preset("gibbs", min_p=0.2, steps=10, burn_in=3).drawing
    assert drawing.at(2) == Draw()
    assert drawing.at(3) == Draw(top_k=100, min_p=0.2)


def test_temperature_0_drops_the_filters_that_nobody_asked_for():
    saved = {"name": "ancestral", "top_p": 0.9, "top_p_crossing": "drop", "min_p": 0.1, "steps": 5}
    preset, settings = choose_preset(saved, {"temperature": 0})
    assert preset.draw == Draw(temperature=0)
    assert settings["steps"] == 5
    with pytest.raises(UserError, match="min-p"):
        choose_preset(saved, {"temperature": 0, "min_p": 0.2})


def test_top_p_1_takes_the_saved_convention_with_it():
    saved = {"name": "ancestral", "top_p": 0.9, "top_p_crossing": "drop"}
    assert choose_preset(saved, {"top_p": 0.5})[0].draw.top_p_crossing == "drop"
    assert choose_preset(saved, {"top_p": 1})[0].draw == Draw()
    with pytest.raises(UserError, match="without top-p"):
        choose_preset(saved, {"top_p": 1, "top_p_crossing": "drop"})


@pytest.mark.parametrize(
    "given", ["1,0.7,.2,0", [1, 0.7, 0.2, 0], (1.0, 0.7, 0.2, 0.0), "1, 0.7,0.2 ,0"]
)
def test_a_grid_of_times_is_taken_as_it_is(given):
    preset = make_preset("ancestral", grid=given)
    assert preset.steps == 3
    for masks in (1, 50):
        assert preset.times(masks).tolist() == [1, 0.7, 0.2, 0]
    _, settings = choose_preset({"name": "ancestral", "steps": 64}, {"grid": given})
    assert settings["grid"] == [1, 0.7, 0.2, 0]
    assert settings["steps"] == 3


def test_a_grid_by_name():
    for name in PRESETS:
        if "gibbs" not in name:
            for grid in ("uniform", "cosine"):
                preset, settings = choose_preset({}, {"sampler": name, "grid": grid, "steps": 7})
                assert torch.equal(preset.times(30), time_grid(7, grid))
                assert settings.get("grid", PRESETS[name].grid) == grid


def test_the_times_of_confidence_are_a_pace():
    preset = make_preset("confidence", grid=[1, 0.5, 0])
    assert preset.policy.paced
    assert preset.steps == 2


def test_steps_and_a_saved_grid_make_way_for_each_other():
    saved = {"name": "ancestral", "grid": [1, 0.5, 0]}
    assert choose_preset(saved, {})[0].steps == 2
    preset, settings = choose_preset(saved, {"steps": 9})
    assert torch.equal(preset.times(5), time_grid(9, "cosine"))
    assert "grid" not in settings
    named = {"name": "ancestral", "grid": "uniform", "steps": 3}
    assert torch.equal(choose_preset(named, {"steps": 4})[0].times(5), time_grid(4, "uniform"))
    # Options of a model's own sampler belong to that one alone.
    assert choose_preset(saved, {"sampler": "refine"})[0] == PRESETS["refine"]


def test_restrictions_of_a_model_can_be_taken_back():
    saved = {"name": "ancestral", "ban": ["cat"], "repetition_penalty": 1.2}
    preset, settings = choose_preset(saved, {})
    assert preset.restriction == Restriction(1.2, ("cat",))
    assert (settings["ban"], settings["repetition_penalty"]) == (["cat"], 1.2)
    preset, settings = choose_preset(saved, {"ban": [], "repetition_penalty": 1})
    assert preset.restriction == Restriction()
    assert "ban" not in settings
    assert make_preset("refine", ban="a dog").restriction.ban == ("a dog",)


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
        ("ancestral", {"grid": [1, 0.5, 0], "steps": 2}, "leave steps out"),
        ("gibbs", {"grid": "cosine"}, "has no grid"),
        ("gibbs-sequential", {"grid": [1, 0]}, "has no grid"),
        ("confidence", {"grid": "cosine"}, "only if it is given steps"),
        ("confidence", {"min_p": 0.1}, "min-p"),
        ("ancestral", {"top_p_crossing": "drop"}, "without top-p"),
        ("refine", {"top_p_crossing": "dorp"}, "'drop'"),
        ("refine", {"min_p": 2}, "from 0 to 1"),
    ],
)
def test_what_makes_no_sense_is_refused(name, options, says):
    with pytest.raises(UserError, match=says):
        make_preset(name, **options)
