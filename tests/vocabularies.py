"""Small tokenizers of every kind that masked language models come with, made without a file."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AlbertTokenizer,
    BertTokenizer,
    CanineTokenizer,
    DebertaV2Tokenizer,
    EsmTokenizer,
    PerceiverTokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    RobertaTokenizer,
    T5Tokenizer,
    XLMRobertaTokenizer,
)

WORDS = ["the", "cat", "sat", "on", "mat", "a", "dog", "un", "believ", "ed", "ing", "s", "at"]
WORDS += ["night", "river", "hello", "world", "café"]
SCRIPTS = {
    "accents": "Café Ångström, naïve: señor!",
    "chinese": "今天天气很好。",
    "hebrew": "שלום עולם",
    "arabic": "مرحبا بالعالم",
    "thai": "สวัสดีชาวโลก",
    "emoji": "ok 👩‍👩‍👧 🎉",
    "lines": "One.\r\nTwo\n\n\tThree  four ",
    "punctuation": "It's (un)believed - don't; \"x\"?",
}
CORPUS = [" ".join(WORDS) + ".", *SCRIPTS.values()]
RESIDUES = "LAGVSERTIDPKQNFYMHWC"


def _characters() -> list[str]:
    return sorted({c for text in CORPUS for c in text if not c.isspace()})


def bert(cased: bool) -> PreTrainedTokenizerBase:
    """WordPiece: words, their endings, and the characters of some scripts."""
    known = [c for c in _characters() if c.isascii() or c > "\u0600"]
    words = [*WORDS, "It", "One", "Two", "Cafe", "cafe"]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(words)]
    tokens += [c for c in known if c not in tokens] + [f"##{c}" for c in [*known, "ed", "ing", "s"]]
    tokens = list(dict.fromkeys(tokens))
    vocab = {token: i for i, token in enumerate(tokens)}
    return BertTokenizer(vocab=vocab, do_lower_case=not cased)


def byte_level(prefix: bool = False) -> PreTrainedTokenizerBase:
    """Byte-level BPE with ``##`` and ``####`` among its words, as RoBERTa and GPT-2 have them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        initial_alphabet=alphabet,
        special_tokens=special,
        show_progress=False,
    )
    tokenizer.train_from_iterator([*[" ".join(WORDS)] * 4, "#### ## ####"] * 3, trainer)
    spec = json.loads(tokenizer.to_str())["model"]
    return RobertaTokenizer(
        vocab=spec["vocab"],
        merges=[tuple(m) for m in spec["merges"]],
        add_prefix_space=prefix,
    )


def _pieces(special: list[str]) -> list[tuple[str, float]]:
    rows = [(token, 0.0) for token in special]
    rows += [("▁", -2.0)] + [(f"▁{word}", -3.0) for word in WORDS]
    rows += [(word, -3.5) for word in ("ed", "ing", "s", "un", "believ")]
    known = [c for c in _characters() if c not in "🎉"]
    return rows + [(c, -6.0) for c in known if c not in dict(rows)]


def xlm_roberta() -> PreTrainedTokenizerBase:
    """Unigram behind a Metaspace, as XLM-R has it; one emoji is unknown."""
    return XLMRobertaTokenizer(vocab=_pieces(["<s>", "<pad>", "</s>", "<unk>", "<mask>"]))


def albert() -> PreTrainedTokenizerBase:
    """Unigram in lower case and without accents."""
    return AlbertTokenizer(vocab=_pieces(["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]))


def deberta() -> PreTrainedTokenizerBase:
    """Unigram that keeps case."""
    return DebertaV2Tokenizer(
        vocab=_pieces(["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]), unk_id=3
    )


def byte_fallback() -> PreTrainedTokenizerBase:
    """Unigram that spells what it does not know in bytes, as Llama's tokenizer does."""
    special = ["<unk>", "<s>", "</s>", "<pad>", "<mask>"]
    rows = [(token, 0.0) for token in special] + [(f"<0x{i:02X}>", -9.0) for i in range(256)]
    rows += [("▁", -2.0)] + [(f"▁{word}", -3.0) for word in WORDS]
    rows += [(c, -6.0) for c in "abcdefghijklmnopqrstuvwxyz.,"]
    tokenizer = Tokenizer(models.Unigram(rows, unk_id=0, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, mask_token="<mask>", **names)


def t5() -> PreTrainedTokenizerBase:
    """T5's, with a mask token; it has no start symbol."""
    rows = _pieces(["<pad>", "</s>", "<unk>"])
    return T5Tokenizer(vocab=rows, extra_ids=0, mask_token="<mask>")


def canine() -> PreTrainedTokenizerBase:
    """Characters."""
    return CanineTokenizer()


def perceiver() -> PreTrainedTokenizerBase:
    """Bytes, in Python."""
    return PerceiverTokenizer()


def esm(folder: Path) -> PreTrainedTokenizerBase:
    """Residues, found by the trie of words that are not split."""
    file = folder / "vocab.txt"
    tokens = ["<cls>", "<pad>", "<eos>", "<unk>", *RESIDUES, "<mask>"]
    file.write_text("\n".join(tokens), encoding="utf-8")
    return EsmTokenizer(str(file))


def word_level() -> PreTrainedTokenizerBase:
    """Whole words, with neither start nor end symbol."""
    tokens = ["[UNK]", "[MASK]", *WORDS, ".", ","]
    vocab = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", mask_token="[MASK]"
    )


def every_kind(folder: Path) -> dict[str, PreTrainedTokenizerBase]:
    """Return a tokenizer of each kind by name; ``folder`` takes the file that one of them needs."""
    return {
        "bert-cased": bert(cased=True),
        "bert-uncased": bert(cased=False),
        "byte-level": byte_level(),
        "byte-level-prefix": byte_level(prefix=True),
        "xlm-roberta": xlm_roberta(),
        "albert": albert(),
        "deberta": deberta(),
        "byte-fallback": byte_fallback(),
        "t5": t5(),
        "canine": canine(),
        "perceiver": perceiver(),
        "esm": esm(folder),
        "word-level": word_level(),
    }
