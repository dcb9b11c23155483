"""Schedules against autograd, their inverse and the table of published weights; times and grids."""

import math

import pytest
import torch
from scipy.stats import kstest

from checks import SCHEDULES, assert_mean, generator
from unmask.diffusion.schedules import continuous
from unmask.diffusion.schedules.continuous import Cosine, Polynomial, make_schedule, rate
from unmask.diffusion.schedules.grids import stratified_times, time_grid
from unmask.errors import UserError

T = torch.linspace(0.001, 1, 1000, dtype=torch.float64)

# MD4, arXiv:2406.04329, Table 4, written with t from 0 (clean) to 1 (masked).
B_MIN, B_MAX = 1e-5, 20.0
GEOMETRIC_B = B_MIN ** (1 - T) * B_MAX**T
WEIGHTS = {
    "linear": 1 / T,
    "log-linear": 1 / T,
    "quadratic": 2 / T,
    "root": 0.5 / T,
    "cosine": math.pi / 2 * torch.tan(math.pi / 2 * (1 - T)),
    "geometric": GEOMETRIC_B * math.log(B_MAX / B_MIN) / torch.expm1(GEOMETRIC_B),
}
# The power of t with which 1 - alpha begins at t = 0; the geometric one begins above 0.
EXPONENTS = {"linear": 1, "quadratic": 2, "root": 0.5, "cosine": 1, "log-linear": 1, "geometric": 0}


def test_every_schedule_is_tested():
    tested = {type(schedule) for schedule in SCHEDULES.values()}
    missing = [name for name, kind in continuous.SCHEDULES.items() if kind not in tested]
    assert not missing, f"add an instance of {missing} to SCHEDULES in tests/checks.py"
    for table, known in {"WEIGHTS": WEIGHTS, "EXPONENTS": EXPONENTS}.items():
        missing = [name for name in SCHEDULES if name not in known]
        assert not missing, f"add {missing} to {table} in tests/diffusion/test_schedule.py"


@pytest.mark.parametrize("name", SCHEDULES)
def test_dalpha_is_the_derivative_of_alpha(name):
    t = T.clone().requires_grad_()
    (slope,) = torch.autograd.grad(SCHEDULES[name].alpha(t).sum(), t)
    assert torch.allclose(SCHEDULES[name].dalpha(T), slope, rtol=1e-9, atol=1e-12)
    assert (slope <= 0).all()


@pytest.mark.parametrize("name", SCHEDULES)
def test_inverse_undoes_alpha(name):
    schedule = SCHEDULES[name]
    # In t of the geometric schedule alpha = 1 - 1e-5 keeps few digits; alpha is compared instead.
    again = schedule.alpha(schedule.inverse(schedule.alpha(T)))
    assert torch.allclose(again, schedule.alpha(T), rtol=1e-9, atol=1e-14)
    middle = T[200:800]
    assert torch.allclose(schedule.inverse(schedule.alpha(middle)), middle, atol=1e-9)


