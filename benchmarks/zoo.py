"""A test of every architecture of transformers that has a masked-language-model head.

    python -m benchmarks.zoo [--only bert funnel ...] [--out docs/models.md]

A small model of each architecture, with random weights and a small tokenizer, is saved by
transformers and opened. Two prompts of different lengths must give the same texts alone and in one
batch, on torch and on the backends ``torch-packed`` and ``torch-int8``. A blank of unknown length
is filled in, a text is scored, and the recipe ``diffuse`` makes one step, whose model is opened
again. A cell says yes, or the number of the sentence with which the package refuses. Any other
exception or a difference is a fault, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForMaskedLM, PreTrainedTokenizerBase

from unmask.errors import UserError
from unmask.models.compat import masked_types
from unmask.models.loading import no_bars
from unmask.pipelines.unmasker import Unmasker
from unmask.training import TrainingJob, train
from unmask.training import recipe_file as recipes
from unmask.training.tokenizer import train_tokenizer

TEXT = "The cat sat on the mat. A dog looked at the river.\nMy old friend slept today.\n" * 40
PROMPTS = ["The cat", "My old friend looked at the green hill and the"]
BLANK = ["The [MASK:1-3] sat on the mat.", "A dog looked at the [MASK:1-2] river today."]
PAGE = Path(__file__).with_name("zoo.md").read_text(encoding="utf-8")
"""The page around the table."""

SIZES: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "emb_dim", "dim", "d_model", "embedding_size"), 32),
    **dict.fromkeys(("num_hidden_layers", "n_layers", "encoder_layers", "decoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_heads", "n_head"), 4),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("num_key_value_heads",), 4),
    **dict.fromkeys(("intermediate_size", "hidden_dim", "d_inner"), 48),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim", "feed_forward_size"), 48),
    **dict.fromkeys(("head_dim", "d_head", "attention_head_size"), 8),
    "max_position_embeddings": 64,
    # Large weights, with which a prediction depends on the other tokens.
    **dict.fromkeys(("initializer_range", "init_std", "embed_init_std"), 0.3),
}
"""Values for every configuration that has a key of that name."""

OWN: dict[str, dict[str, Any]] = {
    "big_bird": {"block_size": 4, "num_random_blocks": 1},
    "convbert": {"conv_kernel_size": 3},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "esm": {"token_dropout": False},
    "funnel": {"block_sizes": [1, 1], "block_repeats": None, "num_decoder_layers": 1},
    "longformer": {"attention_window": 8},
    "luke": {"entity_vocab_size": 10, "entity_emb_size": 32},
    "mobilebert": {
        "true_hidden_size": 32,
        "intra_bottleneck_size": 32,
        "hidden_size": 32,
        "num_feedforward_networks": 1,
    },
    "modernbert": {"local_attention": 8, "layer_types": ["full_attention", "sliding_attention"]},
    "neomme": {
        "head_dim": 16,
        "embedding_rank": 16,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "nystromformer": {"num_landmarks": 8, "segment_means_seq_len": 8, "conv_kernel_size": 5},
    "perceiver": {
        "d_latents": 32,
        "num_latents": 8,
        "num_self_attends_per_block": 1,
        "num_self_attention_heads": 4,
        "num_cross_attention_heads": 4,
    },
    "reformer": {
        "attn_layers": ["local", "lsh"],
        "axial_pos_shape": [8, 8],
        "axial_pos_embds_dim": [16, 16],
        "local_attn_chunk_length": 8,
        "lsh_attn_chunk_length": 8,
        "is_decoder": False,
        "num_buckets": 4,
    },
    "rembert": {"input_embedding_size": 32, "output_embedding_size": 32},
    "roc_bert": {
        "pronunciation_vocab_size": 20,
        "shape_vocab_size": 20,
        "pronunciation_embed_dim": 8,
        "shape_embed_dim": 8,
    },
    "ultrabert": {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 8},
    "xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
}
"""Values for single architectures, whose defaults are too large or do not fit the others."""


@dataclass(frozen=True)
class Place:
    """The files of one architecture.

    Attributes:
        model: Folder of its model.
        data: A text to train on.
        out: Folder for the trained model.
    """

    model: Path
    data: Path
    out: Path

    def open(self, backend: str = "torch") -> Unmasker:
        """Return the model on the CPU."""
        return Unmasker.from_pretrained(str(self.model), device="cpu", backend=backend)


class DifferentError(Exception):
    """Two ways to generate a text gave different texts."""


@dataclass
class Row:
    """The results of one architecture.

    Attributes:
        name: Its ``model_type``.
        cells: By name of the trial: None if it works, else the message; missing if not tried.
        faults: Names of the trials that ended in another exception than ``UserError``.
        limit: Positions that the probe found; None for no limit or none found.
        apart: Whether padded sequences of several lengths run together.
    """

    name: str
    cells: dict[str, str | None] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    limit: int | None = None
    apart: bool = True


def build(name: str, tokenizer: PreTrainedTokenizerBase, folder: Path) -> Path:
    """Save a small model of an architecture and its tokenizer; return their folder."""
    start, end, pad = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    ids = {"bos": start, "cls": start, "eos": end, "sep": end, "pad": pad}
    ids |= {"decoder_start": end, "mask": tokenizer.mask_token_id}
    values = SIZES | {f"{key}_token_id": value for key, value in ids.items()}
    values["vocab_size"] = len(tokenizer)
    chosen = _small(AutoConfig.for_model(name).to_dict(), values) | OWN.get(name, {})
    torch.manual_seed(0)
    model = AutoModelForMaskedLM.from_config(AutoConfig.for_model(name, **chosen))
    with no_bars():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _small(declared: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a configuration, and of its parts for text and pictures."""
    chosen = {key: value for key, value in values.items() if key in declared}
    for part in ("text_config", "vision_config"):
        if inner := declared.get(part):
            chosen[part] = inner | _small(inner, values)
            if kinds := inner.get("layer_types"):
                chosen[part]["layer_types"] = kinds[:2]
    return chosen


