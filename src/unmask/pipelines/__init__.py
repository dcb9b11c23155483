"""A model, its tokenizer and its card as one object that generates and scores."""
