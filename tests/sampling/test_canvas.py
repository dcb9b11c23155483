"""The canvas guards what was given, and what is masked is stored, not read off the ids."""

import dataclasses

import pytest
import torch

from unmask.errors import UserError
from unmask.sampling.canvas import Canvas

MASK, PAD = 9, 8


def canvas() -> Canvas:
    # The given 9 has the id of [MASK] and is still no blank.
    return Canvas.from_rows([[1, None, MASK, None], [None, 2]], MASK, PAD)


def test_rows_become_a_padded_batch():
    c = canvas()
    assert c.ids.tolist() == [[1, MASK, MASK, MASK], [MASK, 2, PAD, PAD]]
    assert c.masked.tolist() == [[False, True, False, True], [True, False, False, False]]
    assert torch.equal(c.editable, c.masked)
    assert c.valid.tolist() == [[True] * 4, [True, True, False, False]]


def test_reveal_writes_only_where_it_may():
    before = canvas()
    everywhere = torch.ones(2, 4, dtype=torch.bool)
    after = before.reveal(everywhere, torch.full((2, 4), 5))
    assert after.ids.tolist() == [[1, 5, MASK, 5], [5, 2, PAD, PAD]]
    assert not after.masked.any()
    assert torch.equal(before.ids, canvas().ids)


def test_remask_masks_only_what_it_may():
    everywhere = torch.ones(2, 4, dtype=torch.bool)
    written = canvas().reveal(everywhere, torch.full((2, 4), 5))
    again = written.remask(everywhere, MASK)
    assert torch.equal(again.ids, canvas().ids)
    assert torch.equal(again.masked, canvas().masked)


def test_a_canvas_is_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        canvas().ids = torch.zeros(1)


@pytest.mark.parametrize("rows", [[], [[]], [[], []]])
def test_nothing_to_write_is_refused(rows):
    with pytest.raises(UserError, match="nothing to write"):
        Canvas.from_rows(rows, MASK, PAD)
