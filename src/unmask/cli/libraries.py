"""What the libraries print: nothing by themselves, everything with ``-v``."""

from __future__ import annotations

import os
import warnings

_NAMES = r"(accelerate|datasets|huggingface_hub|matplotlib|tokenizers|torch|transformers)(\.|$)"
_QUIET = {
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_VERBOSITY": "error",
}


def quiet() -> None:
    """Keep the libraries from printing between our own lines; what they raise still arrives."""
    for name, value in (_QUIET | {"TOKENIZERS_PARALLELISM": "false"}).items():
        os.environ.setdefault(name, value)
    # What a library deprecates is for us to see (``make warnings``), not for a user to mend.
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", module=_NAMES)


def loud() -> None:
    """Take back what ``quiet`` set, and what the user did not."""
    for name, value in _QUIET.items():
        if os.environ.get(name) == value:
            del os.environ[name]
    warnings.resetwarnings()