@pytest.mark.parametrize("name", SCHEDULES)
def test_inverse_of_the_ends_is_a_time(name):
    times = SCHEDULES[name].inverse(torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert times.tolist() == pytest.approx([1.0, 0.0], abs=1e-12)


@pytest.mark.parametrize("name", SCHEDULES)
def test_mask_prob_is_what_alpha_leaves(name):
    schedule = SCHEDULES[name]
    assert torch.allclose(schedule.mask_prob(T) + schedule.alpha(T), torch.ones_like(T))


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_weight_keeps_its_digits_near_the_clean_end(name):
    """At t = 1e-30 the difference 1 - alpha has none left; its own closed form has all."""
    tiny = torch.tensor([1e-30], dtype=torch.float64)
    exponent = EXPONENTS[name]
    limit = exponent / 1e-30 if exponent else math.log(B_MAX / B_MIN)
    assert rate(SCHEDULES[name], tiny).item() == pytest.approx(limit, rel=1e-5)


@pytest.mark.parametrize("name", SCHEDULES)
def test_ends(name):
    ends = SCHEDULES[name].alpha(torch.tensor([0.0, 1.0], dtype=torch.float64)).tolist()
    missed = {"geometric": (1e-5, 2.1e-9), "log-linear": (0, 1e-3)}.get(name, (0, 0))
    assert ends[0] == pytest.approx(1 - missed[0], abs=1e-10)
    assert ends[1] == pytest.approx(missed[1], abs=1e-10)


@pytest.mark.parametrize("name", SCHEDULES)
def test_rate_is_the_published_weight(name):
    assert torch.allclose(rate(SCHEDULES[name], T), WEIGHTS[name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", SCHEDULES)
def test_rate_is_the_derivative_of_log_mask_prob(name):
    t = T.clone().requires_grad_()
    (slope,) = torch.autograd.grad(SCHEDULES[name].mask_prob(t).log().sum(), t)
    assert torch.allclose(rate(SCHEDULES[name], T), slope, rtol=1e-9, atol=1e-12)


def test_make_schedule_names_the_mistake():
    assert make_schedule("polynomial", exponent=2.0) == Polynomial(2.0)
    assert make_schedule("cosine") == Cosine()
    for name, parameters, words in [
        ("cosin", {}, "did you mean 'cosine'"),
        ("linear", {"exponent": 2.0}, "no parameters; use 'polynomial' for an exponent"),
        ("cosine", {"exponent": 2.0}, "unknown cosine schedule option 'exponent'"),
        ("polynomial", {"exponent": -1.0}, "above 0"),
        ("geometric", {"b_min": 3.0, "b_max": 2.0}, "goes with a larger b_max"),
        ("log-linear", {"eps": 1.0}, "from 0 to below 1"),
    ]:
        with pytest.raises(UserError, match=words):
            make_schedule(name, **parameters)


def test_stratified_times_fill_the_interval_once():
    times = stratified_times(16, generator(0))
    assert times.dtype == torch.float64
    assert (times > 0).all()
    assert (times <= 1).all()
    # One time in each sixteenth, counted from the shared shift.
    gaps = times.sort().values.diff()
    assert torch.allclose(gaps, torch.full_like(gaps, 1 / 16), atol=1e-12)


def test_stratified_times_have_the_digits_of_float64():
    times = stratified_times(64, generator(1))
    assert not torch.equal(times, times.float().double())


def test_each_stratified_time_alone_is_uniform():
    gen = generator(2)
    times = torch.stack([stratified_times(4, gen) for _ in range(5000)])
    for row in range(4):
        # Kolmogorov-Smirnov, false alarms 1e-6 per row.
        assert kstest(times[:, row].numpy(), "uniform").pvalue > 1e-6


def test_the_bound_of_every_fixed_row_stays_unbiased():
    """Rows worth .5, 1, 1.5, 2 in fixed order, with cost linear in t.

    Independent strata without a shift would let row i see its own stratum only and report 1.5625.
    """
    worth = torch.tensor([0.5, 1.0, 1.5, 2.0], dtype=torch.float64)
    gen = generator(3)
    times = torch.stack([stratified_times(4, gen) for _ in range(20_000)])
    assert_mean((2 * times * worth).mean(1), 1.25)
    for row in range(4):
        assert_mean(2 * times[:, row] * worth[row], worth[row].item())


def test_stratified_times_lower_the_variance():
    gen = generator(4)
    even = torch.stack([stratified_times(8, gen) for _ in range(2000)]).mean(1).var()
    independent = torch.rand(2000, 8, dtype=torch.float64, generator=gen).mean(1).var()
    # 1 / (12 * 8^2) against 1 / (12 * 8): a factor of 8, its estimate good to a tenth.
    assert even < independent / 6


def test_the_cosine_grid_is_the_cosine_schedule():
    uniform, cosine = time_grid(1000), time_grid(1000, "cosine")
    gap = Polynomial().mask_prob(cosine) - Cosine().mask_prob(uniform)
    assert gap.abs().max() < 1e-12


@pytest.mark.parametrize("kind", ["uniform", "cosine"])
@pytest.mark.parametrize("steps", [1, 2, 7, 1000])
def test_grids_fall_from_one_to_exactly_zero(kind, steps):
    grid = time_grid(steps, kind)
    assert len(grid) == steps + 1
    assert grid[0] == 1
    assert grid[-1] == 0
    assert (grid.diff() < 0).all()
    with pytest.raises(UserError, match="did you mean 'cosine'"):
        time_grid(steps, "cosin")
