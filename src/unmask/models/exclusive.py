"""One call of a network at a time, since the hooks of a call would apply to other threads too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, RLock
from weakref import WeakKeyDictionary

# Not stored in the networks, since a lock cannot be copied or saved.
_LOCKS: WeakKeyDictionary[object, RLock] = WeakKeyDictionary()
_MAKING = Lock()


@contextmanager
def exclusive(network: object) -> Iterator[None]:
    """Context in which no other thread calls a network; the same thread may enter it again.

    Args:
        network: A module or another callable.
    """
    with _MAKING:
        lock = _LOCKS.setdefault(network, RLock())
    with lock:
        yield
