"""A server calls one writer from many threads: each gets what it would get alone."""

import copy
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from conftest import story
from test_resuming import SMALL, line
from unmask import Unmasker
from unmask.cli import main

THREADS, CALLS = 8, 32


def written(writer: Unmasker, call: int) -> str:
    """Return the text of a call, whose kind, length and seed depend on its number."""
    if call % 4 == 3:
        return f"{writer.score('The cat sat on the mat. Nobody slept.', draws=1, seed=call).nats}"
    # Of several tokens a step, so that all rows of a batch are at work.
    options = {"seed": call, "steps": 3, "num_samples": 1 + call % 2}
    return "|".join(writer.generate("The cat", length=4 + call % 5, **options).texts)


def same_in_threads(writer: Unmasker) -> None:
    alone = [written(writer, call) for call in range(CALLS)]
    assert len(set(alone)) > CALLS // 2
    with ThreadPoolExecutor(THREADS) as pool:
        together = list(pool.map(lambda call: written(writer, call), range(CALLS)))
    assert together == alone


@pytest.fixture(autouse=True)
def quick_switches():
    """Let threads take turns as often as possible."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("name", ["bert", "roberta", "modernbert", "albert"])
def test_threads_write_what_one_writes(zoo, name):
    same_in_threads(Unmasker.from_pretrained(str(zoo / name), backend="torch"))


@pytest.mark.parametrize("cache", ["off", "frozen"])
def test_threads_with_another_cache(zoo, cache):
    same_in_threads(Unmasker.from_pretrained(str(zoo / "bert"), cache=cache, backend="torch"))


@pytest.mark.parametrize(
    ("recipe", "more"),
    [
        ("genmd4", {}),
        ("any-order", {}),
        ("block-diffusion", {"objective__block_length": 4, "model__type": "llama"}),
    ],
)
def test_threads_of_a_network_of_ours(text_file, tmp_path, recipe, more):
    small = {key.replace(".", "__"): value for key, value in SMALL.items()}
    assert main(line(text_file, tmp_path / "m", recipe, **(small | more))) == 0
    same_in_threads(Unmasker.from_pretrained(str(tmp_path / "m"), backend="torch"))


def test_a_writer_can_still_be_copied(zoo):
    writer = Unmasker.from_pretrained(str(zoo / "bert"))
    writer.generate(story(1), length=2)
    twin = copy.deepcopy(writer.model)
    assert torch.equal(next(twin.parameters()), next(writer.model.parameters()))
