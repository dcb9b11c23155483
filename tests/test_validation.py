"""Values from Python, NumPy and torch: taken for what they are, or refused in one sentence."""

import json
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from unmask import Unmasker
from unmask.errors import UserError
from unmask.pipelines.autoregressor import Autoregressor
from unmask.validation import (
    Options,
    flag,
    option,
    place,
    read_options,
    real,
    whole,
    with_default,
    word,
    words,
)


class Bytes:
    """A path of bytes."""

    def __fspath__(self) -> bytes:
        return b"a"


TAKEN = [
    (whole, 3, 3),
    (whole, np.int8(3), 3),
    (whole, np.uint64(3), 3),
    (whole, torch.tensor(3), 3),
    (real, 3, 3.0),
    (real, np.float32(0.5), 0.5),
    (real, Fraction(1, 4), 0.25),
    (flag, False, False),
    (flag, np.True_, True),
    (word, "", ""),
    (words, "ab", ["ab"]),
    (words, iter(["a", "b"]), ["a", "b"]),
    (place, Path("a") / "b", "a/b"),
]
REFUSED = [
    *((whole, value) for value in (1.0, np.float64(2), True, "1", None, float("nan"))),
    *((whole, value) for value in (np.True_, torch.tensor(True), torch.tensor([1, 2]))),
    *((real, value) for value in ("0.5", True, np.True_, None, [1], 1j, 10**400)),
    *((flag, value) for value in (0, "yes", None)),
    *((word, value) for value in (b"a", None, Path("a"))),
    *((words, value) for value in (b"a", None, 3, [None], ["a", b"b"], np.array("a"))),
    *((place, value) for value in ("", None, 3, b"a", Bytes())),
]


@pytest.mark.parametrize(("read", "value", "result"), TAKEN)
def test_what_is_meant_is_taken(read, value, result):
    found = read("it", value)
    assert (type(found), found) == (type(result), result)


@pytest.mark.parametrize(("read", "value"), REFUSED)
def test_anything_else_is_refused_by_name(read, value):
    with pytest.raises(UserError, match=r"^it must be "):
        read("it", value)


@pytest.fixture(scope="module")
def writer(zoo):
    return Unmasker.from_pretrained(str(zoo / "bert"))


@pytest.mark.parametrize(
    "options",
    [
        *({name: 1.5} for name in ("length", "num_samples", "seed", "window", "steps", "top_k")),
        *({name: "1"} for name in ("length", "seed", "steps", "temperature", "guidance_scale")),
        {"num_samples": None},
        {"seed": True},
        {"stop_at_end": 1},
        {"sampler": 1},
        {"confidence_metric": 1, "sampler": "maskgit"},
        {"matching": 1},
        {"allowed": 5},
        {"allowed": ["x"]},
        {"classifier": 1, "label": 0},
        {"prompt": b"Hello"},
        {"prompt": [None]},
    ],
    ids=repr,
)
def test_a_wrong_type_is_said_before_any_work(writer, options):
    (name,) = list(options)[:1]
    with pytest.raises(UserError, match=rf"^(an id in )?{name} (must be|is a list)"):
        writer.generate(**({"prompt": "Hello", "length": 2, "steps": 1} | options))


def test_numpy_is_as_good_as_python(writer):
    plain = writer.generate("Hello", length=4, steps=2, seed=3, temperature=0.5)
    other = writer.generate(
        "Hello",
        length=np.int32(4),
        steps=np.uint8(2),
        seed=np.int16(3),
        temperature=np.float32(0.5),
        num_samples=np.int64(1),
    )
    assert other.texts == plain.texts
    assert json.loads(json.dumps(other.as_dict()))["seed"] == 3
    grids = [[1.0, 0.5, 0.0], np.linspace(1, 0, 3), torch.linspace(1, 0, 3)]
    assert len({writer.generate("Hello", length=4, grid=grid).texts for grid in grids}) == 1
    assert writer.score("Hello", seed=np.int64(2)).nats == writer.score("Hello", seed=2).nats


def test_an_iterator_of_expressions_counts(writer):
    wish = "[a-c ]+"
    for matching in (wish, [wish], iter([wish])):
        text = writer.generate("[MASK:3]", matching=matching, steps=3).texts[0]
        assert set(text) <= set("abc ")


@pytest.mark.parametrize("text", [None, 1, ["a"], "\ud800"])
def test_only_a_text_is_scored(writer, zoo, text):
    for scorer in (writer, Autoregressor.from_pretrained(str(zoo / "gpt2"))):
        with pytest.raises(UserError, match=r"must be a text|half a character"):
            scorer.score(text)


@pytest.mark.parametrize(
    "options", [{"draws": 0}, {"draws": 10**7}, {"num_steps": 10**7}, {"batch_size": 0}], ids=repr
)
def test_numbers_of_a_score_have_an_end(writer, options):
    with pytest.raises(UserError):
        writer.score("Hello there", **options)


def test_one_prompt_is_not_several(zoo):
    writer = Autoregressor.from_pretrained(str(zoo / "gpt2"))
    for options in ({"prompt": ["a", "b"]}, {"seed": 1.5}, {"length": 1.5}, {"num_samples": 10**9}):
        with pytest.raises(UserError):
            writer.generate(**({"length": 2} | options))


@dataclass(frozen=True)
class Walk(Options):
    """Options to read."""

    section = "walk."
    steps: int | None = option(None, "Steps.", whole, low=1, high=9)
    speed: float = option(1.0, "Metres a second.", real, low=0, above=True)
    share: float = option(0.5, "Of the way.", real, low=0, high=1, below=True)
    gait: str = option("trot", "Kind of step.", word, choices=("trot", "canter"))
    names: tuple[str, ...] = option(tuple, "Of the horses.", words, repeated=True)


@dataclass(frozen=True)
class Run(Walk):
    """The same with another default."""

    speed: float = with_default(Walk, "speed", 5.0)


def test_options_are_read_and_refused():
    walk = Walk(np.int64(3), 2, names=["a"])
    assert (walk.steps, walk.speed, type(walk.steps), type(walk.speed)) == (3, 2.0, int, float)
    assert walk.given == {"steps": 3, "speed": 2.0, "names": ["a"]}
    assert Walk().given == {}
    for given, says in (
        ({"steps": 0}, "walk.steps must be from 1 to 9, not 0"),
        ({"steps": 1.5}, "walk.steps must be a whole number"),
        ({"speed": 0}, "walk.speed must be above 0, not 0"),
        ({"speed": float("nan")}, "walk.speed must be above 0, not nan"),
        ({"speed": float("inf")}, "walk.speed must be above 0 and finite, not inf"),
        ({"share": 1}, "walk.share must be from 0 to below 1, not 1"),
        ({"gait": "cantr"}, "unknown walk.gait 'cantr'; did you mean 'canter'?"),
        ({"speed": None}, "walk.speed must be a number"),
    ):
        with pytest.raises(UserError, match=says.replace("?", r"\?")):
            Walk(**given)
        with pytest.raises(UserError):
            replace(Walk(), **given)


def test_options_are_inherited_with_another_default():
    assert Run().speed == 5
    assert Run.options() == Walk.options()
    with pytest.raises(UserError, match="above 0"):
        Run(speed=-1)


def test_options_by_name():
    assert read_options(Walk.options(), {"steps": 2, "gait": None}, "walk") == {"steps": 2}
    with pytest.raises(UserError, match="unknown walk option 'step'; did you mean 'steps'"):
        read_options(Walk.options(), {"step": 2}, "walk")
