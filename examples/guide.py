"""Train a classifier on half-hidden texts, and let it guide what the small model writes.

python examples/guide.py [FOLDER]

The two labels are whether a row of Python's documentation has a number in it; put texts and labels
of yours in their place. With FOLDER the classifier is kept there, for

unmask generate "The history of the town" --classifier FOLDER --label numbers --classifier-scale 5
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from transformers import AutoModelForSequenceClassification
from transformers.utils import logging

from unmask import Unmasker
from unmask.data.documents import read_documents
from unmask.models.loading import locate

LABELS = {0: "words", 1: "numbers"}
ROW, STEPS, BATCH = 32, 150, 32


def train_classifier(writer: Unmasker, folder: Path) -> None:
    """Start from the body of the writer, so that the tokens are the same."""
    logging.set_verbosity_error()  # A head that is new is what is wanted here.
    model = AutoModelForSequenceClassification.from_pretrained(
        locate("bundled"),
        dtype="float32",  # It is kept in half of that, in which it would be slow to train.
        id2label=LABELS,
        label2id={name: i for i, name in LABELS.items()},
    )
    codec = writer.codec
    stream = torch.tensor(codec.encode("\n".join(read_documents("pydoc"))[:1_000_000]))
    rows = stream[: len(stream) // ROW * ROW].view(-1, ROW)
    labels = torch.tensor([any(c.isdigit() for c in codec.decode(row)) for row in rows.tolist()])
    start = torch.tensor(codec.start)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    generator = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        chosen = torch.randint(len(rows), (BATCH,), generator=generator)
        # Every share of hidden tokens, as the sampler will show them.
        hidden = torch.rand(BATCH, ROW, generator=generator) < torch.rand(
            BATCH, 1, generator=generator
        )
        noised = rows[chosen].masked_fill(hidden, codec.mask_token_id)
        ids = torch.cat([start.expand(BATCH, -1), noised], 1)
        model(ids, labels=labels[chosen].long()).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    codec.tokenizer.save_pretrained(folder)


def main(folder: Path) -> None:
    writer = Unmasker.from_pretrained(device="cpu")
    train_classifier(writer, folder)
    for label in LABELS.values():
        result = writer.generate(
            "The history of the town",
            length=ROW,
            num_samples=8,
            classifier=str(folder),
            label=label,
            classifier_scale=5.0,
        )
        digits = sum(character.isdigit() for text in result.texts for character in text)
        print(
            f"{label}: {digits} digits in {len(result.texts)} texts, such as\n{result.texts[0]}\n"
        )


if __name__ == "__main__":
    with TemporaryDirectory() as temporary:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else temporary))
