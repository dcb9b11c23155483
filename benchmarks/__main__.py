"""``python -m benchmarks``: run the comparisons, print tables, write JSON."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from rich.console import Console

from benchmarks import report
from benchmarks.measure import measure, measure_peaks
from benchmarks.registry import GROUPS, comparisons
from unmask.cli.memory import keep_freed_memory


def main() -> None:
    """Run the comparisons that the command line names."""
    options = _options()
    # The command line of the package does the same.
    keep_freed_memory()
    # rich assumes 80 columns for a pipe, which would cut the tables.
    console = Console(width=None if sys.stdout.isatty() else 110)
    progress = Console(stderr=True)
    results = {"machine": report.machine(), "quick": options.quick, "comparisons": []}
    console.print(results["machine"])
    if results["machine"]["load_before"] > 0.5:
        console.print("[red]Something else is running on this machine; expect noise.[/]")
    if options.quick:
        console.print("[red]Quick: small networks and few rounds; not for a report.[/]")
    started = time.perf_counter()
    with progress.status("starting") as status:
        for comparison in comparisons(options.only, options.quick):
            repeats = options.repeats or (1 if options.quick else comparison.repeats)
            outcomes = measure(comparison, repeats, status.update)
            _forget_models()
            if comparison.peak and options.peak:
                measure_peaks(comparison, outcomes, options.quick, status.update)
            report.show(console, comparison, outcomes, targets=not options.quick)
            results["comparisons"].append(report.as_json(comparison, outcomes))
            if options.json:
                options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    if not results["comparisons"]:
        sys.exit(f"there is no comparison {options.only!r}; groups: {', '.join(GROUPS)}")
    results["seconds"] = round(time.perf_counter() - started, 1)
    console.print(f"{results['seconds']:.0f} seconds in all")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", metavar="NAME", help=f"a comparison or {', '.join(GROUPS)}")
    parser.add_argument("--repeats", type=int, metavar="N", help="rounds of every comparison")
    parser.add_argument("--json", type=Path, metavar="FILE", help="file for all numbers")
    parser.add_argument("--quick", action="store_true", help="a smoke test with small networks")
    parser.add_argument("--no-peak", dest="peak", action="store_false", help="skip memory")
    return parser.parse_args()


def _forget_models() -> None:
    if "benchmarks.models" in sys.modules:
        sys.modules["benchmarks.models"].forget()


if __name__ == "__main__":
    main()
