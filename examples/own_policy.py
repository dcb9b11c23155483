"""A policy of one's own: from both ends to the middle, several tokens per step.

python examples/own_policy.py

Any order can be generated with the same network, the same loop and the same options.
"""

import torch

from unmask import Unmasker
from unmask.sampling import Move, Policy, best, quota


class OutsideIn(Policy):
    """Reveal the masks of every row that are nearest to one of its ends."""

    def candidates(self, canvas, clock, rng):
        left = canvas.masked.cumsum(1)
        depth = torch.minimum(2 * left - 1, 2 * (left[:, -1:] - left) + 2)
        return canvas.masked & best(-depth.where(canvas.masked, 10**6), quota(canvas, clock))

    def choose(self, canvas, candidates, prediction, clock, rng):
        return Move(reveal=candidates)


if __name__ == "__main__":
    writer = Unmasker.from_pretrained(device="cpu")
    print(writer.generate("The town", length=40, sampler=OutsideIn(), steps=10).texts[0])
