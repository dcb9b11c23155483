"""Interleaved timing of variants, and the peak memory of each in a new process.

Seconds vary on a shared machine; their ratios within one round vary much less. A round runs every
variant once, in order (A B C, A B C, ...), and each time is divided by that of its reference in the
same round. The results are medians over the rounds.

Peak memory is the high-water mark of resident memory (VmHWM) while a fresh process runs one variant
once, minus the memory of that process after its imports: weights, activations, caches and
optimizer state. The mark is reset after the preparation, as making a network takes more memory than
keeping it. ``ru_maxrss`` cannot be reset on Linux, and a child starts with its parent's. It is used
where there is no ``/proc``, and then includes the preparation.
"""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

Run = Callable[[], object]
_PROC = Path("/proc/self")
# Saved before any variant runs: some change variables that torch reads when it starts.
_ENVIRONMENT = dict(os.environ)


@dataclass(frozen=True)
class Variant:
    """One way to do the work of a comparison.

    Attributes:
        name: Label in the tables.
        build: Prepares and warms up; returns the function to time.
        against: Name of the variant that its time is divided by; empty for the first.
        limit: The target, as the largest ratio allowed; None for none.
    """

    name: str
    build: Callable[[], Run]
    against: str = ""
    limit: float | None = None


@dataclass(frozen=True)
class Comparison:
    """Several ways to do the same work.

    Attributes:
        name: Key on the command line and in the JSON.
        title: The work in words.
        variants: The variants; the first is the default reference.
        repeats: Rounds, unless set on the command line.
        peak: Whether to measure memory.
        notes: Sentences below the table, such as why a variant was left out.
    """

    name: str
    title: str
    variants: tuple[Variant, ...]
    repeats: int = 3
    peak: bool = True
    notes: tuple[str, ...] = ()


@dataclass
class Outcome:
    """The measurements of a variant: seconds and ratio per round, and peak memory in MiB."""

    variant: Variant
    reference: str
    seconds: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    peak: float | None = None

    @property
    def ratio(self) -> float:
        """The median ratio of time to the reference; below 1 is faster."""
        return median(self.ratios)


def measure(comparison: Comparison, repeats: int, notify: Callable[[str], None]) -> list[Outcome]:
    """Time all variants in interleaved rounds.

    Args:
        comparison: The comparison.
        repeats: Rounds.
        notify: Called with a line on the progress.
    """
    first = comparison.variants[0].name
    outcomes = {v.name: Outcome(v, v.against or first) for v in comparison.variants}
    runs = {}
    for variant in comparison.variants:
        notify(f"{comparison.name}: preparing {variant.name}")
        runs[variant.name] = variant.build()
    for turn in range(repeats):
        for name, run in runs.items():
            notify(f"{comparison.name}: round {turn + 1} of {repeats}, {name}")
            outcomes[name].seconds.append(_seconds(run))
        for outcome in outcomes.values():
            base = outcomes[outcome.reference].seconds[turn]
            outcome.ratios.append(outcome.seconds[turn] / base)
    return list(outcomes.values())


def _seconds(run: Run) -> float:
    gc.collect()
    _wait_for_gpu()
    started = time.perf_counter()
    run()
    _wait_for_gpu()
    return time.perf_counter() - started


def _wait_for_gpu() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.synchronize()


def measure_peaks(
    comparison: Comparison, outcomes: list[Outcome], quick: bool, notify: Callable[[str], None]
) -> None:
    """Fill in the peak memory of every outcome, the median over three fresh processes."""
    for outcome in outcomes:
        notify(f"{comparison.name}: memory of {outcome.variant.name}")
        command = [sys.executable, "-m", "benchmarks.peak", comparison.name, outcome.variant.name]
        outcome.peak = median(_peak(command + ["--quick"] * quick) for _ in range(3))


def _peak(command: list[str]) -> float:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=_ENVIRONMENT)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    return float(done.stdout.split()[-1])


def high_water_mark() -> float:
    """Return the largest resident memory of this process since the last reset, in MiB."""
    if _PROC.exists():
        lines = (_PROC / "status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def reset_high_water_mark() -> None:
    """Return freed memory and reset the mark to the current memory; Linux only."""
    gc.collect()
    if _PROC.exists():
        ctypes.CDLL(None).malloc_trim(0)
        (_PROC / "clear_refs").write_text("5")
