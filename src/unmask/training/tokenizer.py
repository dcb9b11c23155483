"""A byte-level BPE tokenizer trained on the data, for fresh models."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

SPECIAL = {
    "bos_token": "<s>",
    "pad_token": "<pad>",
    "eos_token": "</s>",
    "mask_token": "<mask>",
}

LONGEST = 256
"""Longest word in characters; a longer one is split. Training time grows with the square."""


def train_tokenizer(
    documents: Iterable[str], vocab_size: int, keep_whole: Sequence[str] = ()
) -> PreTrainedTokenizerBase:
    """Train a lossless byte-level BPE.

    Args:
        documents: The training text.
        vocab_size: Entries including 256 bytes and the special tokens.
        keep_whole: Strings that are never split, each with or without a space before it.

    Reference: Sennrich et al. 2016, arXiv:1508.07909; Radford et al. 2019 (byte-level).
    """
    whole = "".join(rf" ?{re.escape(text)}|" for text in keep_whole)
    many = f"{{1,{LONGEST}}}"
    words = (
        rf"{whole} ?\p{{L}}{many}| ?\p{{N}}{many}| ?[^\s\p{{L}}\p{{N}}]{many}"
        rf"|\s{many}(?!\S)|\s+"
    )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(words), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    lines = (line for document in documents for line in document.splitlines(keepends=True))
    tokenizer.train_from_iterator(lines, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **SPECIAL
    )
