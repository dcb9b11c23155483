"""One call of a network at a time: what a call hangs on a network would serve another thread's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, RLock
from weakref import WeakKeyDictionary

# Not in the networks: a lock cannot be copied or saved.
_LOCKS: WeakKeyDictionary[object, RLock] = WeakKeyDictionary()
_MAKING = Lock()


@contextmanager
def exclusive(network: object) -> Iterator[None]:
    """Within this context no other thread calls a network; the same thread may again.

    Args:
        network: A module, or anything else that is called.
    """
    with _MAKING:
        lock = _LOCKS.setdefault(network, RLock())
    with lock:
        yield