def _opens(place: Place) -> None:
    place.open()


def _same_in_a_batch(place: Place, backend: str = "torch") -> None:
    unmasker = place.open(backend)
    options = {"length": 5, "steps": 4, "seed": 1}
    alone = [unmasker.generate(prompt, **options).texts[0] for prompt in PROMPTS]
    if list(unmasker.generate(PROMPTS, **options).texts) != alone:
        raise DifferentError("a prompt gives different texts alone and in a batch")


def _fills(place: Place) -> None:
    unmasker = place.open()
    options = {"steps": 3, "seed": 1}
    alone = [unmasker.infill(template, **options).texts[0] for template in BLANK]
    if list(unmasker.infill(BLANK, **options).texts) != alone:
        raise DifferentError("a blank is filled in differently alone and in a batch")


def _scores(place: Place) -> None:
    unmasker = place.open()
    unmasker.score(PROMPTS[1] + ".", draws=2)
    # As many positions as there are, up to a few hundred.
    unmasker.score(TEXT[:1500], draws=1)


def _trains(place: Place) -> None:
    length = Unmasker.from_pretrained(str(place.model), device="cpu", backend="torch").limit or 64
    settings = (f"data.length={min(length, 64)}", "training.steps=1", "training.batch_size=2")
    recipe = recipes.load("diffuse", (*settings, "training.evaluate_every=0"))
    job = TrainingJob(recipe, str(place.data), place.out, str(place.model))
    train(job, report=lambda line: None)


def _reopens(place: Place) -> None:
    _same_in_a_batch(Place(place.out, place.data, place.out))


TRIALS: dict[str, Callable[[Place], None]] = {
    "opens": _opens,
    "writes": _same_in_a_batch,
    "fills in": _fills,
    "scores": _scores,
    "trains": _trains,
    "opens again": _reopens,
    "packed": partial(_same_in_a_batch, backend="torch-packed"),
    "int8": partial(_same_in_a_batch, backend="torch-int8"),
}
"""The trials in order; if the first fails, the others are skipped."""


def tried(name: str, tokenizer: PreTrainedTokenizerBase, folder: Path) -> Row:
    """Build one architecture in a folder, run all trials and return the results."""
    data = folder / "text.txt"
    data.write_text(TEXT, encoding="utf-8")
    place = Place(build(name, tokenizer, folder / name), data, folder / f"{name}-trained")
    row = Row(name)
    for trial, work in TRIALS.items():
        if trial == "opens again" and row.cells.get("trains") is not None:
            continue
        row.cells[trial] = None
        try:
            # Messages of the libraries do not belong on the page.
            with contextlib.redirect_stderr(io.StringIO()):
                work(place)
        except UserError as error:
            row.cells[trial] = str(error).replace(str(folder), "").strip("/")
        except Exception as error:
            first = (str(error).splitlines() or [""])[0]
            row.cells[trial] = f"{type(error).__name__}: {first}"
            row.faults.append(trial)
        if row.cells["opens"] is not None:
            break
    if row.cells["opens"] is None:
        unmasker = place.open()
        row.limit, row.apart = unmasker.limit, unmasker.denoiser.traits.batch_invariant
    return row


def table(rows: list[Row]) -> str:
    """Return the table, followed by the sentences that its numbers refer to."""
    sentences: list[str] = []
    head = ("architecture", *TRIALS, "positions", "lengths")
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in rows:
        cells = [_cell(row, trial, sentences) for trial in TRIALS]
        tail = ["—", "—"]
        if row.cells["opens"] is None:
            tail = [str(row.limit or "any"), "together" if row.apart else "one by one"]
        lines.append(f"| {' | '.join([f'`{row.name}`', *cells, *tail])} |")
    notes = [f"{number}. {sentence}" for number, sentence in enumerate(sentences, 1)]
    return "\n".join([*lines, "", *notes, ""])


def _cell(row: Row, trial: str, sentences: list[str]) -> str:
    if trial not in row.cells:
        return "—"
    message = row.cells[trial]
    if message is None:
        return "yes"
    if message not in sentences:
        sentences.append(message)
    return f"{'**fault**' if trial in row.faults else 'no'} ({sentences.index(message) + 1})"


def main() -> int:
    """Try the architectures, print or write the page, and return the exit code."""
    options = _options()
    tokenizer = train_tokenizer([TEXT], 330)
    rows = []
    for name in options.only or masked_types():
        with tempfile.TemporaryDirectory() as folder:
            rows.append(tried(name, tokenizer, Path(folder)))
        print(name, *rows[-1].faults, file=sys.stderr, flush=True)
    page = table(rows)
    if options.out is None:
        print(page)
    else:
        text = PAGE.format(version=transformers.__version__, count=len(rows), table=page)
        options.out.write_text(text, encoding="utf-8")
    return 1 if any(row.faults for row in rows) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.zoo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only", nargs="+", metavar="TYPE", choices=masked_types(), help="only these"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="file for the page")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
