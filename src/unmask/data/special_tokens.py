"""The symbols of a tokenizer that stand for no text, and their names.

These are its special tokens, tokens added as special (additional special tokens, language codes),
and entries of its vocabulary that are spelt like symbols: ``[unused7]``, ``<extra_id_3>``, or
``<unk>`` where a tokenizer has learned it from a corpus that contains it.
"""

from __future__ import annotations

import re

from transformers import PreTrainedTokenizerBase

# With or without a marker for a space before it. Some vocabularies have "unk>" but not "<unk>".
_SPELLING = re.compile(
    r"(?:Ġ|▁| )?("
    r"<\|?/?(?:unk|pad|mask|cls|sep|bos|eos|s|(?:begin|start|end)_?of_?text)\|?>(?:NOTUSED)?"
    r"|unk>|\[(?:UNK|PAD|MASK|CLS|SEP|BOS|EOS)\]"
    r"|[\[<]\|?unused[_-]?\d+\|?[\]>]|\[unk\d+\]|<(?:extra_id|null)_\d+>|madeupword\d+)",
    re.IGNORECASE,
)


def symbols(tokenizer: PreTrainedTokenizerBase) -> dict[int, str]:
    """Return the names of all symbols by their ids, in the order of the ids."""
    special = {*tokenizer.all_special_ids}
    special |= {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    found = {}
    for token, index in tokenizer.get_vocab().items():
        spelt = _SPELLING.fullmatch(token)
        if spelt or index in special:
            found[index] = spelt[1] if spelt else token
    return dict(sorted(found.items()))
