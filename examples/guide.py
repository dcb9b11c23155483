"""Train a classifier on partly masked texts, and guide the bundled model with it.

python examples/guide.py [FOLDER]

The two labels say whether a sequence of Python's documentation contains a digit; replace them by
your own texts and labels. With FOLDER the classifier is saved there, for

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


def train_classifier(unmasker: Unmasker, folder: Path) -> None:
    """Train from the weights of the bundled model, which has the same tokens."""
    logging.set_verbosity_error()  # The warning about a new head is expected.
    model = AutoModelForSequenceClassification.from_pretrained(
        locate("bundled"),
        dtype="float32",  # It is saved in 16 bits, in which training would be slow.
        id2label=LABELS,
        label2id={name: i for i, name in LABELS.items()},
    )
    codec = unmasker.codec
    stream = torch.tensor(codec.encode("\n".join(read_documents("pydoc"))[:1_000_000]))
    rows = stream[: len(stream) // ROW * ROW].view(-1, ROW)
    labels = torch.tensor([any(c.isdigit() for c in codec.decode(row)) for row in rows.tolist()])
    start = torch.tensor(codec.start)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    generator = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        chosen = torch.randint(len(rows), (BATCH,), generator=generator)
        # All mask rates, as they occur during sampling.
        masked = torch.rand(BATCH, ROW, generator=generator) < torch.rand(
            BATCH, 1, generator=generator
        )
        noised = rows[chosen].masked_fill(masked, codec.mask_token_id)
        ids = torch.cat([start.expand(BATCH, -1), noised], 1)
        model(ids, labels=labels[chosen].long()).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    codec.tokenizer.save_pretrained(folder)


def main(folder: Path) -> None:
    unmasker = Unmasker.from_pretrained(device="cpu")
    train_classifier(unmasker, folder)
    for label in LABELS.values():
        result = unmasker.generate(
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
