"""``unmask evaluate``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from unmask.cli import options
from unmask.errors import UserError

if TYPE_CHECKING:
    from unmask.likelihood import Text

Lay: TypeAlias = "Callable[[Any], tuple[Text, dict[str, Any]]]"
"""A writer -> the data as rows for it, and what else is to be reported of them."""
TITLE = "# Likelihood on"
TEXTS = (
    "Rows are predicted one by one from their own start symbol. ≤ marks an upper bound (masked "
    "diffusion); ± and brackets give the 95 % interval over rows. A word is what white space "
    "separates; a line end counts as one."
)
PAIRS = (
    "Targets are predicted given their sources. ≤ marks an upper bound; it is on a target with its "
    "length, and divided by the tokens of the target and its end; ± and brackets give the 95 % "
    "interval over pairs. A word is what white space separates."
)


@click.command("evaluate")
@click.option("--model", "models", multiple=True, metavar="DIR|HUB_ID", help="May be repeated.")
@click.option("--data", required=True, help="Text, JSON-lines, CSV or parquet file, folder, ...")
@options.field
@click.option("--split", default="test", show_default=True, help="Split of a hub data set.")
@click.option("--draws", type=int, help="Mask patterns per row of text; 4.")
@click.option(
    "--num-steps",
    type=click.IntRange(min=1),
    help="Bound of a sampler with this many steps; else the method's own.",
)
@click.option("--max-chars", type=click.IntRange(min=1), help="Score only the beginning.")
@click.option("--batch-size", default=32, show_default=True, type=click.IntRange(min=1))
@options.seed
@options.as_json
@click.option("--report", type=options.PLACE, help="Folder for report.md and .json.")
@options.device
@options.backend
def command(
    models: tuple[str, ...],
    data: str,
    field: str,
    split: str,
    draws: int | None,
    num_steps: int | None,
    max_chars: int | None,
    batch_size: int,
    seed: int,
    as_json: bool,
    report: Path | None,
    device: str | None,
    backend: str,
) -> None:
    """Score models on a text in units that do not depend on the tokenizer.

    For masked models an upper bound with a 95 % interval, for causal models the exact value. Models
    that were trained on pairs are scored on the targets of pairs, given their sources.
    """
    from unmask import checkpoint
    from unmask.training.data import check_split

    check_split(split, "test", data)
    names = models or ("bundled",)
    paired = _are_paired(names)
    lay = _pairs(data, split, field, max_chars) if paired else _texts(data, split, field, max_chars)
    if report is not None:
        checkpoint.check_folder(report)
        _check_report(report)
    wished = {k: v for k, v in {"draws": draws, "num_steps": num_steps}.items() if v is not None}
    if wished and all(map(options.is_causal, names)):
        option = next(iter(wished)).replace("_", "-")
        raise UserError(
            f"the score of a causal model is exact, without masks; leave --{option} out"
        )
    bound: dict[str, Any] = {"draws": 4, **wished}
    results = {name: _score(name, lay, bound, batch_size, seed, device, backend) for name in names}
    if as_json:
        click.echo(json.dumps(results))
    else:
        click.echo(table(results))
    if report is not None:
        _write_report(report, data, results, PAIRS if paired else TEXTS)


def _are_paired(names: tuple[str, ...]) -> bool:
    """Return whether models were trained on pairs; all must have been, or none."""
    options.quiet_libraries()
    from unmask.adapters.loading import load_card

    cards = [load_card(name) for name in names]
    found = {card is not None and bool(card.pairs) for card in cards}
    if len(found) > 1:
        raise UserError(
            "some of these models were trained on pairs and some on texts; evaluate them apart"
        )
    return found.pop()


def _texts(data: str, split: str, field: str, max_chars: int | None) -> Lay:
    from unmask.training.data import check_field, joined, read_documents

    check_field(field, data)
    text = joined(read_documents(data, field, split))[:max_chars]
    return lambda writer: (writer.rows(text), {})


def _pairs(data: str, split: str, field: str, max_chars: int | None) -> Lay:
    from unmask.likelihood import Text
    from unmask.training.pairs import read_pairs

    if max_chars is not None:
        raise UserError("--max-chars is for texts; this model was trained on pairs")
    pairs = read_pairs(data, split, field)

    def lay(writer: Any) -> tuple[Text, dict[str, Any]]:
        rows = writer.pairs.lay_out(pairs)
        for line in rows.left_out:
            options.console().print(line, highlight=False, soft_wrap=True)
        return Text.from_pairs(rows, writer.codec), {"pairs": rows.counts}

    return lay


def _score(
    name: str,
    lay: Lay,
    bound: dict[str, Any],
    batch_size: int,
    seed: int,
    device: str | None,
    backend: str,
) -> dict[str, Any]:
    from rich.progress import Progress

    from unmask.unmasker import Unmasker

    writer = options.open_writer(name, device, backend)
    text, facts = lay(writer)
    console = options.console()
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task(name, total=len(text.rows))
        shared: dict[str, Any] = {
            "seed": seed,
            "batch_size": batch_size,
            "advance": lambda count: progress.advance(task, count),
        }
        if not isinstance(writer, Unmasker):
            # What is exact has no number of steps.
            return writer.score(text, **shared).as_dict() | facts
        score = writer.score(text, **bound, **shared)
    return score.as_dict() | facts | bound | {"backend": writer.backend}


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


def _check_report(folder: Path) -> None:
    """Raise a UserError for a file in the place of a report that is none."""
    for file in (folder / "report.md", folder / "report.json"):
        if file.exists() and not _is_report(file):
            raise UserError(
                f"{file} was not written by unmask evaluate, so it is not overwritten; choose "
                "another folder"
            )


def _is_report(file: Path) -> bool:
    try:
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".md":
            return text.startswith(TITLE)
        return all("nats_per_token" in scores for scores in json.loads(text).values())
    except (OSError, ValueError, AttributeError, TypeError):
        return False


def _write_report(folder: Path, data: str, results: dict[str, dict[str, Any]], legend: str) -> None:
    from unmask.render.files import replacing

    text = f"{TITLE} {Path(data).name}\n\n{table(results)}\n\n{legend}\n"
    with replacing(folder / "report.md") as path:
        path.write_text(text, encoding="utf-8")
    with replacing(folder / "report.json") as path:
        path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
