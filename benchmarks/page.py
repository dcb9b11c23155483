"""Write docs/benchmarks.md from the JSON of runs: ``python -m benchmarks.page RESULTS... PAGE``.

Several runs, each with ``--only GROUP`` on one machine, give one page.
"""

import json
import sys
from pathlib import Path
from typing import Any

HEAD = """# Speed

From `make bench` (`python -m benchmarks --json FILE`, then this page; `--only GROUP` runs a part of
it). Every number is a ratio to the first row of its table, measured in the same run: the variants
take turns, and the number is the median over the rounds. Below 1 is faster than the first row.
Seconds are those of a process that keeps the memory it has freed, as the command line does. Memory
is the peak of a fresh process, which returns freed memory, beyond its libraries, in MiB. Weights
are random, which changes no time except that of top-p without top-k, which becomes slower; the
configurations are the real ones. GPT-2 draws with top-k 50 and top-p 0.95, as `refine`. An empty
cell was not measured. Tables of different groups may come from different runs. "plain" is the
obvious implementation; "ours" is unmask.

"""


def page(results: dict[str, Any]) -> str:
    """Return the page as Markdown."""
    machine = results["machine"]
    gpu = f", {machine['gpu']}" if machine.get("gpu") else ""
    about = (
        f"{machine['cores']} cores ({machine['instructions']}), {machine['threads']} threads{gpu}, "
        f"torch {machine['torch']}, transformers {machine['transformers']}, {machine['time'][:10]}."
    )
    return HEAD + about + "\n\n" + "\n".join(_table(c) for c in results["comparisons"])


def _table(comparison: dict[str, Any]) -> str:
    lines = [f"## {comparison['title'][:1].upper()}{comparison['title'][1:]}", ""]
    lines += [f"Rounds: {comparison['rounds']}.", ""]
    lines += ["| | ratio | times faster | seconds | at most | MiB |", "|---|---|---|---|---|---|"]
    for variant in comparison["variants"]:
        limit, peak = variant["largest_ratio_allowed"], variant["peak_mib"]
        met = "" if limit is None else f"{limit:.2f}, {_verdict(variant)}"
        lines.append(
            f"| {variant['name']} | {variant['median_ratio']:.2f} | "
            f"{1 / variant['median_ratio']:.2f} | {variant['median_seconds']:.3f} | {met} | "
            f"{'' if peak is None else f'{peak:,.0f}'} |"
        )
    return "\n".join([*lines, "", *comparison["notes"], ""])


def _verdict(variant: dict[str, Any]) -> str:
    return "met" if variant["median_ratio"] <= variant["largest_ratio_allowed"] else "missed"


if __name__ == "__main__":
    *sources, target = map(Path, sys.argv[1:])
    results, *others = (json.loads(source.read_text(encoding="utf-8")) for source in sources)
    for other in others:
        results["comparisons"] += other["comparisons"]
    text = page(results)
    target.write_text(text.rstrip() + "\n", encoding="utf-8")
