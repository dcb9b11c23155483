"""From files to rows: documents are read, tokenised and packed into blocks.

A source is a text, JSON-lines, CSV or parquet file, a folder of them, a hub data set id, or
``pydoc``, the language reference that every Python carries. Text files, folders and pydoc are one
document a file; tabular files are one document a row.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.utils.data import Dataset

from unmask.adapters.compat import quiet_datasets
from unmask.codec.text import TextCodec
from unmask.errors import UserError

TABLES = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
TEXTS = (".txt", ".text", ".md", ".rst", ".py", ".tokens")


def read_documents(source: str, field: str = "text", split: str = "train") -> list[str]:
    """Return the documents of a source, in order.

    Args:
        source: A path, a hub data set id, or ``pydoc``.
        field: The column that holds the text, for tables and hub data sets; see ``check_field``.
        split: The split of a hub data set; see ``check_split``.

    Raises:
        UserError: If there is nothing there, a file is binary or not UTF-8, a row has no text, or
            no text is left.
    """
    path = _path(source)
    if source == "pydoc" and not os.path.exists(path):
        documents = list(_pydoc())
    elif os.path.isdir(path):
        files = _files(path, (*TEXTS, *TABLES))
        documents = [text for file in files for text in _read_file(file, field)]
    elif os.path.isfile(path):
        documents = list(_read_file(path, field))
    else:
        documents = list(_column(_hub(source, split), field, source))
    if not any(document.strip() for document in documents):
        raise UserError(f"{source} holds no text")
    return documents


def read_records(source: str, split: str = "train") -> Iterator[dict[str, object]]:
    """Yield the rows of a table, of all tables in a folder, or of a hub data set, in order.

    Args:
        source: A path or a hub data set id.
        split: The split of a hub data set.

    Raises:
        UserError: If there is nothing there, or it is no table.
    """
    path = _path(source)
    if os.path.isdir(path):
        for file in _files(path, tuple(TABLES)):
            yield from _table(file)
    elif source == "pydoc" or (os.path.isfile(path) and _suffix(path) not in TABLES):
        raise UserError(f"{source} is no table; name a JSON-lines, CSV or parquet file")
    else:
        yield from _table(path) if os.path.isfile(path) else _hub(source, split)


def _path(source: str) -> Path:
    if not source.strip():
        raise UserError("the name of the data is empty; give a file, a folder or a hub data set")
    return Path(source).expanduser()


def check_field(field: str, *sources: str) -> None:
    """Refuse a field that would have no effect, since none of the sources has columns.

    Args:
        field: As ``read_documents`` takes it; ``text`` is what nobody has to name.
        sources: Paths, hub data set ids or ``pydoc``.

    Raises:
        UserError: If the field was named and every source is plain text.
    """
    if field != "text" and not any(map(_has_columns, sources)):
        raise UserError(
            f"{sources[0]} is plain text, which has no columns; leave out --field {field}"
        )


def check_split(split: str, usual: str, source: str) -> None:
    """Refuse a split that would have no effect, since a source is no hub data set.

    Raises:
        UserError: If another split than the usual one was named and the source is a local one.
    """
    if split != usual and (source == "pydoc" or os.path.exists(_path(source))):
        raise UserError(f"{source} is no hub data set, so it has no splits; leave out --split")


def _has_columns(source: str) -> bool:
    path = _path(source)
    if os.path.isdir(path):
        return any(_suffix(file) in TABLES for file in _files(path, (*TEXTS, *TABLES)))
    return _suffix(path) in TABLES if os.path.isfile(path) else source != "pydoc"


def joined(documents: Sequence[str]) -> str:
    """Return documents as one text to be scored: one as it is, several each ending its line."""
    if len(documents) == 1:
        return documents[0]
    return "".join(text if text.endswith("\n") else text + "\n" for text in documents)


def _pydoc() -> Iterator[str]:
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise UserError("this Python was built without pydoc's topics; pass a text file") from error
    yield from (topics[name] for name in sorted(topics))


def _files(folder: Path, endings: tuple[str, ...]) -> list[Path]:
    files = sorted(p for p in folder.rglob("*") if p.is_file() and _suffix(p) in endings)
    if not files:
        raise UserError(
            f"{folder} holds no file that ends in {', '.join(endings)} (or these + .gz)"
        )
    return files


def _suffix(path: Path) -> str:
    return Path(path.stem).suffix if path.suffix == ".gz" else path.suffix


def _read_file(path: Path, field: str) -> Iterable[str]:
    if _suffix(path) in TABLES:
        return _column(_table(path), field, str(path))
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8", newline="") as file:
            text = file.read()
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 text (byte {error.start}); convert it, or name a text file"
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read {path}: {reason}") from error
    if "\0" in text:
        raise UserError(f"{path} is a binary file; name a text, JSON-lines, CSV or parquet file")
    return [text]


def _table(path: Path) -> Iterator[dict[str, object]]:
    datasets = _library()
    try:
        rows = datasets.load_dataset(TABLES[_suffix(path)], data_files=str(path), split="train")
    except Exception as error:
        # The library wraps whatever its parsers raise; the cause names the row.
        reason = _first_line(error.__cause__ or error)
        raise UserError(f"cannot read {path} as {_suffix(path)[1:]}: {reason}") from error
    yield from _readable(rows, str(path))


def _hub(source: str, split: str) -> Iterator[dict[str, object]]:
    if source.startswith((".", "/", "~")) or Path(source).suffix in (*TEXTS, *TABLES, ".gz"):
        raise UserError(f"there is no file or folder {source}")
    datasets = _library()
    name, _, config = source.partition(":")
    try:
        rows = datasets.load_dataset(name, config or None, split=split)
    except Exception as error:
        reason = _first_line(error)
        raise UserError(
            f"there is no file {name}, and no data set of that name could be fetched: {reason}"
        ) from error
    yield from _readable(rows, source)


def _column(rows: Iterable[dict[str, object]], field: str, source: str) -> Iterator[str]:
    for number, row in enumerate(rows, 1):
        text = row.get(field)
        if not isinstance(text, str):
            raise UserError(
                f"row {number} of {source} has no text in the field {field!r}; its text fields: "
                f"{text_fields(row)}; choose one with --field"
            )
        yield text


def text_fields(row: dict[str, object]) -> str:
    """Return the names of the fields of a row that hold text, as words for a message."""
    return ", ".join(key for key, value in row.items() if isinstance(value, str)) or "none"


def _readable(rows: Iterable[dict[str, object]], source: str) -> Iterator[dict[str, object]]:
    # The parsers take any bytes; it is reading a row that finds out.
    try:
        yield from rows
    except UnicodeDecodeError as error:
        raise UserError(f"{source} is not UTF-8 text; convert it") from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "it holds no rows"


def _library() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise UserError("tables and hub data sets need: pip install 'unmask[train]'") from error
    # What is wrong with a file is said once, by us.
    quiet_datasets(datasets)
    return datasets


def split(documents: Sequence[str], share: float) -> tuple[list[str], str]:
    """Return the documents to learn from, and the last ``share`` of the characters as one text.

    The cut is made at a line end where there is one near.
    """
    keep = round(sum(map(len, documents)) * (1 - share))
    learn: list[str] = []
    for index, document in enumerate(documents):
        if len(document) > keep:
            line = document.rfind("\n", int(0.8 * keep), keep) + 1
            cut = line or keep
            rest = [document[cut:], *documents[index + 1 :]]
            return ([*learn, document[:cut]] if cut else learn), joined(rest)
        keep -= len(document)
        learn.append(document)
    return learn, ""


def tokenize(documents: Sequence[str], codec: TextCodec, skip_empty_lines: bool = False) -> Tensor:
    """Return all documents, each followed by the end symbol, as ids of shape (N,), int32."""
    if skip_empty_lines:
        documents = [
            "".join(line for line in document.splitlines(keepends=True) if line.strip())
            for document in documents
        ]
    documents = [document for document in documents if document.strip()]
    ids: list[int] = []
    end = [] if codec.end is None else [codec.end]
    for start in range(0, len(documents), 1000):
        for document in codec.encode_all(documents[start : start + 1000]):
            ids += document
            ids += end
    return torch.tensor(ids, dtype=torch.int32)


class Blocks(Dataset[dict[str, Tensor]]):
    """Consecutive rows of a token stream, each the start symbol and length - 1 tokens of it.

    An item is ``input_ids`` (L,), int64.
    """

    def __init__(self, stream: Tensor, start: Sequence[int], length: int) -> None:
        self.start = torch.tensor(list(start), dtype=torch.int64)
        body = length - len(self.start)
        self.rows = stream[: len(stream) // body * body].view(-1, body)
        if len(self.rows) == 0:
            raise UserError(
                f"the data has only {len(stream)} tokens, less than one row of {body}; "
                "give more text or set data.length lower"
            )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input_ids": torch.cat([self.start, self.rows[index].long()])}


class Batch(NamedTuple):
    """What a step learns from.

    Attributes:
        rows: Shape (B, L), int64.
        editable: Shape (B, L), bool; what is noised.
        tokens: Shape (B,), int64; what the nats of a row are divided by.
    """

    rows: Tensor
    editable: Tensor
    tokens: Tensor


MakeBatch: TypeAlias = Callable[[dict[str, Tensor], torch.Generator], Batch]
"""(items of a data set, stacked, generator) -> Batch"""


@dataclass(frozen=True)
class Batcher:
    """Chooses, for a batch of rows, how long it is and what stays clean.

    Args:
        prefix_share: Share of rows with a clean prefix.
        prefix_min: Shortest prefix, the start symbols included.
        prefix_max: Longest prefix; 0 for all but the last token.
        random_length_share: Share of batches that are cut to a uniformly random length.
        start: Number of start symbols, never hidden.
    """

    prefix_share: float
    prefix_min: int
    prefix_max: int
    random_length_share: float
    start: int

    def __call__(self, items: dict[str, Tensor], generator: torch.Generator) -> Batch:
        """Return the batch of stacked items of ``Blocks``."""
        rows = items["input_ids"]

        def uniform(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator, device=generator.device)

        length = rows.shape[1]
        if uniform(1) < self.random_length_share:
            shortest = self.start + 1
            length = shortest + int(uniform(1) * (length - shortest + 1))
            rows = rows[:, :length]
        longest = min(self.prefix_max or length - 1, length - 1)
        shortest = min(self.prefix_min, longest)
        size = shortest + (uniform(len(rows)) * (longest - shortest + 1)).long()
        prompted = uniform(len(rows)) < self.prefix_share
        size = torch.where(prompted, size, 0).clamp_min(self.start)
        editable = torch.arange(length, device=rows.device) >= size[:, None]
        return Batch(rows, editable, editable.sum(1))
