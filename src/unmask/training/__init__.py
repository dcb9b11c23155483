"""Train from a recipe and a text to a finished checkpoint.

    from unmask.training import TrainingJob, load_recipe, train

    train(TrainingJob(load_recipe("diffuse"), data="pydoc", out=Path("model")))

Importing this package imports neither torch nor transformers; they come with the first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unmask._names.lazy import lazy

if TYPE_CHECKING:
    from unmask.training.job import Result, train
    from unmask.training.prepare import TrainingJob
    from unmask.training.recipe import Recipe
    from unmask.training.recipe_file import load as load_recipe
    from unmask.training.recipe_file import names as recipe_names
    from unmask.training.trainer import DiffusionTrainer

# Two are called otherwise here; type checkers take such an import for private without this list.
__all__ = [
    "DiffusionTrainer",
    "Recipe",
    "Result",
    "TrainingJob",
    "load_recipe",
    "recipe_names",
    "train",
]

__getattr__, __dir__ = lazy(__name__)
