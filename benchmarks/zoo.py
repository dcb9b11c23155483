"""What works with every architecture of transformers that has a masked-language-model head.

    python -m benchmarks.zoo [--only bert funnel ...] [--out docs/models.md]

Each architecture is built small, with random weights and a small tokenizer, saved by transformers
alone and then used as any other model: opened; two prompts of different lengths written alone and
in one batch, which must give the same texts; a blank of unknown length filled in; a text scored;
one step of the recipe ``diffuse``, whose model is opened again; the same text by the backends
``torch-packed`` and ``torch-int8``. A cell says yes, or the number of the sentence with which the
package refuses. Anything else that is raised, or that differs, is a fault, and the exit code is 1.
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
from unmask.models import compat
from unmask.models.loading import no_bars
from unmask.pipelines.unmasker import Unmasker
from unmask.training import TrainingJob, train
from unmask.training import recipe_file as recipes
from unmask.training.tokenizer import train_tokenizer

TEXT = "The cat sat on the mat. A dog looked at the river.\nMy old friend slept today.\n" * 40
PROMPTS = ["The cat", "My old friend looked at the green hill and the"]
BLANK = ["The [MASK:1-3] sat on the mat.", "A dog looked at the [MASK:1-2] river today."]
PAGE = """\
# Which networks work

Any `*ForMaskedLM` of transformers can be opened, and the code names no architecture. `unmask` \
tests a network when it opens it, on a few rows of a dozen tokens: how many logits a position \
has, where its positions begin and how many there are, whether its head can run on masked \
positions only, and whether a padded row in a batch gives the same predictions as it does alone. \
A network that cannot work is refused in one sentence before anything is generated or trained.

- **Padding.** Some encoders mix padding into the text: by a Fourier transform, a convolution, \
pooling or hashing. Their rows run one length at a time, so a text is the same alone and in any \
batch. This costs a call for each length in a batch. RoBERTa and its relatives recognise padding \
by its id and give it one position. If `pad_token_id` in `config.json` is the id of the mask \
token, all masks would share that position, and the model is refused.
- **Random numbers.** A network that draws random numbers for its prediction (the hashing of \
Reformer) draws the same ones in every call.
- **Precision.** `train` makes one forward and one backward pass on a row before it starts. \
`training.bf16 = "auto"` chooses bfloat16 on a machine that is good at it. A network that cannot \
be trained in bfloat16 is trained in float32, and a line says so.
- **Sparse attention.** BigBird changes to full attention at the first short row and stays \
there, which is the behaviour of transformers; the rows of the test are short.
- **Symbols.** A network that was never trained to generate has no reason to avoid `[UNK]` or \
`[SEP]`. They are not generated unless `--unban` allows them, see [samplers.md](samplers.md).
- **Tokenizers.** A token without an embedding (`add_tokens` without `resize_token_embeddings`) \
is refused, unless it is a special token that no text has.
- **Code.** A model with code of its own (`auto_map`) is refused; the code is not run.

The table was written by `python -m benchmarks.zoo --out docs/models.md` with transformers \
{version}: {count} architectures, small and with random weights, on a CPU. `writes` means that \
two prompts of different lengths give the same texts alone and in one batch, as do `packed` and \
`int8` with these backends; `fills in` is a blank of unknown length; `trains` is one step of the \
recipe `diffuse`, whose model then `opens again` and generates. `positions` is the number of \
tokens of the longest row, of 64 in the configuration where it has a limit; `lengths` says \
whether rows of several lengths run together.

