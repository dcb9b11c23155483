"""Predict products of chemical reactions with the recipe ``pairs``: 300 pairs, two minutes.

    pip download --no-deps rxnfp && unzip rxnfp-*.whl -d rxnfp-wheel
    python -m benchmarks.pairs --model rxnfp-wheel/rxnfp/models/transformers/bert_pretrained

The network is a BERT that was pretrained on reactions (Schwaller et al. 2021, rxnfp 0.1.0). The
pairs are enumerated: amides and esters of 17 acids with 10 amines and 10 alcohols, as SMILES. 40 of
the 340 are held out; only the exact product counts. The table has one row per sampler. ``--model``
also takes ``bundled`` or any other model, which reads the text with its own tokenizer.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from pathlib import Path
from typing import Any

from examples.convert_rxnfp import convert

from unmask.pipelines.unmasker import Unmasker
from unmask.training import TrainingJob, train
from unmask.training import recipe_file as recipes

ACIDS = (
    *("CC(=O)O", "CCC(=O)O", "CCCC(=O)O", "CC(C)C(=O)O", "CC(C)(C)C(=O)O", "C1CCCCC1C(=O)O"),
    *("c1ccccc1C(=O)O", "c1ccccc1CC(=O)O", "Cc1ccc(cc1)C(=O)O", "COc1ccc(cc1)C(=O)O"),
    *("Fc1ccc(cc1)C(=O)O", "Clc1ccc(cc1)C(=O)O", "Brc1ccc(cc1)C(=O)O", "N#Cc1ccc(cc1)C(=O)O"),
    *("c1ccncc1C(=O)O", "c1ccoc1C(=O)O", "c1ccsc1C(=O)O"),
)
"""Acids; in a product the other reactant replaces the last O."""
AMINES = (
    *("NC", "NCC", "NCCC", "NC(C)C", "NC1CCCCC1", "N1CCCC1", "N1CCOCC1", "Nc1ccccc1"),
    *("NCc1ccccc1", "Nc1ccc(F)cc1"),
)
ALCOHOLS = (
    *("OC", "OCC", "OCCC", "OC(C)C", "OC(C)(C)C", "OC1CCCCC1", "OCc1ccccc1", "Oc1ccccc1"),
    *("OCCOC", "OCC(F)(F)F"),
)
SAMPLERS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("the recipe's", {}),
    ("random order, 20 steps", {"sampler": "ancestral", "steps": 20, "temperature": 0.0}),
    ("left to right", {"sampler": "left-to-right", "temperature": 0.0}),
    ("threshold", {"sampler": "threshold"}),
    ("best of 3 at temperature 1", {"temperature": 1.0, "candidates": 3}),
)


def main() -> None:
    """Train, predict the products, print the table."""
    options = _options()
    learn, held_out = split_pairs(reactions(), options.seed)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        start = options.model
        if (Path(start) / "vocab.txt").is_file():
            start = str(convert(Path(start), place / "start"))
        out = options.out or place / "model"
        data = [place / f"{name}.jsonl" for name in ("learn", "held-out")]
        for file, pairs in zip(data, (learn, held_out), strict=True):
            lines = (json.dumps({"source": s, "target": t}) for s, t in pairs)
            file.write_text("\n".join(lines), encoding="utf-8")
        shared = (f"training.minutes={options.minutes}", f"training.seed={options.seed}")
        recipe = recipes.load("pairs", (*shared, "data.length=72", *options.settings))
        train(TrainingJob(recipe, str(data[0]), out, start, str(data[1]), overwrite=True))
        unmasker = Unmasker.from_pretrained(str(out))
        print(f"{unmasker.card.training['steps']} steps in {options.minutes:g} minutes\n")
        print("| sampler | exact | calls |\n|---|---|---|")
        for name, choice in SAMPLERS:
            exact, calls = correct(unmasker, held_out, options.seed, **choice)
            print(f"| {name} | {exact} of {len(held_out)} | {calls} |", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pairs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", required=True, help="folder of the reaction BERT, or a model")
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder to keep the model in")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="as in train")
    return parser.parse_args()


def reactions() -> list[tuple[str, str]]:
    """Return every reaction as (reactants, product)."""
    return [
        (f"{acid}.{other}", f"{acid[:-1]}{other}")
        for acid in ACIDS
        for other in (*AMINES, *ALCOHOLS)
    ]


def split_pairs(
    pairs: list[tuple[str, str]], seed: int
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return the training pairs, and 40 held-out pairs."""
    shuffled = random.Random(seed).sample(pairs, len(pairs))
    return shuffled[40:], shuffled[:40]


def correct(
    unmasker: Unmasker, pairs: list[tuple[str, str]], seed: int, **choice: Any
) -> tuple[int, int]:
    """Return the number of exact products, and the network calls."""
    result = unmasker.transform([source for source, _ in pairs], seed=seed, **choice)
    right = sum(text == target for text, (_, target) in zip(result.texts, pairs, strict=True))
    return right, result.nfe


if __name__ == "__main__":
    main()
