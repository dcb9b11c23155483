"""Write on the blanks of a text, also where their length is not known.

python examples/infill.py
"""

from unmask import Unmasker

TEMPLATES = [
    "The film was directed by [MASK:2] and released in [MASK] .",
    "He was born in [MASK:1-4] , where his father worked as a [MASK:1-2] .",
]


def main() -> None:
    writer = Unmasker.from_pretrained()
    # Every length that a range allows is written; the text with the lowest bound per token is kept.
    result = writer.infill(TEMPLATES, num_samples=2, seed=3)
    for text in result.texts:
        print(text)
    print(f"{result.nfe} network calls, scoring of the lengths included")

    # Certain tokens first, and always the likeliest: the same text whatever the seed.
    sure = writer.infill(TEMPLATES[0], sampler="confidence")
    print(sure.texts[0])


if __name__ == "__main__":
    main()