{table}
A real network from elsewhere: [convert_rxnfp.py](../examples/convert_rxnfp.py) makes an \
ordinary folder of a BERT for chemical reactions and fills in a masked atom with it.
"""

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
    # Sharp weights, at which a token notices the others.
    **dict.fromkeys(("initializer_range", "init_std", "embed_init_std"), 0.3),
}
"""Values that are given to every configuration that has a key of that name."""

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
"""Values of single architectures, whose own would be too large or would not go with the others."""


@dataclass(frozen=True)
class Place:
    """Where one architecture is tried.

    Attributes:
        model: Folder of its model.
        data: A text to train on.
        out: Folder of the trained model.
    """

    model: Path
    data: Path
    out: Path

    def open(self, backend: str = "torch") -> Unmasker:
        """Return the model on the CPU."""
        return Unmasker.from_pretrained(str(self.model), device="cpu", backend=backend)


class DifferentError(Exception):
    """Two ways to the same text gave two texts."""


@dataclass
class Row:
    """What became of one architecture.

    Attributes:
        name: Its ``model_type``.
        cells: By name of the trial: None if it works, else what is said; missing if not tried.
        faults: Names of the trials that ended in anything but a text or a ``UserError``.
        limit: Positions, as they were found by asking; None for no limit or none found.
        apart: Whether padded rows of several lengths run together.
    """

    name: str
    cells: dict[str, str | None] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    limit: int | None = None
    apart: bool = True


def types() -> list[str]:
    """Return every architecture with a masked-language-model head, by its ``model_type``."""
    return compat.masked_types()


def build(name: str, tokenizer: PreTrainedTokenizerBase, folder: Path) -> Path:
    """Write a small model of an architecture and its tokenizer, and return their folder."""
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
    writer = place.open(backend)
    options = {"length": 5, "steps": 4, "seed": 1}
    alone = [writer.generate(prompt, **options).texts[0] for prompt in PROMPTS]
    if list(writer.generate(PROMPTS, **options).texts) != alone:
        raise DifferentError("alone and in a batch a prompt gives two texts")


def _fills(place: Place) -> None:
    writer = place.open()
    options = {"steps": 3, "seed": 1}
    alone = [writer.infill(template, **options).texts[0] for template in BLANK]
    if list(writer.infill(BLANK, **options).texts) != alone:
        raise DifferentError("alone and in a batch a blank is filled in two ways")


def _scores(place: Place) -> None:
    writer = place.open()
    writer.score(PROMPTS[1] + ".", draws=2)
    # As long as it goes, up to a few hundred tokens.
    writer.score(TEXT[:1500], draws=1)


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
"""What is tried, in this order; without the first nothing else is."""


def tried(name: str, tokenizer: PreTrainedTokenizerBase, folder: Path) -> Row:
    """Build one architecture in a folder, and return what became of it."""
    data = folder / "text.txt"
    data.write_text(TEXT, encoding="utf-8")
    place = Place(build(name, tokenizer, folder / name), data, folder / f"{name}-trained")
    row = Row(name)
    for trial, work in TRIALS.items():
        if trial == "opens again" and row.cells.get("trains") is not None:
            continue
        row.cells[trial] = None
        try:
            # What the libraries print is no part of the page.
            with contextlib.redirect_stderr(io.StringIO()):
                work(place)
        except UserError as error:
            row.cells[trial] = str(error).replace(str(folder), "").strip("/")
        except Exception as error:
            # Anything else is what this is about.
            said = (str(error).splitlines() or [""])[0]
            row.cells[trial] = f"{type(error).__name__}: {said}"
            row.faults.append(trial)
        if row.cells["opens"] is not None:
            break
    if row.cells["opens"] is None:
        writer = place.open()
        row.limit, row.apart = writer.limit, writer.denoiser.traits.batch_invariant
    return row


def table(rows: list[Row]) -> str:
    """Return the table, and below it the sentences that its numbers stand for."""
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
    said = row.cells[trial]
    if said is None:
        return "yes"
    if said not in sentences:
        sentences.append(said)
    return f"{'**fault**' if trial in row.faults else 'no'} ({sentences.index(said) + 1})"


def main() -> int:
    """Try the architectures, print or write the page, and return the exit code."""
    options = _options()
    tokenizer = train_tokenizer([TEXT], 330)
    rows = []
    for name in options.only or types():
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
    parser.add_argument("--only", nargs="+", metavar="TYPE", choices=types(), help="else all")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the page there")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
