"""A real network of other people: the reaction BERT of the package rxnfp, converted by our example.

Skipped without its files; set RXNFP to the folder ``bert_pretrained`` of the package.
"""

import importlib.util
import os
from pathlib import Path

import pytest
from examples.convert_rxnfp import convert

from unmask import Unmasker


def files() -> Path | None:
    """Return the folder with the weights, None if it is not here."""
    named = os.environ.get("RXNFP")
    if named:
        return Path(named)
    spec = importlib.util.find_spec("rxnfp")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / "models" / "transformers" / "bert_pretrained"


@pytest.fixture(scope="module")
def reactions(tmp_path_factory) -> Unmasker:
    source = files()
    if source is None or not (source / "pytorch_model.bin").is_file():
        pytest.skip("the files of rxnfp are not here")
    folder = convert(source, tmp_path_factory.mktemp("rxnfp") / "model")
    return Unmasker.from_pretrained(str(folder), device="cpu", backend="torch")


def test_a_hundred_texts_hold_no_symbol(reactions):
    prompts = ["", "CC(=O)O.NCC>>"]
    *_, last = reactions.stream(prompts, num_samples=50, length=20, steps=5, seed=1)
    written = set(last.canvas.ids[last.canvas.editable].tolist())
    assert not written & set(reactions.codec.symbols)
    assert len(written) > 20


@pytest.mark.parametrize(
    ("template", "atom"),
    [
        ("CC(=O)O.NCC>>CC(=O)[MASK]CC", "N"),
        ("CC(=O)O.OCC>>CC(=O)[MASK]CC", "O"),
        ("c1ccccc1C(=O)O.NC>>c1ccccc1C(=[MASK])NC", "O"),
    ],
)
def test_a_hidden_atom_is_the_one_that_the_reaction_leaves(reactions, template, atom):
    filled = reactions.infill(template, sampler="threshold").texts[0]
    assert filled == template.replace("[MASK]", atom)


def test_what_is_seen_makes_the_rest_likelier(reactions):
    real = reactions.score("CC(=O)O.NCC>>CC(=O)NCC", draws=8)
    wrong = reactions.score("CC(=O)O.NCC>>FC(Cl)PSI", draws=8)
    assert real.nats_per_token < 0.5 * wrong.nats_per_token
    assert real.unknown == 0
