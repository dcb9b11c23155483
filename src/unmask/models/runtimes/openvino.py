"""A copy of a network for OpenVINO, which a model folder may hold next to its weights.

    exported.xml, exported.bin   the graph and its weights, in OpenVINO's own format
    exported.json                what it is a copy of

The graph takes the ids (B, L), the attention mask (B, L) and the queried positions (N, 2), all
int64, and returns their logits (N, V): its head runs on N positions, as in ``encoder``.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unmask.errors import UserError, explained, optional_library
from unmask.models.checkpoint import EXPORTED, read_versioned, words_by_name
from unmask.models.encoder import EncoderDenoiser, queried_rows, run_batch_invariant
from unmask.models.exclusive import exclusive
from unmask.validation import Options, option, word

FORMAT = 1
ENTRY, GRAPH, CONSTANTS = EXPORTED
AGAIN = "export the model again, or use --backend torch"


@dataclass(frozen=True)
class Entry(Options):
    """The contents of ``exported.json``; an entry that exists is valid.

    Raises:
        UserError: If a value has the wrong type.
    """

    backend: str = option("openvino", "The runtime.", word)
    weights: str = option("float32", "'float32' or 'int8'.", word)
    model: str = option("", "SHA-256 of the exported weights; see ``fingerprint``.", word)
    files: dict[str, str] = option(dict, "SHA-256 of the exported files, by name.", words_by_name)
    versions: dict[str, str] = option(
        dict, "Versions of the libraries that wrote them.", words_by_name
    )

    @classmethod
    def read(cls, directory: Path) -> Entry | None:
        """Read ``exported.json``, or return None where there is none.

        Raises:
            UserError: If it is damaged or from a newer version of this package.
        """
        return read_versioned(directory / ENTRY, FORMAT, AGAIN, lambda content: cls(**content))

    def write(self, directory: Path) -> None:
        """Write ``exported.json`` into a directory."""
        content = json.dumps({"format": FORMAT, **asdict(self)}, indent=2)
        (directory / ENTRY).write_text(content + "\n", encoding="utf-8")

    def check(self, directory: Path) -> None:
        """Check that the exported files are complete and match the weights in the folder.

        Raises:
            UserError: If they do not.
        """
        if self.model != fingerprint(directory):
            raise UserError(f"the exported network in {directory} is of other weights; {AGAIN}")
        for name in (GRAPH, CONSTANTS):
            path = directory / name
            if not path.is_file() or self.files.get(name) != digest(path):
                raise UserError(f"{path} is missing or damaged; {AGAIN}")


class ExportedDenoiser:
    """The exported copy of a network in place of the network itself.

    Args:
        network: The compiled graph; see ``open_network``.
        original: The denoiser that it was exported from.
    """

    uses_time = False

    def __init__(self, network: Any, original: EncoderDenoiser) -> None:
        self._network, self._traits = network, original.traits
        self.vocab_size, self.data_ids = original.vocab_size, original.data_ids
        not_data = torch.ones(self.vocab_size, dtype=torch.bool)
        not_data[self.data_ids] = False
        self._not_data = not_data.nonzero()[:, 0]

    def __call__(
        self, xt: Tensor, t: Tensor, *, at: Tensor | None = None, valid: Tensor | None = None
    ) -> Tensor:
        """Return logits of p(x_0 | x_t), (N, V) at ``at`` or (B, L, V); see ``Denoiser``."""
        xt, t, at, valid = queried_rows(xt, t, at, valid)
        logits = run_batch_invariant(self._logits, self._traits, xt, t, at, valid)
        return logits.index_fill_(-1, self._not_data, float("-inf"))

    def _logits(self, xt: Tensor, t: Tensor, at: Tensor | None, valid: Tensor | None) -> Tensor:
        mask = torch.ones_like(xt) if valid is None else valid.long()
        where = torch.ones_like(xt, dtype=torch.bool) if at is None else at
        inputs = (xt, mask, where.nonzero())
        # Calls of a compiled graph share its buffers.
        with exclusive(self):
            answer = self._network([x.contiguous().numpy() for x in inputs])[0]
        logits = torch.from_numpy(answer)
        return logits.view(*xt.shape, -1) if at is None else logits


def runtime() -> Any:
    """Return the OpenVINO library.

    Raises:
        UserError: If it is not installed.
    """
    # On import it reports the use over the network, unless its reporter cannot be imported.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    with optional_library("this", "openvino"):
        import openvino
    return openvino


def installed() -> bool:
    """Return whether OpenVINO can be imported, without doing so."""
    return find_spec("openvino") is not None


def compiled(network: Any) -> Any:
    """Return a compiled graph that runs on as many threads as torch uses.

    Args:
        network: A graph, or the path of one.
    """
    settings = {
        # By default it computes in bfloat16 on processors that can, and texts would differ.
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "NUM_STREAMS": 1,
    }
    return runtime().Core().compile_model(network, "CPU", settings)


def open_network(directory: Path) -> Any:
    """Return the exported network of a folder.

    Raises:
        UserError: If OpenVINO is missing, or the exported network is missing, damaged or of other
            weights than those in the folder.
    """
    runtime()
    entry = Entry.read(directory)
    if entry is None:
        raise UserError(
            f"{directory} holds no exported network; export one by: "
            f"unmask export --model {directory} --out DIR"
        )
    entry.check(directory)
    wrote, runs = entry.versions.get("openvino"), runtime().__version__
    what = f"OpenVINO {runs} cannot open {directory / GRAPH}, which {wrote} wrote"
    with explained(what, AGAIN, (RuntimeError,)):
        return compiled(directory / GRAPH)


def fingerprint(directory: Path) -> str:
    """Return the SHA-256 over the SHA-256 of every file of weights in a folder, by name."""
    files = sorted(directory.glob("model*.safetensors"))
    return hashlib.sha256("".join(map(digest, files)).encode()).hexdigest()


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
