"""Any Hugging Face ``*ForMaskedLM`` as a graph for OpenVINO, without naming an architecture.

``torch.export`` traces the model once with dynamic sizes of batch, sequence and positions, and
OpenVINO converts the result. The graph is accepted only if its logits agree with those of torch on
random inputs of other sizes, which detects models whose computation depends on the input.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import PreTrainedModel

from unmask.diffusion.capabilities import require
from unmask.errors import UserError, explained
from unmask.models.compat import attention_of
from unmask.models.encoder import EncoderDenoiser
from unmask.models.extra_weights import kinds_of
from unmask.models.forward import only_at
from unmask.models.positions import position_limit
from unmask.models.runtimes.openvino import (
    CONSTANTS,
    GRAPH,
    Entry,
    ExportedDenoiser,
    compiled,
    digest,
    fingerprint,
    runtime,
)
from unmask.validation import Option, word

WEIGHTS = ("float32", "int8")
PRECISION = Option("Precision of the exported weights.", word, choices=WEIGHTS)
"""Reads one of ``WEIGHTS``."""
TOLERANCE = 1e-3
"""Largest relative difference from the logits of torch in float32."""


class _Graph(nn.Module):
    """A model as a function of ids and mask (B, L) and positions (N, 2)."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, at: Tensor) -> Tensor:
        """Return logits, shape (N, V)."""
        with only_at(self.model, at.unbind(1)):
            return self.model(input_ids=input_ids, attention_mask=attention_mask).logits[0]


def convert(model: PreTrainedModel, weights: str) -> Any:
    """Return a model as an OpenVINO graph.

    Args:
        model: A masked language model on the CPU, bare, in evaluation mode.
        weights: One of ``WEIGHTS``.

    Raises:
        UserError: If OpenVINO is missing, or the model has time conditioning or cannot be exported.
    """
    PRECISION("weights", weights)
    openvino = runtime()
    require(kinds_of(model), "export")
    what = f"{type(model).__name__} cannot be exported"
    # Architectures make the libraries raise errors of any type.
    with explained(what, keep=()):
        with torch.no_grad(), _plain_attention(model), warnings.catch_warnings():
            # Deprecations between the two libraries do not concern the user.
            warnings.simplefilter("ignore")
            graph = openvino.convert_model(_exported_program(model))
        gap = _gap(model, graph)
    if not gap <= TOLERANCE:
        raise UserError(f"{what}: OpenVINO's logits differ by {gap:.1e}")
    if weights == "int8":
        _in_eight_bits(openvino, graph)
    return graph


def write(graph: Any, weights: str, directory: Path) -> None:
    """Write a graph and its entry into a folder that holds the model's weights already.

    Raises:
        OSError: If the files cannot be written.
    """
    openvino = runtime()
    try:
        openvino.save_model(graph, directory / GRAPH, compress_to_fp16=False)
        # If the disk is full, a small missing part is not reported.
        openvino.Core().read_model(directory / GRAPH)
    except RuntimeError as error:
        raise OSError("the exported network could not be written") from error
    Entry(
        backend="openvino",
        weights=weights,
        model=fingerprint(directory),
        files={name: digest(directory / name) for name in (GRAPH, CONSTANTS)},
        versions={
            "openvino": openvino.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    ).write(directory)


def _exported_program(model: PreTrainedModel) -> Any:
    """Return a model as a graph of torch with dynamic sizes."""
    ids = torch.ones(2, 24, dtype=torch.int64)
    mask = ids.clone()
    mask[1, 20:] = 0
    at = torch.tensor([[0, 3], [0, 5], [1, 6]])
    size = torch.export.Dim.DYNAMIC
    sizes = ({0: size, 1: size}, {0: size, 1: size}, {0: size})
    return torch.export.export(_Graph(model), (ids, mask, at), dynamic_shapes=sizes, strict=False)


@contextmanager
def _plain_attention(model: PreTrainedModel) -> Iterator[None]:
    """Context in which a model computes its attention by separate operations.

    A query without keys, such as padding outside a local window, gets zeros from torch's fused
    attention but NaN from OpenVINO's. With separate operations both get a finite mean.
    """
    before: Any = attention_of(model)
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


@torch.no_grad()
def _gap(model: PreTrainedModel, graph: Any) -> float:
    """Return the largest relative difference of logits on padded random rows."""
    original = EncoderDenoiser(model, ())
    exported = ExportedDenoiser(compiled(graph), original)
    gaps = []
    for rows, length in ((3, 160), (1, 1)):
        length = min(length, position_limit(model) or length)
        draw = torch.Generator().manual_seed(0)
        ids = torch.randint(original.vocab_size, (rows, length), generator=draw)
        valid = torch.arange(length) < torch.tensor([length, max(length // 4, 1), 1])[:rows, None]
        at = valid & (torch.rand(rows, length, generator=draw) < 0.5)
        at[0, 0] = True
        want, got = (net(ids, torch.ones(rows), at=at, valid=valid) for net in (original, exported))
        gaps.append(float((got - want).abs().max() / want.abs().max()))
    # Python's maximum would ignore NaN.
    return float(torch.tensor(gaps).max())


def _in_eight_bits(openvino: Any, graph: Any) -> None:
    """Store the matrices of all linear layers as int8 with a scale for every output.

    A matrix that is shared by embedding and head is stored once. The activations in the graph are
    unchanged; the runtime quantises them during the call.
    """
    import numpy as np
    from openvino import opset13 as ops

    for node in graph.get_ordered_ops():
        if node.get_type_name() != "MatMul":
            continue
        source = node.input_value(1)
        constant = source.get_node()
        if constant.get_type_name() != "Constant" or constant.data.ndim != 2:
            continue
        inner = 1 if node.get_attributes()["transpose_b"] else 0
        scale = np.abs(constant.data).max(inner, keepdims=True) / 127
        scale = np.maximum(scale, np.finfo(np.float32).tiny)
        eight = np.rint(constant.data / scale).astype(np.int8)
        small = ops.multiply(ops.convert(ops.constant(eight), "f32"), ops.constant(scale))
        for target in source.get_target_inputs():
            target.replace_source_output(small.output(0))
    graph.validate_nodes_and_infer_types()
