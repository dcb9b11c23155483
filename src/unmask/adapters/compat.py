"""Names of the libraries that depend on their version or are private, each in one place.

Every function here has a canary test in ``tests/test_compat.py``: when a release moves a name, that
test fails and says which one.
"""

from __future__ import annotations

import inspect
from typing import Any

from transformers import PreTrainedModel


def cache_argument(model: PreTrainedModel) -> str:
    """Return the name by which a decoder takes its key-value cache.

    ``past_key_values`` was renamed to ``cache`` in transformers 5.
    """
    parameters: Any = inspect.signature(model.forward).parameters
    return "cache" if "cache" in parameters else "past_key_values"
