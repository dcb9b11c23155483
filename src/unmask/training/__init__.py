"""From a recipe and a text to a finished checkpoint."""
