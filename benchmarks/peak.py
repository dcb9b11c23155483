"""Run one variant of one comparison in this process and print its peak memory in MiB."""

from __future__ import annotations

import argparse

from benchmarks.measure import high_water_mark, reset_high_water_mark
from benchmarks.registry import find


def main() -> None:
    """Measure the variant that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("comparison")
    parser.add_argument("variant")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    comparison = find(options.comparison, options.quick)
    variant = next(v for v in comparison.variants if v.name == options.variant)
    reset_high_water_mark()
    before = high_water_mark()
    run = variant.build()
    reset_high_water_mark()
    run()
    print(high_water_mark() - before)


if __name__ == "__main__":
    main()
