"""A policy of one's own: from both ends to the middle, several tokens a step.

python examples/own_policy.py

Any order can be written with the same network, the same loop and the same frames.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from unmask import Unmasker
from unmask.diffusion.rng import RowRng
from unmask.diffusion.schedules.grids import time_grid
from unmask.sampling.canvas import Canvas
from unmask.sampling.policies.base import Clock, Move, Policy, Prediction, best, quota
from unmask.sampling.sampler import sample
from unmask.sampling.token_sampling import Draw


@dataclass(frozen=True)
class OutsideIn(Policy):
    """Reveal the masks of every row that are nearest to one of its ends."""

    def candidates(self, canvas: Canvas, clock: Clock, rng: RowRng) -> Tensor:
        # The order is known beforehand, so the head runs for these positions only.
        from_left = canvas.masked.cumsum(1)  # 1 for the leftmost mask
        from_right = canvas.masked.sum(1, keepdim=True) - from_left
        depth = torch.minimum(2 * from_left - 1, 2 * from_right + 2)
        nearest = best(-depth.masked_fill(~canvas.masked, 10**6), quota(canvas, clock))
        return nearest & canvas.masked

    def choose(
        self, canvas: Canvas, candidates: Tensor, prediction: Prediction, clock: Clock, rng: RowRng
    ) -> Move:
        return Move(reveal=candidates)


def main() -> None:
    writer = Unmasker.from_pretrained(device="cpu")
    codec = writer.codec
    row = [*codec.start, *codec.encode("The history of the town"), *[None] * 40]
    canvas = Canvas.from_rows([row], codec.mask_token_id, codec.pad_token_id)
    rng = RowRng(torch.tensor([0]))  # one seed per row
    grid = time_grid(10)
    frames = sample(
        writer.denoiser, writer.formulation.process, canvas, OutsideIn(), Draw(top_p=0.9), grid, rng
    )
    for frame in frames:
        pieces = codec.pieces(frame.canvas.ids[0].tolist())
        hidden = frame.canvas.masked[0].tolist()
        shown = "".join("_" if h else p for p, h in zip(pieces, hidden, strict=True))
        print(f"{frame.step:2}", shown.replace("\n", " "))


if __name__ == "__main__":
    main()
