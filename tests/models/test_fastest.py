"""Which exact backend is taken by itself: the one that measures faster, once for each model."""

import json

import pytest
import torch
from torch import nn

from unmask import Unmasker
from unmask.models.loading import load_model
from unmask.models.runtimes import fastest, packed
from unmask.pipelines.autoregressor import Autoregressor

pytestmark = pytest.mark.skipif(not packed.available(), reason="this torch has no oneDNN")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The file in which timings are kept, of one test alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "unmask" / "backends.json"


@pytest.fixture
def measured(monkeypatch):
    """Small models are measured as well."""
    monkeypatch.setattr(fastest, "SMALLEST", 0)


def layer(size: int = 2048) -> nn.Module:
    """A large layer without any memory behind it."""
    return nn.Sequential(nn.Linear(size, size, device="meta"))


def taking(torch_seconds: float, packed_seconds: float, calls: list | None = None):
    """Return timings as ``time_layers`` would; what is measured is noted in ``calls``."""

    def timed(model, rows):
        if calls is not None:
            calls.append(rows)
        times = {"torch": torch_seconds, "torch-packed": packed_seconds}
        return {way: [seconds, 1.01 * seconds, 5.0] for way, seconds in times.items()}

    return timed


def never(model, rows):
    raise AssertionError("measured again")


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ((1.0, 2.0), "torch"),
        ((2.0, 1.0), "torch-packed"),
        ((0.94, 1.0), "torch"),
        # Within the margin the default stays.
        ((0.96, 1.0), "torch-packed"),
        ((1.0, 1.0), "torch-packed"),
    ],
)
def test_the_faster_one_is_taken_and_remembered(cache, seconds, chosen):
    assert fastest.fastest(layer(), 8, taking(*seconds)) == chosen
    assert fastest.fastest(layer(), 8, never) == chosen
    assert len(json.loads(cache.read_text(encoding="utf-8"))) == 1


def test_another_size_another_call_and_another_number_of_threads_are_measured_anew():
    calls: list[int] = []
    timed = taking(1.0, 2.0, calls)
    for _ in range(2):
        fastest.fastest(layer(), 8, timed)
        fastest.fastest(layer(3000), 8, timed)
        fastest.fastest(layer(), 1, timed)
    assert calls == [8, 8, 1]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(before + 1)
        fastest.fastest(layer(), 8, timed)
    finally:
        torch.set_num_threads(before)
    assert calls == [8, 8, 1, 8]


def test_timings_that_do_not_repeat_decide_nothing():
    def disturbed(model, rows):
        return {"torch": [1.0, 1.4], "torch-packed": [2.0, 2.1]}

    assert fastest.fastest(layer(), 8, disturbed) == "torch-packed"
    assert fastest.fastest(layer(), 8, taking(1.0, 2.0)) == "torch"


def test_a_busy_machine_decides_nothing(cache):
    assert fastest.fastest(layer(), 8, lambda model, rows: None) == "torch-packed"
    assert not cache.exists()
    assert not fastest.is_busy(load=0.4, threads=2, processors=2)
    assert not fastest.is_busy(load=3.0, threads=8, processors=16)
    assert fastest.is_busy(load=2.0, threads=2, processors=2)
    assert fastest.is_busy(load=17.0, threads=1, processors=16)


DAMAGED = ["", "{", "[]", "3", "[" * 9999, '{"%s": 3}', '{"%s": {"torch": 1}}']
DAMAGED += ['{"%s": {"torch": [], "torch-packed": [1]}}', '{"%s": {"torch": 1, "torch-packed": 1}}']
DAMAGED += ['{"%s": {"torch": ["a"], "torch-packed": [1]}}']


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_file_is_measured_again_and_replaced(cache, content):
    fastest.fastest(layer(), 8, taking(1.0, 2.0))
    (key,) = json.loads(cache.read_text(encoding="utf-8"))
    cache.write_text(content % key if "%s" in content else content, encoding="utf-8")
    assert fastest.fastest(layer(), 8, taking(2.0, 1.0)) == "torch-packed"
    assert fastest.fastest(layer(), 8, never) == "torch-packed"


def test_a_place_that_cannot_be_written_is_no_error(cache):
    cache.parent.write_text("a file where the folder belongs", encoding="utf-8")
    calls: list[int] = []
    for _ in range(2):
        assert fastest.fastest(layer(), 8, taking(1.0, 2.0, calls)) == "torch"
    assert calls == [8, 8]


def test_a_tiny_model_is_not_measured(zoo, cache):
    assert fastest.fastest(load_model(str(zoo / "bert"), "masked"), 64, never) == "torch-packed"
    assert not cache.exists()


@pytest.mark.parametrize("name", ["bert", "albert", "gpt2", "llama"])
def test_the_layers_of_a_model_are_timed_and_the_model_stays_as_it_is(zoo, name):
    model = load_model(str(zoo / name), "causal" if name in ("gpt2", "llama") else "masked")
    before = [(type(m), set(m._forward_hooks)) for m in model.modules()]
    found = fastest.time_layers(model, 3)
    assert found.keys() == {"torch", "torch-packed"}
    assert all(0 < times[0] <= times[1] for times in found.values())
    assert [(type(m), set(m._forward_hooks)) for m in model.modules()] == before


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_an_opened_model_follows_the_timings_on_record(zoo, cache, name):
    opened = Autoregressor if name == "gpt2" else Unmasker
    layers = packed.layers_of(load_model(str(zoo / name), opened_kind(name)))
    rows = 1 if name == "gpt2" else 64
    texts = {}
    for chosen, seconds in (("torch", (1.0, 2.0)), ("torch-packed", (2.0, 1.0))):
        cache.unlink(missing_ok=True)
        fastest.fastest(load_model(str(zoo / name), opened_kind(name)), rows, taking(*seconds))
        writer = opened.from_pretrained(str(zoo / name), "cpu")
        kinds = [type(m) for m in writer.model.modules()]
        count = sum(kind in (packed.PackedLinear, packed.PackedConv1D) for kind in kinds)
        assert (writer.backend, count) == (chosen, len(layers) if chosen != "torch" else 0)
        result = writer.generate("The cat", length=12, seed=4)
        assert result.settings.get("backend", "torch") == chosen
        texts[chosen] = result.texts
    assert texts["torch"] == texts["torch-packed"]


def opened_kind(name: str) -> str:
    return "causal" if name == "gpt2" else "masked"
