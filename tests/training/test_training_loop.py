"""The training loop by hand: the example and the one in the README."""

import re
from pathlib import Path

import torch
from examples.training_loop import LENGTH, TEXT, train

from unmask import Unmasker

README = Path(__file__).parents[2] / "README.md"


def test_the_bound_of_the_example_falls():
    unmasker = Unmasker.from_pretrained(device="cpu", backend="torch")
    ids = torch.tensor(unmasker.codec.encode(TEXT * 40))
    losses = train(unmasker, ids[: len(ids) // LENGTH * LENGTH].view(-1, LENGTH), steps=12)
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])
    assert not unmasker.model.training


def test_the_loop_of_the_readme_runs():
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    (loop,) = (block for block in blocks if "continuous_nelbo" in block)
    names = {}
    exec(loop, names)
    assert names["loss"].per_token.item() < 2
