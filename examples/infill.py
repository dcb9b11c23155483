"""Fill in the blanks of a text, also blanks of unknown length.

python examples/infill.py
"""

from unmask import Unmasker

TEMPLATES = [
    "The film was directed by [MASK:2] and released in [MASK] .",
    "He was born in [MASK:1-4] , where his father worked as a [MASK:1-2] .",
]


def main() -> None:
    unmasker = Unmasker.from_pretrained()
    # The length of a blank with a range is drawn first, by how well it explains the given text.
    result = unmasker.infill(TEMPLATES, num_samples=2, seed=3)
    for text in result.texts:
        print(text)
    print(f"{result.nfe} network calls, those for the lengths included")

    # Confident tokens first, and always the likeliest: the text does not depend on the seed.
    print(unmasker.infill(TEMPLATES[0], sampler="threshold").texts[0])


if __name__ == "__main__":
    main()
