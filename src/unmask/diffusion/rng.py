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
from math import prod
from typing import Any, TypeAlias

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
class RowRng:
    """Random numbers of a batch.

    Args:
        seeds: Shape (B,), int64; one per row.
        first: The position that the first number of a row belongs to, for a part of a row.
    """

    seeds: Tensor
    first: int = 0

    def part(self, index: int) -> RowRng:
        """Return independent numbers for a part of each row; part 0 has those of the row itself."""
        if index == 0:
            return self
        key = _hash(self._key("part") ^ np.uint64(index))
        return RowRng(self._on_device(key.view(np.int64)))

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


def row_seeds(seed: int, rows: Tensor, draws: Tensor) -> Tensor:
    """Return a seed for every draw of every row, int64, of the shape that both broadcast to.

    Args:
        seed: Of the whole text, from 0 to 2^63 - 1.
        rows: Numbers of rows in the text, int64, at least one.
        draws: Numbers of draws, int64, at least one.
    """
    key = _hash(np.array([seed], dtype=np.uint64))
    key = _hash(key ^ rows.cpu().numpy().astype(np.uint64))
    return torch.from_numpy(_hash(key ^ draws.cpu().numpy().astype(np.uint64)).view(np.int64))


class RowGenerator:
    """Random numbers in place of a ``torch.Generator``, where a row must not depend on its batch.

    Args:
        seeds: Shape (B,), int64; one per row.
    """

    def __init__(self, seeds: Tensor) -> None:
        self._noise = RowRng(seeds)
        self._calls = 0

    @property
    def device(self) -> torch.device:
        """Where the numbers are."""
        return self._noise.seeds.device

    def uniform(self, shape: torch.Size | tuple[int, ...]) -> Tensor:
        """Return float64 numbers in (0, 1); every row has its own share of the first dimension."""
        numbers = self._noise.uniform("bound", self._calls, prod(shape) // len(self._noise.seeds))
        self._calls += 1
        return numbers.reshape(shape)


Generator: TypeAlias = torch.Generator | RowGenerator
"""A source of random numbers: one for a batch, or one for each row of it."""


def uniform(
    shape: torch.Size | tuple[int, ...], generator: Generator, device: torch.device
) -> Tensor:
    """Return float64 random numbers from 0 to 1 of a shape whose first dimension are the rows."""
    if isinstance(generator, RowGenerator):
        return generator.uniform(shape)
    return torch.rand(shape, dtype=torch.float64, generator=generator, device=device)
