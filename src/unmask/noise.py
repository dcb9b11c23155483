r"""Counter-based random numbers: the noise of a row depends on its seed and on nothing else.

    u = hash(seed, stream, step, position)  in (0, 1)

Because every number is computed from its own coordinates, a row draws the same text alone, in a
batch, next to longer neighbours, padded or not, on a CPU or a GPU, and with a cache on or off. The
hash is the finaliser of SplitMix64; 52 bits are kept, so the smallest value is about 1e-16 and no
tail is cut off, which float32 noise would do.

Reference: Steele, Lea, Flood 2014, "Fast Splittable Pseudorandom Number Generators", OOPSLA.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Shift an int64 right without copying its sign, as if it were unsigned."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _hash(x: Tensor) -> Tensor:
    x = x + _GOLDEN
    x = (x ^ _shift_right(x, 30)) * _MIX_1
    x = (x ^ _shift_right(x, 27)) * _MIX_2
    return x ^ _shift_right(x, 31)


@dataclass(frozen=True)
class Noise:
    """Random numbers of a batch.

    Args:
        seeds: Shape (B,), int64; one per row.
        first: The position that the first number of a row belongs to, for a part of a row.
    """

    seeds: Tensor
    first: int = 0

    def part(self, index: int) -> Noise:
        """Return independent numbers for a part of each row; part 0 has those of the row itself."""
        if index == 0:
            return self
        label = int.from_bytes(b"part", "little")
        return Noise(_hash(_hash(_hash(self.seeds) ^ label) ^ index))

    def uniform(self, stream: str, step: int, length: int) -> Tensor:
        """Return float64 numbers in (0, 1), shape (B, length).

        Args:
            stream: What the numbers are for; different streams are independent.
            step: The step of the sampler.
            length: Number of positions, L.
        """
        label = int.from_bytes(stream.encode()[:7], "little")
        key = _hash(_hash(_hash(self.seeds) ^ label) ^ step)
        position = torch.arange(self.first, self.first + length, device=key.device)
        # 52 bits and not 53: the half that keeps 0 and 1 out has to fit in a float64 as well.
        bits = _shift_right(_hash(_hash(key[:, None] ^ position)), 12)
        return (bits.double() + 0.5) * 2.0**-52
