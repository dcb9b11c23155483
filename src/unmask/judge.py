"""Which of the rows that compete with each other to keep: the one that the model finds likeliest.

Rows of different lengths are compared by the bound on all their text, in nats per token.
"""

from __future__ import annotations

import torch

from unmask.canvas import Canvas
from unmask.codec.text import TextCodec
from unmask.denoiser import Denoiser, masked_cross_entropy
from unmask.errors import UserError
from unmask.method import Method, UniformMethod
from unmask.noise import Noise
from unmask.plan import Plan
from unmask.process import AbsorbingProcess
from unmask.schedule import make_schedule

DRAWS = 16


def check_rivals(plan: Plan, method: Method) -> None:
    """Raise a UserError if rows compete and the method has no masks to judge them with."""
    if isinstance(method, UniformMethod) and any(len(group) > 1 for group in plan.groups):
        raise UserError("blanks of unknown length are judged with masks, which this model lacks")


@torch.no_grad()
def likeliest(
    plan: Plan, canvas: Canvas, codec: TextCodec, denoiser: Denoiser, method: Method
) -> tuple[list[int], int]:
    """Return the row of each group with the lowest bound per token, and the calls it took.

    Args:
        plan: Which rows compete, and their seeds.
        canvas: The finished rows.
        codec: The tokenizer.
        denoiser: The network, not called where no row has a rival.
        method: What it was trained by.

    Raises:
        UserError: If the method has no masks to judge with.
    """
    if all(len(group) == 1 for group in plan.groups):
        return [group[0] for group in plan.groups], 0
    check_rivals(plan, method)
    editable = canvas.valid.clone()
    editable[:, : len(codec.start)] = False
    tokens = editable.sum(1)
    noise, length = Noise(plan.seeds), canvas.ids.shape[1]
    process = AbsorbingProcess(make_schedule("linear"), codec.mask_token_id)
    total = torch.zeros(len(tokens), dtype=torch.float64, device=tokens.device)
    for draw in range(DRAWS):
        # Every length is judged at the same shares of hidden tokens, and every row by its own
        # seed, so that the choice does not depend on what else is in the batch.
        count = torch.ceil((draw + 0.5) / DRAWS * tokens).long()
        order = noise.uniform("judge", draw, length)
        hidden = process.hide_first(canvas.ids, order, count, editable)
        time = process.time_of(hidden.masked, editable)
        nats = masked_cross_entropy(
            denoiser, hidden.ids, time, canvas.ids, hidden.masked, canvas.valid
        )
        total += nats.double() / count
    scores = total.tolist()
    return [min(group, key=scores.__getitem__) for group in plan.groups], DRAWS
