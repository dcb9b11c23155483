"""Networks of transformers as denoisers, and the folders that they are saved in."""
