r"""Added tokens that the decoder of a byte-level vocabulary misreads as bytes.

Such a vocabulary spells every byte as one character: a space is ``Ġ``, the byte 0x11 is ``đ``.
Added tokens are plain text, but the decoder treats one that consists of such characters alone as
bytes: ``đem`` is decoded as ``\x11em``.
"""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedTokenizerBase

_SPELT, _MEANT = "aĠa", "a a"


def misread(tokenizer: PreTrainedTokenizerBase) -> dict[int, str]:
    """Return the texts of the added tokens that the decoder gets wrong, by their ids.

    A token that was in the vocabulary before it was added is spelt in bytes and is left out.
    """
    # A tokenizer implemented in Python has no backend.
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    decoder = None if backend is None else backend.decoder
    if decoder is None or decoder.decode([_SPELT]) != _MEANT:
        return {}
    words = {i: w.content for i, w in tokenizer.added_tokens_decoder.items() if not w.special}
    wrong = {i: word for i, word in words.items() if backend.decode([i]) != word}
    spelt = set(backend.get_vocab(with_added_tokens=False).values()) if wrong else set()
    return {i: word for i, word in wrong.items() if i not in spelt}
