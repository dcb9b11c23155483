"""Results as tables and as JSON, and a description of the machine."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.measure import Comparison, Outcome


def machine() -> dict[str, Any]:
    """Return the machine and versions, and the load before the first measurement."""
    import torch
    import transformers

    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu_name(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "load_before": round(os.getloadavg()[0], 2),
        "dtype": "float32 unless a row says otherwise",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def _cpu_name() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def show(
    console: Console, comparison: Comparison, outcomes: list[Outcome], *, targets: bool
) -> None:
    """Print one comparison as a table, with or without its targets."""
    table = Table(title=f"{comparison.name}: {comparison.title}", title_justify="left")
    table.add_column("variant", no_wrap=True)
    for name in ("seconds", "ratio", "least - most", "faster", "at most", "MiB"):
        table.add_column(name, justify="right", no_wrap=True)
    for outcome in outcomes:
        table.add_row(outcome.variant.name, *_numbers(outcome, targets))
    console.print(table)
    for note in comparison.notes:
        console.print(note)
    console.print()


def _numbers(outcome: Outcome, targets: bool) -> Iterable[str]:
    yield f"{median(outcome.seconds):.3f}"
    yield f"{outcome.ratio:.3f}"
    yield f"{min(outcome.ratios):.2f} - {max(outcome.ratios):.2f}"
    yield f"{1 / outcome.ratio:.2f}x"
    limit = outcome.variant.limit
    if limit is None or not targets:
        yield ""
    else:
        met = outcome.ratio <= limit
        yield f"[{'green' if met else 'red'}]{limit:.3f} {'met' if met else 'missed'}[/]"
    yield "" if outcome.peak is None else f"{outcome.peak:,.0f}"


def as_json(comparison: Comparison, outcomes: list[Outcome]) -> dict[str, Any]:
    """Return one comparison as plain data."""
    return {
        "name": comparison.name,
        "title": comparison.title,
        "rounds": len(outcomes[0].seconds),
        "notes": list(comparison.notes),
        "variants": [
            {
                "name": outcome.variant.name,
                "against": outcome.reference,
                "median_seconds": median(outcome.seconds),
                "median_ratio": outcome.ratio,
                "seconds": outcome.seconds,
                "ratios": outcome.ratios,
                "largest_ratio_allowed": outcome.variant.limit,
                "peak_mib": outcome.peak,
            }
            for outcome in outcomes
        ],
    }
