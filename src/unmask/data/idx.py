"""IDX files, in which MNIST and its relatives come: a header, then bytes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from unmask.data.image_files import Pixels
from unmask.data.image_sets import ALL, Picture, PictureSet, check_no_splits, check_split_name
from unmask.data.text_files import open_bytes
from unmask.errors import UserError, explained

IMAGES, LABELS = b"\0\0\x08\x03", b"\0\0\x08\x01"
"""How IDX files begin: bytes in three dimensions, and in one."""
_NAME = re.compile(r"(.*?)(train|t10k|test)-images([-.])idx3-ubyte(\.gz)?")
_SPLITS = {"train": "train", "t10k": "test", "test": "test"}


def is_idx(path: Path) -> bool:
    """Return whether the name or the first bytes of a file are those of an IDX file."""
    if re.search(r"idx\d-ubyte", path.name):
        return True
    try:
        with open_bytes(path) as file:
            return file.read(4) in (IMAGES, LABELS)
    except Exception:
        # A file that cannot be read is reported by what reads it.
        return False


def find_idx(paths: Iterable[Path]) -> dict[str, Path]:
    """Return the IDX files of images among some paths, by their split.

    Raises:
        UserError: If there are several data sets.
    """
    found: dict[str, Path] = {}
    for path in sorted(paths):
        match = _NAME.fullmatch(path.name)
        if match is None:
            continue
        split = _SPLITS[match[2]]
        # A file beside its compressed copy sorts before it.
        if split in found and path != found[split].with_name(found[split].name + ".gz"):
            raise UserError(
                f"{path.parent} holds several IDX files of images for the split {split}, such as "
                f"{found[split]} and {path}; name one of them as the data"
            )
        found.setdefault(split, path)
    return found


def read_idx_folder(source: str, files: dict[str, Path], split: str) -> PictureSet:
    """Return the images of a split of IDX files; see ``find_idx``.

    Raises:
        UserError: If there is no such split, or a file is damaged.
    """
    wanted = check_split_name(source, split, files)
    return _read([path for name, path in files.items() if wanted in (ALL, name)], files.values())


def read_idx_file(source: str, path: Path, split: str) -> PictureSet:
    """Return the images of one IDX file, with the labels of the file beside it if there is one.

    Raises:
        UserError: If a split is given, or the file is damaged.
    """
    check_no_splits(source, split)
    return _read([path], [path])


def _read(paths: list[Path], together: Iterable[Path]) -> PictureSet:
    """Read IDX files of images; the classes are the numbers up to the highest of all labels."""
    labels = {path: _labels_beside(path) for path in together}
    pictures: list[Picture] = []
    for path in paths:
        images, own = read_images(path), labels[path]
        if own is not None and len(own) != len(images):
            raise UserError(
                f"{path} has {len(images)} images, and the file beside it {len(own)} labels; "
                "fetch both anew"
            )
        for number, pixels in enumerate(images):
            label = None if own is None else int(own[number])
            pictures.append(Picture(f"number {number + 1} of {path}", pixels[..., None], label))
    highest = max(
        (int(own.max(initial=0)) for own in labels.values() if own is not None), default=0
    )
    return PictureSet(iter(pictures), tuple(map(str, range(highest + 1))))


def _labels_beside(path: Path) -> np.ndarray[Any, np.dtype[np.uint8]] | None:
    name = path.name.replace("images", "labels").replace("idx3", "idx1").removesuffix(".gz")
    for beside in (path.with_name(name), path.with_name(f"{name}.gz")):
        if beside != path and beside.is_file():
            return _array(beside, LABELS, "labels")
    return None


def read_images(path: Path) -> Pixels:
    """Return the images of an IDX file, (N, H, W) uint8.

    Raises:
        UserError: If it does not begin as such a file, or is longer or shorter than it says.
    """
    return _array(path, IMAGES, "images")


def _array(path: Path, magic: bytes, what: str) -> Pixels:
    with explained(f"cannot read {path}"), open_bytes(path) as file:
        content = file.read()
    dimensions = magic[3]
    start = 4 + 4 * dimensions
    if content[:4] != magic:
        raise UserError(
            f"{path} is no IDX file of {what}, which begins with the bytes {magic.hex(' ')}; "
            "name one, or fetch it anew"
        )
    shape = tuple(int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4))
    # Python's whole numbers, which a forged header cannot make overflow.
    count = math.prod(shape)
    size = start + count
    if len(content) != size:
        raise UserError(
            f"{path} has {len(content)} bytes where its header promises {size}; fetch it anew"
        )
    if not count:
        raise UserError(f"{path} holds no {what}; name a file that does")
    return np.frombuffer(content, np.uint8, count, start).reshape(shape)
