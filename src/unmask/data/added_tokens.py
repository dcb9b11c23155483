r"""Words that were added to a byte-level vocabulary, which its decoder takes for bytes.

Such a vocabulary spells every byte as a character of its own: a blank is ``Ġ``, the byte 0x11 is
``đ``. Added words are not spelt so, yet the decoder reads one that consists of such characters
alone as if it were: ``đem`` comes out as ``\x11em``.
"""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedTokenizerBase

_SPELT, _MEANT = "aĠa", "a a"


def misread(tokenizer: PreTrainedTokenizerBase) -> dict[int, str]:
    """Return the texts of the added words that the decoder does not give back, by their ids.

    A word that the vocabulary had before it was added stays as it is: it is spelt in bytes.
    """
    # What is written in Python has no such part.
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    decoder = None if backend is None else backend.decoder
    if decoder is None or decoder.decode([_SPELT]) != _MEANT:
        return {}
    words = {i: w.content for i, w in tokenizer.added_tokens_decoder.items() if not w.special}
    wrong = {i: word for i, word in words.items() if backend.decode([i]) != word}
    spelt = set(backend.get_vocab(with_added_tokens=False).values()) if wrong else set()
    return {i: word for i, word in wrong.items() if i not in spelt}
