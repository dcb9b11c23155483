"""``unmask evaluate``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from unmask.cli import options


@click.command("evaluate")
@click.option("--model", "models", multiple=True, metavar="DIR|HUB_ID", help="May be repeated.")
@click.option("--data", required=True, help="Text, JSON-lines, CSV or parquet file, folder, ...")
@options.field
@click.option("--split", default="test", show_default=True, help="Split of a hub data set.")
@click.option("--draws", default=4, show_default=True, help="Mask patterns per row of text.")
@click.option("--max-chars", type=click.IntRange(min=1), help="Score only the beginning.")
@click.option("--batch-size", default=32, show_default=True, type=click.IntRange(min=1))
@options.seed
@options.as_json
@click.option("--report", type=click.Path(path_type=Path), help="Folder for report.md and .json.")
@options.device
def command(
    models: tuple[str, ...],
    data: str,
    field: str,
    split: str,
    draws: int,
    max_chars: int | None,
    batch_size: int,
    seed: int,
    as_json: bool,
    report: Path | None,
    device: str | None,
) -> None:
    """Score models on a text in units that do not depend on the tokenizer.

    For masked models an upper bound with a 95 % interval, for causal models the exact value.
    """
    from unmask.training.data import joined, read_documents

    text = joined(read_documents(data, field, split))[:max_chars]
    results = {}
    for name in models or ("bundled",):
        results[name] = _score(name, text, draws, batch_size, seed, device)
    if as_json:
        click.echo(json.dumps(results))
    else:
        click.echo(table(results))
    if report is not None:
        _write_report(report, data, results)


def _score(
    name: str,
    text: str,
    draws: int,
    batch_size: int,
    seed: int,
    device: str | None,
) -> dict[str, Any]:
    from rich.progress import Progress

    from unmask.likelihood import Text
    from unmask.unmasker import Unmasker

    writer = options.open_writer(name, device)
    rows = len(Text.from_string(text, writer.codec, writer.row_length).rows)
    console = options.console()
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task(name, total=rows)
        shared: dict[str, Any] = {
            "seed": seed,
            "batch_size": batch_size,
            "advance": lambda count: progress.advance(task, count),
        }
        if isinstance(writer, Unmasker):
            return writer.score(text, draws=draws, **shared).as_dict()
        return writer.score(text, **shared).as_dict()


def table(results: dict[str, dict[str, Any]]) -> str:
    """Return a Markdown table, one row a model; "<=" marks upper bounds."""
    lines = [
        "| model | nats/token | perplexity | bits/char | word perplexity | tokens |",
        "|---|---|---|---|---|---|",
    ]
    for name, result in results.items():
        sign = "" if result["exact"] else "≤ "
        cells = [
            sign + _number(result, "nats_per_token", 4),
            sign + _number(result, "perplexity", 2),
            sign + _number(result, "bits_per_char", 4),
            sign + _number(result, "word_perplexity", 1),
        ]
        unknown = f" ({result['unknown']} unknown)" if result["unknown"] else ""
        lines.append(f"| {name} | {' | '.join(cells)} | {result['tokens']}{unknown} |")
    return "\n".join(lines)


def _number(result: dict[str, Any], unit: str, digits: int) -> str:
    """Return a number with its interval: ± half of it where it is symmetric, else its ends."""
    value, interval = result[unit], result[unit + "_95"]
    if interval is None or interval[0] == interval[1]:
        return f"{value:.{digits}f}"
    low, high = interval
    if "perplexity" in unit:
        return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
    return f"{value:.{digits}f} ± {(high - low) / 2:.{digits}f}"


def _write_report(folder: Path, data: str, results: dict[str, dict[str, Any]]) -> None:
    from unmask.render.files import replacing

    text = (
        f"# Likelihood on {Path(data).name}\n\n{table(results)}\n\n"
        "Rows are predicted one by one from their own start symbol. ≤ marks an upper bound (masked "
        "diffusion); ± and brackets give the 95 % interval over rows. A word is what white space "
        "separates; a line end counts as one.\n"
    )
    with replacing(folder / "report.md") as path:
        path.write_text(text, encoding="utf-8")
    with replacing(folder / "report.json") as path:
        path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
