"""A pretend accelerator, to find what was left on the CPU where there is no other device.

Its tensors say that they lie elsewhere, and the CPU computes them. As on a GPU an operation on
tensors of two devices fails, unless one has no dimensions or it is a copy, and NumPy cannot read
them. Importing this registers the device for the whole process.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _setup_privateuseone_for_python_backend,
)


class _Module(_DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


NAME = "elsewhere"
_setup_privateuseone_for_python_backend(NAME, _Module())
_DEVICE = torch.device(NAME, 0)
_CPU_GENERATOR = torch.Generator
_aten = torch.ops.aten
_COPIES = {_aten.copy_.default, _aten._to_copy.default}
# Indices of a tensor elsewhere may come from the CPU, not the other way round.
_INDEXED = {
    _aten.index.Tensor,
    _aten.index_put.default,
    _aten.index_put_.default,
    _aten._index_put_impl_.default,
}


class Far(Tensor):
    """A tensor of the CPU that says it lies elsewhere."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> "Far":
        made = Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=_DEVICE,
        )
        made.inner = inner
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})

    def tolist(self) -> Any:
        return self.inner.tolist()

    def numpy(self, *_args: Any, **_kwargs: Any) -> Any:
        raise TypeError("NumPy cannot read a tensor that lies elsewhere")

    __array__ = numpy


class Generator(torch.Generator):
    """The CPU's generator; one that was made for the device says that it is the device's."""

    def __new__(cls, device: Any = "cpu") -> torch.Generator:
        return super().__new__(cls) if _is_far(device) else _CPU_GENERATOR(device)

    @property
    def device(self) -> torch.device:
        return _DEVICE


def _is_far(device: Any) -> bool:
    return device is not None and torch.device(device).type == NAME


def _run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    outer = tree_flatten((args, kwargs))[0]
    tensors = [x for x in outer if isinstance(x, Tensor)]
    far = [x for x in tensors if isinstance(x, Far)]
    near = [x for x in tensors if not isinstance(x, Far) and x.dim()]
    may_mix = func in _COPIES or (func in _INDEXED and isinstance(args[0], Far))
    if far and near and not may_mix:
        raise RuntimeError(f"{func} of {len(far)} tensors elsewhere and {len(near)} of the CPU")
    where = kwargs.get("device")
    inside = tree_map(_inner, (args, kwargs))
    out = func(*inside[0], **inside[1])
    goes_far = bool(far) if where is None else _is_far(where)
    given = zip(tree_flatten(inside)[0], outer, strict=True)
    # What an operation in place returns is its argument.
    same = {id(i): o for i, o in given if isinstance(i, Tensor) and func not in _COPIES}

    def wrapped(x: Any) -> Any:
        known = same.get(id(x))
        return known if known is not None else Far(x) if goes_far else x

    return tree_map(lambda x: wrapped(x) if isinstance(x, Tensor) else x, out)


def _inner(x: Any) -> Any:
    if isinstance(x, Far):
        return x.inner
    return torch.device("cpu") if isinstance(x, torch.device) and _is_far(x) else x


class _Dispatch(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


class _Functions(TorchFunctionMode):
    """Two functions make a tensor of a list where the other mode cannot see it."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is torch.tensor and _is_far(kwargs.get("device")):
            return func(*args, **kwargs | {"device": "cpu"}).to(kwargs["device"])
        if func is Tensor.__getitem__:
            args = (args[0], tree_map(_listed, args[1], is_leaf=_is_list))
        return func(*args, **kwargs)


def _is_list(index: Any) -> bool:
    return isinstance(index, list | range)


def _listed(index: Any) -> Any:
    return torch.tensor(list(index)) if _is_list(index) else index


@contextmanager
def there() -> Iterator[str]:
    """Within this context the device exists; yields its name."""
    torch.Generator = Generator
    try:
        with _Dispatch(), _Functions():
            yield NAME
    finally:
        torch.Generator = _CPU_GENERATOR
