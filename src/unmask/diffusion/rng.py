r"""Counter-based random numbers: those of a row depend on its seed alone.

    u = hash(seed, stream, step, position)  in (0, 1)

Every number is computed from its coordinates, so a row gets the same text alone or in a batch, with
or without padding, on a CPU or a GPU, and with or without a cache. The hash is the finaliser of
SplitMix64; 52 bits are kept, so the smallest value is about 1e-16 and the tail is not cut off as
with float32 numbers.

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

# Created once: creating a NumPy scalar takes as long as a few hundred additions.
_GOLDEN, _MIX_1, _MIX_2, _30, _27, _31, _12 = map(
    np.uint64, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 30, 27, 31, 12)
)

# NumPy, not torch: it has unsigned integers and is three times as fast for so few numbers.
_Bits = NDArray[np.uint64]


def _hash(x: _Bits) -> _Bits:
    x = x + _GOLDEN
    x = (x ^ (x >> _30)) * _MIX_1
    x = (x ^ (x >> _27)) * _MIX_2
    return x ^ (x >> _31)


@dataclass(frozen=True)
class RowRng:
    """Random numbers of a batch, one stream per row.

    Args:
        seeds: Shape (B,), int64; one per row.
        first: Position of the first number of a row, for a part of a row.
    """

    seeds: Tensor
    first: int = 0

    def part(self, index: int) -> RowRng:
        """Return independent numbers for a part of each row; part 0 has the numbers of the row."""
        if index == 0:
            return self
        key = _hash(self._key("part") ^ np.uint64(index))
        return RowRng(self._on_device(key.view(np.int64)))

    def uniform(self, stream: str, step: int, length: int) -> Tensor:
        """Return float64 numbers in (0, 1), shape (B, length).

        Args:
            stream: Name of the purpose; different streams are independent.
            step: The step of the sampler.
            length: Number of positions, L.
        """
        key = _hash(self._key(stream) ^ np.uint64(step))
        position = np.arange(self.first, self.first + length, dtype=np.uint64)
        # 52 bits, not 53: the offset of 1/2 that excludes 0 and 1 also has to fit in a float64.
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
        seed: Seed of the whole text, from 0 to 2^63 - 1.
        rows: Indices of rows in the text, int64, at least one.
        draws: Indices of draws, int64, at least one.
    """
    key = _hash(np.array([seed], dtype=np.uint64))
    key = _hash(key ^ rows.cpu().numpy().astype(np.uint64))
    return torch.from_numpy(_hash(key ^ draws.cpu().numpy().astype(np.uint64)).view(np.int64))


class RowGenerator:
    """A replacement of ``torch.Generator`` whose numbers for a row do not depend on the batch.

    Args:
        seeds: Shape (B,), int64; one per row.
    """

    def __init__(self, seeds: Tensor) -> None:
        self._noise = RowRng(seeds)
        self._calls = 0

    @property
    def device(self) -> torch.device:
        """Device of the numbers."""
        return self._noise.seeds.device

    def uniform(self, shape: torch.Size | tuple[int, ...]) -> Tensor:
        """Return float64 numbers in (0, 1); the first dimension is split evenly among the rows."""
        numbers = self._noise.uniform("bound", self._calls, prod(shape) // len(self._noise.seeds))
        self._calls += 1
        return numbers.reshape(shape)


Generator: TypeAlias = torch.Generator | RowGenerator
"""A source of random numbers, for a batch or for each of its rows."""


def uniform(
    shape: torch.Size | tuple[int, ...], generator: Generator, device: torch.device
) -> Tensor:
    """Return float64 random numbers from 0 to 1; the first dimension of the shape is the batch."""
    if isinstance(generator, RowGenerator):
        return generator.uniform(shape)
    return torch.rand(shape, dtype=torch.float64, generator=generator, device=device)
