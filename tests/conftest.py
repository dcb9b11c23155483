"""Small checkpoints on disk that our code did not write, and a text to train on. No network."""

import os
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
# Networks this small gain nothing from a second thread, and two processes lose much by four.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    AlbertConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    BertConfig,
    BertTokenizer,
    DistilBertConfig,
    ElectraConfig,
    GPT2Config,
    LlamaConfig,
    ModernBertConfig,
    PreTrainedTokenizerBase,
    RobertaConfig,
)

from checks import generator
from unmask.training.tokenizer import train_tokenizer

# What is measured is not kept in the user's home, nor read from it, here and in child processes.
_CACHE = tempfile.TemporaryDirectory(prefix="unmask-tests-")
os.environ["XDG_CACHE_HOME"] = _CACHE.name

WORDS = {
    "who": ["the cat", "a dog", "my old friend", "the little bird", "nobody", "the grey horse"],
    "does": ["sat on", "looked at", "went to", "walked around", "slept under", "waited for"],
    "what": ["the mat", "a green hill", "the river", "their house", "an apple tree", "the moon"],
    "when": ["today", "at night", "in the morning", "again", "for an hour", "without a word"],
}
POSITIONS = 64
BODY = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": POSITIONS,
}
# Random weights of a size at which a prediction depends on its context.
SHARP = {"initializer_range": 0.3}


def story(lines: int, seed: int = 0) -> str:
    """Return that many sentences of a small language, one a line."""
    choices = torch.randint(6, (lines, 4), generator=generator(seed)).tolist()
    sentences = [
        " ".join(options[i] for options, i in zip(WORDS.values(), line, strict=True))
        for line in choices
    ]
    return "".join(f"{sentence[0].upper()}{sentence[1:]}.\n" for sentence in sentences)


def wordpiece(text: str) -> PreTrainedTokenizerBase:
    """Train the kind of tokenizer that BERT comes with."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=120, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator([text], trainer)
    return BertTokenizer(vocab=tokenizer.get_vocab())


def configurations(bert: PreTrainedTokenizerBase, bpe: PreTrainedTokenizerBase) -> dict:
    """Return a small configuration of every architecture, with its tokenizer."""
    piece = SHARP | {"vocab_size": len(bert), "pad_token_id": bert.pad_token_id}
    ids = {
        "vocab_size": len(bpe),
        "pad_token_id": bpe.pad_token_id,
        "bos_token_id": bpe.bos_token_id,
        "eos_token_id": bpe.eos_token_id,
    }
    distil = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48}
    modern = {
        "cls_token_id": bpe.bos_token_id,
        "sep_token_id": bpe.eos_token_id,
        "global_attn_every_n_layers": 2,
        "local_attention": 8,
    }
    # Like the real one: two positions more than usable, for the padding offset.
    roberta = BODY | ids | SHARP | {"max_position_embeddings": POSITIONS + 2}
    gpt2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": POSITIONS}
    return {
        "bert": (BertConfig(**BODY, **piece), bert),
        "roberta": (RobertaConfig(**roberta), bpe),
        "modernbert": (ModernBertConfig(**BODY, **ids, **modern), bpe),
        "distilbert": (
            DistilBertConfig(**distil, **piece, max_position_embeddings=POSITIONS),
            bert,
        ),
        "electra": (ElectraConfig(**BODY, **piece, embedding_size=16), bert),
        "albert": (AlbertConfig(**BODY, **piece, embedding_size=16), bert),
        "gpt2": (GPT2Config(**gpt2, **ids, **SHARP), bpe),
        "llama": (LlamaConfig(**BODY, **ids), bpe),
    }


def make_zoo(folder: Path) -> Path:
    """Fill a folder with a checkpoint of each architecture, saved by transformers alone."""
    text = story(300)
    for name, (config, tokenizer) in configurations(
        wordpiece(text), train_tokenizer([text], 330)
    ).items():
        torch.manual_seed(0)
        auto = AutoModelForCausalLM if name in ("gpt2", "llama") else AutoModelForMaskedLM
        auto.from_config(config).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    return folder


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one checkpoint for each architecture, saved by transformers alone."""
    return make_zoo(tmp_path_factory.mktemp("zoo"))


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text of 60 sentences to train on."""
    file = tmp_path_factory.mktemp("text") / "story.txt"
    file.write_text(story(60, seed=1), encoding="utf-8")
    return file
