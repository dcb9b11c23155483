"""The text that each token adds, for constraints that follow the text token by token.

A byte-level tokenizer splits rare characters into several tokens; these have no text of their own
and count as tokens without text.
"""

from __future__ import annotations

import random
from functools import lru_cache

from unmask.data.text import TextCodec
from unmask.errors import UserError

_PROBES, _PROBE_LENGTH = 64, 8
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


@lru_cache(maxsize=1)
def token_texts(codec: TextCodec) -> dict[int, str]:
    """Return the text of each id that has any, as it is decoded after another word.

    WordPiece tokenizers store no spaces; here each token has the space that it is decoded with. A
    token of a character that needs no space next to others of its kind has none.

    Raises:
        UserError: If the text of a sequence is not the concatenation of the texts of its tokens.
    """
    known = sorted(codec.tokenizer.get_vocab().values())
    ahead = codec.encode("a")
    lead = codec.decode_plainly(ahead)
    texts = {i: _after(lead, codec.decode_plainly([*ahead, i])) for i in known}
    found = {i: text for i, text in texts.items() if text and _REPLACEMENT not in text}
    # Any tokenizer can be loaded, so this is tested on random sequences.
    rng = random.Random(0)
    for _ in range(_PROBES if found else 0):
        ids = rng.choices(list(found), k=_PROBE_LENGTH)
        if codec.decode_plainly([*ahead, *ids]) != lead + "".join(found[i] for i in ids):
            raise UserError(
                "the text of this model's tokens depends on their neighbours, so that a regular "
                "expression cannot be kept token by token; use a byte-level BPE, WordPiece or "
                "SentencePiece tokenizer"
            )
    alone = codec.spaces.characters
    return {
        i: text[1:] if text[:1] == " " and text[1:2] in alone else text for i, text in found.items()
    }


def _after(lead: str, text: str) -> str:
    return text[len(lead) :] if text.startswith(lead) else ""
