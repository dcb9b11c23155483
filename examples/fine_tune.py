"""Fine-tune an encoder on a text, and compare the bound on unseen text before and after.

python examples/fine_tune.py

The text is Python's documentation; replace "pydoc" by the name of a file. This example takes a few
steps on short sequences, to show the calls; a real run takes minutes.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from unmask import Unmasker
from unmask.data.documents import read_documents
from unmask.training import TrainingJob, load_recipe, train

SETTINGS = (
    "training.steps=30",
    "training.batch_size=8",
    "training.optimizer=muon",
    "training.learning_rate=1e-3",
    "training.warmup_steps=5",
    "training.evaluate_every=0",
    "training.save_every=0",
    "data.length=64",
)


def main() -> None:
    text = "\n".join(read_documents("pydoc"))
    cut = len(text) * 9 // 10
    unseen = text[cut : cut + 4000]
    before = Unmasker.from_pretrained().score(unseen, draws=4)
    with TemporaryDirectory() as folder:
        data, held_out = Path(folder) / "learn.txt", Path(folder) / "unseen.txt"
        data.write_text(text[:cut], encoding="utf-8")
        held_out.write_text(unseen, encoding="utf-8")
        chosen = load_recipe("diffuse", SETTINGS)
        run = TrainingJob(chosen, str(data), Path(folder) / "model", "bundled", str(held_out))
        train(run)
        tuned = Unmasker.from_pretrained(str(run.out))
        after = tuned.score(unseen, draws=4)
        print(tuned.generate("The statement", length=30, steps=30).texts[0])
    print(f"before: at most {before.bits_per_char:.3f} bits per character")
    print(f"after:  at most {after.bits_per_char:.3f} bits per character")


if __name__ == "__main__":
    main()
