"""``unmask evaluate``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from unmask.cli import options, printing, sample_quality
from unmask.cli.grouped import Command
from unmask.cli.report_files import check_report, write_report
from unmask.cli.sample_quality import SampleTest
from unmask.errors import UserError
from unmask.validation import exclude, require

if TYPE_CHECKING:
    from unmask.data.text_rows import Text
    from unmask.diffusion.capabilities import Layout
    from unmask.evaluation.image_quality import SampleQuality
    from unmask.evaluation.scores import Score
    from unmask.models.checkpoint import Card
    from unmask.pipelines.unmasker import Unmasker

Lay: TypeAlias = "Callable[[Any], tuple[Text, dict[str, Any]]]"
"""A model -> the data as rows for it, and facts about them for the report."""
EXACT = "causal models, whose score is exact, without masks"
TEXTS = "Rows are predicted one by one from their own start symbol."
PAIRS = (
    "Targets are predicted given their sources. The bound is on a target with its length, and is "
    "divided by the tokens of the target and its end."
)
IMAGES = (
    "Every sub-pixel is predicted, the class given where the model and the data have classes; "
    "bits/dim are bits per sub-pixel."
)
LEGENDS = {"texts": TEXTS, "pairs": PAIRS, "images": IMAGES}


@click.command("evaluate", cls=Command)
@click.option("--model", "models", multiple=True, metavar="DIR|HUB_ID", help="May be repeated.")
@click.option("--data", required=True, help="A text, a table, a FASTA file, a folder, images, ...")
@options.field
@click.option("--split", default="test", show_default=True, help="Split of a hub data set.")
@click.option("--draws", type=int, help="Mask patterns per row of text; 4.")
@click.option(
    "--num-steps",
    type=click.IntRange(min=1),
    help="Bound of a sampler with this many steps; else the method's own.",
)
@click.option(
    "--window",
    type=int,
    help="Tokens in a row; else what the model was trained on, at most 512.",
)
@click.option(
    "--stride",
    type=int,
    help="Rows overlap: each predicts so many tokens, conditioned on those before in the row.",
)
@click.option(
    "--paired",
    is_flag=True,
    help="Compare each model with the first one on the same rows and masks.",
)
@click.option("--max-chars", type=click.IntRange(min=1), help="Score only the beginning.")
@click.option("--batch-size", default=32, show_default=True, type=click.IntRange(min=1))
@click.option(
    "--samples",
    type=click.IntRange(min=2),
    metavar="N",
    help="Of models of images: generate N images and measure their quality.",
)
@click.option(
    "--features",
    type=options.PLACE,
    metavar="FILE",
    help="TorchScript module whose features give FID, precision and recall of the samples.",
)
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
    window: int | None,
    stride: int | None,
    paired: bool,
    max_chars: int | None,
    batch_size: int,
    samples: int | None,
    features: Path | None,
    seed: int,
    as_json: bool,
    report: Path | None,
    device: str | None,
    backend: str,
) -> None:
    """Score models on a text in units that do not depend on the tokenizer.

    For masked models an upper bound, for causal models the exact value, each with two 95 %
    intervals: over random masks and over texts. Models that were trained on pairs are scored on the
    targets of pairs, given their sources; models of images in bits per sub-pixel, and with
    --samples by the quality of what they generate.
    """
    from unmask.evaluation import report as reports
    from unmask.models import checkpoint

    names = models or ("bundled",)
    _check_paired(paired, names)
    trained_on = _trained_on(names)
    sample_quality.check(samples, features, trained_on, split)
    split = _split(split, trained_on, data, samples is not None)
    cut = {"window": window, "stride": stride}
    lay = LAYOUTS[trained_on](data, split, field, max_chars, cut)
    if report is not None:
        checkpoint.check_folder(report)
        check_report(report)
    bound = _bound(names, draws=draws, num_steps=num_steps)
    test = None if samples is None else SampleTest(data, split, field, samples, seed, features)
    results = {
        name: _score(name, lay, bound, batch_size, seed, device, backend, test) for name in names
    }
    scores = {name: result.score for name, result in results.items()}
    facts = {name: result.as_dict() for name, result in results.items()}
    tables = [reports.table(scores)]
    if paired:
        found = reports.differences(scores)
        for name, difference in found.items():
            facts[name][f"minus {names[0]}"] = difference.as_dict()
        tables.append(reports.difference_table(names[0], found))
    if test is not None:
        tables += sample_quality.tables({name: one.quality for name, one in results.items()})
    printing.record(facts) if as_json else printing.result("\n\n".join(tables))
    if report is not None:
        legend = f"{LEGENDS[trained_on]} {reports.legend(scores)}"
        write_report(report, data, "\n\n".join([*tables, legend]), facts)


def _split(split: str, trained_on: str, data: str, with_samples: bool) -> str:
    """Return the split to read; of images without splits all of them, if none is given.

    Samples are compared with images that their classifier has not seen, which needs splits.
    """
    from unmask.data.image_sets import HELD_OUT
    from unmask.data.sources import check_split

    if trained_on == "images":
        return split if with_samples or options.is_given("split") else HELD_OUT
    check_split(split, "test", data)
    return split


def _bound(names: tuple[str, ...], **options_of_bounds: int | None) -> dict[str, Any]:
    """Return the options of bounds; refuse those that are given where all models are exact."""
    requested = {key: value for key, value in options_of_bounds.items() if value is not None}
    exact = requested and all(map(options.is_causal, names))
    exclude(*((f"--{key.replace('_', '-')}", exact, EXACT) for key in requested))
    return {"draws": 4, **requested}


def _check_paired(paired: bool, names: tuple[str, ...]) -> None:
    if len(set(names)) < len(names):
        raise UserError("a model is named twice; name each --model once")
    require(("--paired", not paired or len(names) > 1, "at least two models, each with --model"))


def _trained_on(names: tuple[str, ...]) -> str:
    """Return what models were trained on, a name in ``LAYOUTS``; it must be the same for all."""
    options.quiet_libraries()
    from unmask.models.loading import load_card

    found = {"texts" if card is None else _data_of(card) for card in map(load_card, names)}
    if len(found) > 1:
        kinds = " and some on ".join(sorted(found))
        raise UserError(f"some of these models were trained on {kinds}; evaluate them apart")
    return found.pop()


def _data_of(card: Card) -> str:
    return "images" if card.images else "pairs" if card.pairs else "texts"


def _texts(
    data: str, split: str, field: str, max_chars: int | None, cut: dict[str, int | None]
) -> Lay:
    from unmask.data.documents import Documents, whole_documents
    from unmask.data.sources import check_field

    check_field(field, data)
    source = Documents(data, field, split, options.note)
    documents = _beginning(list(whole_documents(source.pieces())), max_chars)

    def lay(pipeline: Any) -> tuple[Text, dict[str, Any]]:
        if not pipeline.card.records:
            return pipeline.rows(documents, **cut), {}
        records = list(whole_documents(replace(source, by_line=True).pieces()))
        return _records(pipeline, _beginning(records, max_chars), cut)

    return lay


def _records(
    pipeline: Unmasker, records: list[str], cut: dict[str, int | None]
) -> tuple[Text, dict[str, Any]]:
    """Put each text on a row of its own, and say which do not fit."""
    from unmask.data.text_rows import Text
    from unmask.diffusion import capabilities

    _refuse(capabilities.RECORDS, "scoring_window", cut)
    rows = pipeline.records.lay_out(records)
    for line in rows.tally.left_out:
        options.note(line)
    return Text.from_records(rows, pipeline.codec), {"records": rows.tally.counts}


def _refuse(layout: Layout, feature: str, values: dict[str, int | None]) -> None:
    """Raise a UserError for an option that is given and not supported for a layout of rows."""
    from unmask.diffusion import capabilities

    for name, value in values.items():
        if value is not None:
            capabilities.require([layout], feature, f"--{name}")


def _beginning(documents: list[str], max_chars: int | None) -> list[str]:
    """Return the documents that begin within so many characters, the last one cut."""
    if max_chars is None:
        return documents
    kept: list[str] = []
    for document in documents:
        if max_chars <= 0:
            break
        kept.append(document[:max_chars])
        max_chars -= len(document)
    return kept


def _pairs(
    data: str, split: str, field: str, max_chars: int | None, cut: dict[str, int | None]
) -> Lay:
    from unmask.data.text_rows import Text
    from unmask.diffusion import capabilities
    from unmask.training.pair_dataset import read_pairs

    _refuse(capabilities.PAIRS, "scoring_window", cut)
    _refuse(capabilities.PAIRS, "cut_data", {"max-chars": max_chars})
    pairs = read_pairs(data, split, field, options.note)

    def lay(pipeline: Any) -> tuple[Text, dict[str, Any]]:
        rows = pipeline.pairs.lay_out(pairs)
        for line in rows.tally.left_out:
            options.console().print(line, highlight=False, soft_wrap=True)
        return Text.from_pairs(rows, pipeline.codec), {"pairs": rows.tally.counts}

    return lay


def _images(
    data: str, split: str, field: str, max_chars: int | None, cut: dict[str, int | None]
) -> Lay:
    from unmask.cli.pictures import read_for
    from unmask.diffusion import capabilities

    _refuse(capabilities.IMAGES, "scoring_window", cut)
    _refuse(capabilities.IMAGES, "cut_data", {"max-chars": max_chars})

    def lay(pipeline: Any) -> tuple[Text, dict[str, Any]]:
        images = read_for(pipeline, data, split, field)
        known = bool(pipeline.codec.classes) and images.labels is not None
        return pipeline.rows(images), {"images": len(images), "given_the_class": known}

    return lay


LAYOUTS = {"texts": _texts, "pairs": _pairs, "images": _images}
"""Reads the data, by what the models were trained on."""


@dataclass(frozen=True)
class Result:
    """The score of a model, and facts about its computation."""

    score: Score
    facts: dict[str, Any]
    quality: SampleQuality | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return everything, fit for JSON."""
        return self.score.as_dict() | self.facts


def _score(
    name: str,
    lay: Lay,
    bound: dict[str, Any],
    batch_size: int,
    seed: int,
    device: str | None,
    backend: str,
    test: SampleTest | None,
) -> Result:
    from unmask.pipelines.base import DiffusionPipeline
    from unmask.render.console import progress_bar

    pipeline = options.open_pipeline(name, device, backend)
    text, facts = lay(pipeline)
    masked = isinstance(pipeline, DiffusionPipeline)
    with progress_bar(options.console()) as progress:
        total = len(text.rows) * (bound["draws"] if masked else 1)
        task = progress.add_task(name, total=total)
        shared: dict[str, Any] = {
            "seed": seed,
            "batch_size": batch_size,
            "advance": lambda count: progress.advance(task, count),
        }
        if not masked:
            # What is exact has no number of steps.
            score = pipeline.score(text, **shared)
        else:
            score = pipeline.score(text, **bound, **shared)
            facts = facts | bound | {"backend": pipeline.backend}
    if test is None:
        return Result(score, facts)
    quality, settings = test(name, pipeline)
    samples = quality.as_dict() | {"seed": seed, "settings": settings}
    return Result(score, facts | {"samples": samples}, quality)
