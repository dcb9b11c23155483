"""Tables and curves over the runs of ``benchmarks.methods``.

    python -m benchmarks.methods_page RUNS docs/results.md

The curves are drawn next to the page, as PAGE-curves.png.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any

from matplotlib.figure import Figure

from unmask.models.checkpoint import WORK
from unmask.training.progress import METRICS, read_metrics

UNITS = ("nats_per_token", "bits_per_char", "word_perplexity")
CLAIM = "DiffusionBERT"
HEAD = """# The methods on the same text

By `python -m benchmarks.methods --data wikitext-2 --out RUNS --pretrained`, then
`python -m benchmarks.methods_page RUNS docs/results.md`.
[The methods of the papers](methods.md#on-the-same-text) discusses the numbers.

"""
Runs = dict[str, list[dict[str, Any]]]


def page(runs: Path, picture: Path) -> str:
    """Return the page over all finished runs, and draw its curves."""
    scores: Runs = {}
    for file in sorted(runs.glob("*/score.json")):
        score = json.loads(file.read_text(encoding="utf-8"))
        score["folder"] = file.parent
        scores.setdefault(score["name"], []).append(score)
    small = {name: rows for name, rows in scores.items() if not name.startswith(CLAIM)}
    claims = {name: rows for name, rows in scores.items() if name.startswith(CLAIM)}
    parts = [HEAD + "## From scratch", *_about(small), _table(small)]
    if claims:
        _draw(claims, picture)
        parts += ["## Pretrained against random weights", *_about(claims), _table(claims)]
        parts += [f"![Bound on the way]({picture.name})", "\n".join(_curves(claims))]
    return "\n\n".join(parts) + "\n"


def _about(scores: Runs) -> Iterator[str]:
    """Yield the settings that all runs of a table share, from the card of the first."""
    row = next(iter(scores.values()))[0]
    card = json.loads((row["folder"] / "unmask.json").read_text(encoding="utf-8"))
    config = json.loads((row["folder"] / "config.json").read_text(encoding="utf-8"))
    training, recipe = card["training"], card["training"]["recipe"]
    batch, length = recipe["training"]["batch_size"], recipe["data"]["length"]
    yield (
        f"{config['num_hidden_layers']} layers of {config['hidden_size']}, vocabulary of "
        f"{config['vocab_size']:,}, {training['steps']:,} steps of {batch} rows of {length} tokens "
        f"({training['steps'] * batch * length / 1e6:.1f} million tokens, "
        f"{training['epochs']:.1f} passes over WikiText-2), learning rate "
        f"{recipe['training']['learning_rate']:g}. The scores are those of the test text, "
        f"{row['tokens']:,} tokens. A number is the mean over seeds; after ± stands half of the "
        "widest 95 % interval of one seed over texts like this one (all methods are scored on the "
        "same text); brackets hold the range of the seeds. ≤ marks an upper bound on the negative "
        "log-likelihood; a number without it is exact."
    )


def _table(scores: Runs) -> str:
    lines = [
        "| method | seeds | nats/token | bits/char | word perplexity |",
        "|---|---|---|---|---|",
    ]
    for name in sorted(scores, key=lambda name: mean(s["nats_per_token"] for s in scores[name])):
        cells = " | ".join(_cell(scores[name], unit) for unit in UNITS)
        lines.append(f"| {name} | {len(scores[name])} | {cells} |")
    return "\n".join(lines)


def _cell(runs: list[dict[str, Any]], unit: str) -> str:
    digits = 1 if unit == "word_perplexity" else 3
    values = [run[unit] for run in runs]
    ends = [run[f"{unit}_95_texts"] for run in runs]
    half = max((high - low) / 2 for low, high in ends)
    sign = "" if runs[0]["exact"] else "≤ "
    spread = f" ({min(values):.{digits}f} to {max(values):.{digits}f})" if len(runs) > 1 else ""
    return f"{sign}{mean(values):.{digits}f} ± {half:.{digits}f}{spread}"


def _curve(run: dict[str, Any]) -> dict[int, float]:
    """Return the validation bound in nats per token by step."""
    records = read_metrics(run["folder"] / WORK / METRICS)
    return {r["step"]: r["eval_nats_per_token"] for r in records if "eval_nats_per_token" in r}


def _curves(claims: Runs) -> Iterator[str]:
    """Yield a table of the bound at every step at which all runs were scored."""
    curves = {name: [_curve(run) for run in runs] for name, runs in claims.items()}
    yield "| step | " + " | ".join(curves) + " |"
    yield "|---" * (len(curves) + 1) + "|"
    steps = set.intersection(*(set(curve) for runs in curves.values() for curve in runs))
    for step in sorted(steps):
        cells = " | ".join(f"≤ {mean(c[step] for c in runs):.3f}" for runs in curves.values())
        yield f"| {step} | {cells} |"


def _draw(claims: Runs, picture: Path) -> None:
    figure = Figure(figsize=(8, 4.5), dpi=160, layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    colours = ("#3d9876", "#c2416b")
    for colour, (name, runs) in zip(colours, claims.items(), strict=True):
        for run in runs:
            curve = _curve(run)
            label = name if run is runs[0] else None
            axes.plot(list(curve), list(curve.values()), color=colour, label=label)
    axes.set_xlabel("step")
    axes.set_ylabel("bound on the validation text, nats per token")
    axes.legend(frameon=False)
    figure.savefig(picture)


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    text = page(source, target.with_name(f"{target.stem}-curves.png"))
    target.write_text(text, encoding="utf-8")
