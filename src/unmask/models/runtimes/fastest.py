"""Which exact backend computes a model fastest on this machine: measured once, then cached.

Plain and packed layers differ in their matrix products only, so these are timed: all linear layers
of the model, one after the other, as in a call. A single layer would stay in the processor's cache,
which a whole model does not fit into. Timings are cached by processor, threads, version of torch
and shapes in ``unmask/backends.json`` of the user's cache folder.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from torch import nn

from unmask.errors import UserError
from unmask.files import write_text
from unmask.models.runtimes import packed

Seconds = dict[str, list[float]]
"""Times of passes through all linear layers, by backend, the shortest first."""
DEFAULT = "torch-packed"
MARGIN = 0.05
"""Share by which ``torch`` has to be faster to be chosen, so that noise does not decide."""
SMALLEST = 2**20
"""Weights in linear layers below which nothing is measured: a pass takes well below 1 ms."""
STEADY = 0.1
"""Share by which the two shortest passes may differ; otherwise the timing is not reliable."""
_ROUNDS = (2, 10)
_BUDGET_SECONDS = 0.5


def fastest(
    model: nn.Module, rows: int, timed: Callable[[nn.Module, int], Seconds | None] | None = None
) -> str:
    """Return ``torch`` or ``torch-packed``, whichever computes a model on the CPU faster.

    On a busy machine, or if timings do not repeat, the default is returned and nothing is cached.

    Args:
        model: The model, in float32 on the CPU; it is unchanged.
        rows: Tokens in one network call.
        timed: Measures times that are not in the cache; ``time_if_idle`` if None.
    """
    if not packed.available():
        return "torch"
    layers = packed.layers_of(model)
    if sum(layer.weight.numel() for layer in layers) < SMALLEST:
        return DEFAULT
    key = _key(model, rows)
    seconds = _read().get(key)
    if seconds is None:
        seconds = (timed or time_if_idle)(model, rows)
        if seconds is None or not _repeats(seconds):
            return DEFAULT
        _remember(key, seconds)
    if seconds["torch"][0] >= (1 - MARGIN) * seconds["torch-packed"][0]:
        return DEFAULT
    packed.forget(model)
    return "torch"


def _repeats(seconds: Seconds) -> bool:
    return all(second <= (1 + STEADY) * first for first, second, *_ in seconds.values())


def time_if_idle(model: nn.Module, rows: int) -> Seconds | None:
    """Return ``time_layers``, or None on a busy machine."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if is_busy(load, torch.get_num_threads(), os.cpu_count() or 1):
        return None
    return time_layers(model, rows)


def is_busy(load: float, threads: int, processors: int) -> bool:
    """Return whether ``threads`` and the load average exceed the processors by more than one."""
    return load + threads > max(processors, threads) + 1


@torch.no_grad()
def time_layers(model: nn.Module, rows: int) -> Seconds:
    """Return the times of several passes through all linear layers, plain and packed in turn.

    The packed copies are kept for ``pack``; ``forget`` frees them.

    Args:
        model: The model, in float32 on the CPU.
        rows: Rows of the matrix that each layer multiplies.
    """
    packed.limit_memory()
    layers = packed.layers_of(model)
    ways = {"torch": packed.plain, "torch-packed": packed.product}
    inputs = {width: torch.ones(rows, width) for width in map(packed.width, layers)}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    begun = 0.0
    for done in range(_ROUNDS[1] + 1):
        for way, compute in ways.items():
            started = time.perf_counter()
            for layer in layers:
                compute(layer, inputs[packed.width(layer)])
            seconds[way].append(time.perf_counter() - started)
        # The first round packs and warms up.
        begun = begun or time.perf_counter()
        if done >= _ROUNDS[0] and time.perf_counter() - begun > _BUDGET_SECONDS:
            break
    return {way: sorted(times[1:]) for way, times in seconds.items()}


def place() -> Path:
    """Return the file of the cached timings."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "unmask" / "backends.json"


def _key(model: nn.Module, rows: int) -> str:
    shapes = Counter(tuple(layer.weight.shape) for layer in packed.layers_of(model))
    sizes = " ".join(f"{n}x{a}x{b}" for (a, b), n in sorted(shapes.items()))
    name = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
    threads, version = torch.get_num_threads(), torch.__version__
    return f"{_processor()} | {threads} threads | torch {version} | {name} | {sizes} | {rows} rows"


def _processor() -> str:
    """Return the name of the processor and the instruction set that torch uses."""
    facts: dict[str, str] = {}
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            facts.setdefault(name.strip(), value.strip())
    # Virtual machines may give different processors the same name.
    known = [facts[name] for name in ("model name", "model", "stepping") if facts.get(name)]
    capability = torch.backends.cpu.get_cpu_capability()
    return " ".join([*(known or [platform.processor() or platform.machine()]), capability])


def _read() -> dict[str, Seconds]:
    """Return the cached timings; none if the file cannot be read."""
    try:
        content = json.loads(place().read_text(encoding="utf-8"))
        return {key: found for key, found in content.items() if _is_timing(found)}
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}


def _is_timing(found: object) -> bool:
    if not isinstance(found, dict) or set(found) != {"torch", "torch-packed"}:
        return False
    numbers = [value[0] if isinstance(value, list) and value else None for value in found.values()]
    return all(type(number) in (int, float) for number in numbers)


def _remember(key: str, seconds: Seconds) -> None:
    best = {way: [times[0]] for way, times in seconds.items()}
    content = json.dumps(_read() | {key: best}, indent=1)
    target = place()
    # Without a writable folder the next process measures again.
    with suppress(OSError, UserError):
        target.parent.mkdir(parents=True, exist_ok=True)
        write_text(target, content + "\n")
