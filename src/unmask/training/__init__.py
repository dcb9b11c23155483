"""Train from a recipe and a text to a finished checkpoint.

    from unmask.training import TrainingJob, load_recipe, train

    train(TrainingJob(load_recipe("diffuse"), data="pydoc", out=Path("model")))

Importing this package imports neither torch nor transformers; they come with the first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unmask.training.job import Result, train
    from unmask.training.prepare import TrainingJob
    from unmask.training.recipe import Recipe
    from unmask.training.recipe_file import load as load_recipe
    from unmask.training.recipe_file import names as recipe_names
    from unmask.training.trainer import DiffusionTrainer

__all__ = [
    "DiffusionTrainer",
    "Recipe",
    "Result",
    "TrainingJob",
    "load_recipe",
    "recipe_names",
    "train",
]

_HOMES = {
    "DiffusionTrainer": ("trainer", "DiffusionTrainer"),
    "Recipe": ("recipe", "Recipe"),
    "Result": ("job", "Result"),
    "TrainingJob": ("prepare", "TrainingJob"),
    "load_recipe": ("recipe_file", "load"),
    "recipe_names": ("recipe_file", "names"),
    "train": ("job", "train"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    module, own = _HOMES[name]
    return getattr(importlib.import_module(f"{__name__}.{module}"), own)
