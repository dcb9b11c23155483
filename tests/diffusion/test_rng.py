"""Counter-based noise: uniform, independent, fine-grained, a function of its coordinates only."""

from itertools import combinations

import pytest
import torch
from scipy.stats import kstest

from checks import assert_law
from unmask.diffusion.rng import _GOLDEN, _MIX_1, _MIX_2, RowRng


def numbers(seeds: int, length: int, stream: str = "token", step: int = 0) -> torch.Tensor:
    return RowRng(torch.arange(seeds)).uniform(stream, step, length)


def assert_independent(a: torch.Tensor, b: torch.Tensor) -> None:
    """Chi-square on a 6 x 6 grid of pairs (false alarms 1e-6) and correlation (7e-6)."""
    cells = (a.flatten() * 6).long() * 6 + (b.flatten() * 6).long()
    assert_law(cells.bincount(minlength=36), torch.full((36,), 1 / 36))
    correlation = torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1]
    assert abs(correlation) < 4.5 / a.numel() ** 0.5


def test_uniform():
    u = numbers(1000, 200).flatten().numpy()
    assert kstest(u, "uniform").pvalue > 1e-6


@pytest.mark.parametrize("column", [0, 1, 17])
def test_one_position_over_consecutive_seeds_is_uniform(column):
    assert kstest(numbers(50_000, 18)[:, column].numpy(), "uniform").pvalue > 1e-6


def test_neighbours_are_independent():
    u = numbers(500, 201)
    assert_independent(u[:, :-1], u[:, 1:])
    assert_independent(u[:-1], u[1:])
    assert_independent(u[:, 1:-1:2], u[:, 2::2])


def test_steps_and_streams_are_independent():
    u = numbers(500, 200)
    assert_independent(u, numbers(500, 200, step=1))
    for stream in ("reveal", "renoise"):
        assert_independent(u, numbers(500, 200, stream))


def test_parts_of_a_row_are_independent():
    seeds = torch.arange(500)
    parts = [RowRng(seeds).part(index).uniform("token", 0, 200) for index in range(4)]
    assert torch.equal(parts[0], RowRng(seeds).uniform("token", 0, 200))
    for one, other in combinations(parts, 2):
        assert_independent(one, other)
    # Nor does a part of one row have the numbers of another row.
    assert_independent(parts[1][:-1], parts[0][1:])
    assert_independent(parts[1][:-1], parts[1][1:])
    alone = RowRng(seeds[7:8]).part(3).uniform("token", 0, 50)
    assert torch.equal(alone[0], parts[3][7, :50])


def test_a_row_does_not_depend_on_its_batch_or_its_length():
    seeds = torch.tensor([5, -3, 2**62, 0])
    together = RowRng(seeds).uniform("token", 3, 40)
    for i, seed in enumerate(seeds):
        alone = RowRng(seed[None]).uniform("token", 3, 25)
        assert torch.equal(alone[0], together[i, :25])


def test_numbers_have_more_digits_than_float32():
    u = numbers(1000, 1000).flatten()
    assert u.dtype == torch.float64
    # A million draws from 2^24 values would repeat 30,000 times.
    assert len(u.unique()) == 1_000_000
    # Below 1e-4 there are 100 +- 10 of a million, and float32 noise would put them on a lattice.
    small = u[u < 1e-4]
    assert 55 <= len(small) <= 145
    assert not torch.equal(small * 2**24, (small * 2**24).round())


def invert(hashed: int) -> int:
    """Undo the hash on one unsigned 64-bit number."""
    full = (1 << 64) - 1

    def unshift(x: int, bits: int) -> int:
        y = x
        for _ in range(64 // bits):
            y = x ^ (y >> bits)
        return y

    x = unshift(hashed, 31) * pow(int(_MIX_2), -1, 1 << 64) & full
    x = unshift(x, 27) * pow(int(_MIX_1), -1, 1 << 64) & full
    return (unshift(x, 30) - int(_GOLDEN)) & full


@pytest.mark.parametrize(("bits", "edge"), [(0, 0.0), ((1 << 64) - 1, 1.0)])
def test_the_extreme_hash_values_stay_inside_the_open_interval(bits, edge):
    """The hash is a bijection, so the seed that gives the largest and the smallest can be found."""
    label = int.from_bytes(b"token", "little")
    key = invert(invert(bits))
    seed = invert(invert(invert(key)) ^ label)
    seed -= (seed >> 63) << 64
    (u,) = RowRng(torch.tensor([seed])).uniform("token", 0, 1)[0].tolist()
    assert 0 < u < 1
    assert abs(u - edge) < 1e-15


def test_a_part_of_a_row_has_the_numbers_of_its_positions():
    seeds = torch.arange(5)
    whole = RowRng(seeds).uniform("token", 3, 20)
    assert torch.equal(RowRng(seeds, first=8).uniform("token", 3, 6), whole[:, 8:14])
