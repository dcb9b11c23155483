"""Samplers by name: every option is honoured by those that have it and refused by the others."""

import pytest

from unmask.cli import options as command_line
from unmask.confidence import EntropyBound, Factor, MostConfident, Threshold
from unmask.draw import Draw
from unmask.errors import UserError
from unmask.orders import FirstHitting, LeftToRight, RandomQuota
from unmask.presets import POLICY_OPTIONS, PRESETS, choose_preset, make_preset
from unmask.remasking import Capped, Loop, Remask, Rescaled
from unmask.revising import Edited, Planned

SURE = MostConfident("confidence", 1, Threshold(0.9))
# Every sampler that has an option of the policies, with the policy that it then is.
HONOURED = {
    "tokens_per_step": {
        "random-quota": RandomQuota(2),
        "first-hitting": FirstHitting(2),
        "left-to-right": LeftToRight(2),
        "confidence": MostConfident("drawn", 2, Threshold(0.9)),
        "schedule-confidence": MostConfident("drawn", 2),
        "confidence-factor": MostConfident("confidence", 2, Factor(1.0)),
        "entropy-bound": MostConfident("entropy", 2, EntropyBound(0.1)),
        "confidence-edit": Edited(MostConfident("confidence", 2, Threshold(0.9))),
    },
    "threshold": {
        "confidence": MostConfident("drawn", 1, Threshold(0.25)),
        "confidence-edit": Edited(MostConfident("confidence", 1, Threshold(0.25))),
    },
    "factor": {"confidence-factor": MostConfident("confidence", 1, Factor(0.25))},
    "gamma": {"entropy-bound": MostConfident("entropy", 1, EntropyBound(0.25))},
    "eta": {
        "remask-capped": Remask(Capped(0.25)),
        "remask-rescaled": Remask(Rescaled(0.25)),
        "remask-loop": Remask(Loop(0.25)),
        "keep-likeliest": Planned(0.25),
    },
    "edit_below": {"confidence-edit": Edited(SURE, 0.25)},
    "measure": {
        "confidence": MostConfident("confidence", 1, Threshold(0.9)),
        "schedule-confidence": MostConfident("confidence"),
        "confidence-factor": MostConfident("confidence", 1, Factor(1.0)),
        "confidence-edit": Edited(SURE),
    },
}
VALUES = {"tokens_per_step": 2, "measure": "confidence"}


@pytest.mark.parametrize("option", POLICY_OPTIONS)
@pytest.mark.parametrize("name", PRESETS)
def test_an_option_is_honoured_or_refused(name, option):
    value = VALUES.get(option, 0.25)
    if name in HONOURED[option]:
        preset = make_preset(name, **{option: value})
        assert preset.policy == HONOURED[option][name]
        assert choose_preset({}, {"sampler": name, option: value})[1][option] == value
    elif (name, option) == ("entropy-bound", "measure"):
        with pytest.raises(UserError, match="judges guesses by 'entropy'"):
            make_preset(name, measure=value)
    else:
        with pytest.raises(UserError, match=f"has no {option.replace('_', '-')}; these have: "):
            make_preset(name, **{option: value})


def test_a_refusal_names_the_samplers_that_have_the_option():
    with pytest.raises(UserError, match=r"these have: confidence, confidence-edit$"):
        make_preset("ancestral", threshold=0.5)


def test_the_command_line_knows_every_sampler_and_option():
    assert command_line.NAMES.split(", ") == list(PRESETS)
    assert set(command_line.DIFFUSION_ONLY) == {"sampler", "steps", "burn_in", *POLICY_OPTIONS}
    assert list(HONOURED.keys() - set(POLICY_OPTIONS)) == []


@pytest.mark.parametrize("name", PRESETS)
def test_steps_set_the_pace(name):
    """A policy that has a number of tokens per step of its own takes what the grid asks for."""
    preset = make_preset(name, steps=5)
    assert len(preset.times(40)) == 6
    policy = preset.policy.order if isinstance(preset.policy, Edited) else preset.policy
    assert getattr(policy, "tokens_per_step", None) is None


def test_as_many_steps_as_the_policy_may_need():
    assert len(make_preset("left-to-right").times(40)) == 41
    assert len(make_preset("schedule-confidence", tokens_per_step=4).times(40)) == 41
    assert len(make_preset("confidence-edit").times(40)) == 40 * 3 + 2


def test_two_paces_are_refused_and_the_saved_one_gives_way():
    with pytest.raises(UserError, match="leave one out"):
        make_preset("left-to-right", steps=5, tokens_per_step=2)
    saved = {"name": "schedule-confidence", "steps": 5, "top_p": 0.5}
    preset, settings = choose_preset(saved, {"tokens_per_step": 2})
    assert (preset.steps, preset.policy.tokens_per_step, preset.draw.top_p) == (None, 2, 0.5)
    assert settings["tokens_per_step"] == 2
    saved = {"name": "left-to-right", "tokens_per_step": 3}
    preset, settings = choose_preset(saved, {"steps": 5})
    assert (preset.steps, preset.policy.tokens_per_step) == (5, None)
    assert "tokens_per_step" not in settings


def test_a_temperature_that_would_change_nothing_is_refused():
    """The likeliest token is taken, and the measure is that of temperature 1."""
    for name in ("confidence-factor", "confidence-edit"):
        with pytest.raises(UserError, match="temperature would have no effect"):
            make_preset(name, temperature=0.5)
        assert make_preset(name, temperature=0.0).draw.greedy
    with pytest.raises(UserError, match="temperature would have no effect"):
        make_preset("confidence", temperature=0.5, measure="margin")
    assert make_preset("confidence", temperature=0.5).draw == Draw(0.5, greedy=True)
    # One that was saved for the measure before gives way; one of a random draw stays.
    saved = {"name": "confidence", "temperature": 0.8}
    assert choose_preset(saved, {"measure": "margin"})[1]["measure"] == "margin"
    saved = {"name": "schedule-confidence", "temperature": 0.7}
    assert choose_preset(saved, {"measure": "margin"})[0].draw.temperature == 0.7


def test_settings_hold_what_is_in_force_and_nothing_else():
    settings = choose_preset({}, {"sampler": "confidence-edit", "threshold": 0.5})[1]
    assert settings == {
        "sampler": "confidence-edit",
        "steps": None,
        "temperature": 1.0,
        "top_k": None,
        "top_p": 1.0,
        "tokens_per_step": 1,
        "measure": "confidence",
        "threshold": 0.5,
        "edit_below": 0.01,
    }
    assert "eta" not in choose_preset({}, {"sampler": "remask-least-sure"})[1]


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("entropy-bound", {"gamma": -1.0}, "gamma"),
        ("confidence-factor", {"factor": float("nan")}, "factor"),
        ("remask-capped", {"eta": 1.5}, "eta"),
        ("keep-likeliest", {"eta": -1.0}, "eta"),
        ("left-to-right", {"tokens_per_step": 0}, "tokens per step"),
        ("confidence-edit", {"edit_below": 2.0}, "edit-below"),
        ("confidence", {"measure": "margn"}, "'margin'"),
        ("confidence", {"measure": "entropy"}, "judges guesses by"),
        ("confidence-edit", {"measure": "margin"}, "cannot go by 'margin'"),
    ],
)
def test_numbers_out_of_range_are_refused(name, options, says):
    with pytest.raises(UserError, match=says):
        make_preset(name, **options)


def test_an_unknown_option_is_named():
    with pytest.raises(UserError, match="there is no sampler option 'warmth'"):
        choose_preset({}, {"warmth": 1})
