"""Convert the reaction BERT of the package rxnfp to a folder for unmask, and infill with it.

pip download --no-deps rxnfp==0.1.0 && unzip rxnfp-0.1.0-py3-none-any.whl -d rxnfp-wheel
python examples/convert_rxnfp.py rxnfp-wheel/rxnfp/models/transformers/bert_pretrained reaction-bert
unmask infill --model reaction-bert "CC(=O)O.NCC>>CC(=O)[MASK]CC"

Only the files of the package are needed, which itself pins libraries of 2020. Its folder has a
configuration without a type, weights with TensorFlow names, and a custom tokenizer class; the
result is an ordinary BERT folder. Reference: Schwaller et al. 2021, "Mapping the space of chemical
reactions using attention-based neural networks", Nature Machine Intelligence.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

from unmask import Unmasker

SMILES = (
    r"%\([0-9]{3}\)|\[[^\]]+\]|Br|Cl|>>|%[0-9]{2}|[BCNOSPFIbcnosp]|[0-9]"
    r"|[|().=#\-+\\/:~@?>*$]"
)
"""One token for each atom, bond, bracket and ring, as in the package's own tokenizer."""

SPECIAL = {"unk": "[UNK]", "sep": "[SEP]", "pad": "[PAD]", "cls": "[CLS]", "mask": "[MASK]"}
REACTIONS = (
    "CC(=O)O.NCC>>CC(=O)[MASK]CC",  # An acid and an amine: N makes the amide.
    "CC(=O)O.OCC>>CC(=O)[MASK]CC",  # An acid and an alcohol: O makes the ester.
)


def convert(source: Path, target: Path) -> Path:
    """Save the model and its tokenizer in the format of transformers, and return the folder.

    Args:
        source: Folder with ``config.json``, ``pytorch_model.bin`` and ``vocab.txt``.
        target: Folder for the result; made if it is missing.
    """
    config = BertConfig(**json.loads((source / "config.json").read_text(encoding="utf-8")))
    state = torch.load(source / "pytorch_model.bin", map_location="cpu", weights_only=True)
    model = BertForMaskedLM.from_pretrained(None, config=config, state_dict=state)
    model.save_pretrained(target)
    words = (source / "vocab.txt").read_text(encoding="utf-8").split("\n")
    vocab = {word: number for number, word in enumerate(words) if word}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(SMILES), "isolated")
    tokenizer.decoder = decoders.Fuse()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        clean_up_tokenization_spaces=False,
        **{f"{name}_token": token for name, token in SPECIAL.items()},
    ).save_pretrained(target)
    return target


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, help="folder bert_pretrained of the package")
    parser.add_argument("target", type=Path, help="folder for the result")
    options = parser.parse_args()
    unmasker = Unmasker.from_pretrained(str(convert(options.source, options.target)))
    for text in unmasker.infill(REACTIONS, sampler="threshold").texts:
        print(text)


if __name__ == "__main__":
    main()
