"""A policy of one's own: from left to right, several tokens a step.

python examples/own_policy.py

Any order can be written with the same network, the same loop and the same frames.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from unmask import Unmasker
from unmask.canvas import Canvas
from unmask.draw import Draw
from unmask.noise import Noise
from unmask.policy import Clock, Guess, Move
from unmask.sampler import sample
from unmask.schedule import time_grid


@dataclass(frozen=True)
class LeftToRight:
    """Reveal the leftmost masks of every row, as many as the time grid asks for."""

    revises: bool = False  # visible tokens stay
    follows_grid: bool = False  # the network is told the time of the canvas, not of the grid

    def candidates(self, canvas: Canvas, clock: Clock, noise: Noise) -> Tensor:
        # The order is known beforehand, so the head runs for these positions only.
        hidden = canvas.masked.sum(1)
        share = clock.process.reveal_prob(clock.t, clock.s)  # 1 in the last step
        quota = torch.ceil(hidden * share - 1e-9)
        rank = canvas.masked.cumsum(1)  # 1 for the leftmost mask
        return canvas.masked & (rank <= quota[:, None])

    def choose(
        self, canvas: Canvas, candidates: Tensor, guess: Guess, clock: Clock, noise: Noise
    ) -> Move:
        return Move(reveal=candidates)


def main() -> None:
    writer = Unmasker.from_pretrained(device="cpu")
    codec = writer.codec
    row = [*codec.start, *codec.encode("The history of the town"), *[None] * 40]
    canvas = Canvas.from_rows([row], codec.mask_token_id, codec.pad_token_id)
    noise = Noise(torch.tensor([0]))  # one seed per row
    grid = time_grid(10)
    frames = sample(
        writer.denoiser, writer.method.process, canvas, LeftToRight(), Draw(top_p=0.9), grid, noise
    )
    for frame in frames:
        pieces = codec.pieces(frame.canvas.ids[0].tolist())
        hidden = frame.canvas.masked[0].tolist()
        shown = "".join("_" if h else p for p, h in zip(pieces, hidden, strict=True))
        print(f"{frame.step:2}", shown.replace("\n", " "))


if __name__ == "__main__":
    main()
