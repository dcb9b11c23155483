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
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Made once: a scalar of NumPy takes as long as the addition of a few hundred.
_GOLDEN, _MIX_1, _MIX_2, _30, _27, _31, _12 = map(
    np.uint64, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 30, 27, 31, 12)
)

# NumPy and not torch: unsigned, and three times as fast on the few numbers of a step.
_Bits = NDArray[np.uint64]


def _hash(x: _Bits) -> _Bits:
    x = x + _GOLDEN
    x = (x ^ (x >> _30)) * _MIX_1
    x = (x ^ (x >> _27)) * _MIX_2
    return x ^ (x >> _31)


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
        key = _hash(self._key("part") ^ np.uint64(index))
        return Noise(self._on_device(key.view(np.int64)))

    def uniform(self, stream: str, step: int, length: int) -> Tensor:
        """Return float64 numbers in (0, 1), shape (B, length).

        Args:
            stream: What the numbers are for; different streams are independent.
            step: The step of the sampler.
            length: Number of positions, L.
        """
        key = _hash(self._key(stream) ^ np.uint64(step))
        position = np.arange(self.first, self.first + length, dtype=np.uint64)
        # 52 bits and not 53: the half that keeps 0 and 1 out has to fit in a float64 as well.
        bits = _hash(_hash(key[:, None] ^ position)) >> _12
        return self._on_device((bits.astype(np.float64) + 0.5) * 2.0**-52)

    def _key(self, stream: str) -> _Bits:
        label = np.uint64(int.from_bytes(stream.encode()[:7], "little"))
        return _hash(self._root ^ label)

    @cached_property
    def _root(self) -> _Bits:
        return _hash(self.seeds.cpu().numpy().view(np.uint64))

    def _on_device(self, numbers: NDArray[Any]) -> Tensor:
        return torch.from_numpy(numbers).to(self.seeds.device)
