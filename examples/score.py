"""Bound the likelihood of texts, in units that do not depend on the tokenizer.

python examples/score.py
"""

from unmask import Unmasker

TEXTS = {
    "as it was": "The river runs through the town and into the sea .",
    "shuffled": "sea the into runs . town through and The river the",
}


def main() -> None:
    unmasker = Unmasker.from_pretrained()
    for name, text in TEXTS.items():
        # By default, enough random masks for a standard error below 1 %.
        score = unmasker.score(text, seed=0)
        low, high = score.interval("bits_per_char", "masks")
        print(
            f"{name:10} at most {score.nats:.1f} nats in {score.tokens} tokens, "
            f"{score.bits_per_char:.3f} bits per character ({low:.3f} to {high:.3f}, over masks)"
        )

    # A longer text is cut into rows; their spread gives an interval for other texts.
    score = unmasker.score("\n".join(TEXTS.values()) * 60, draws=4, seed=0)
    low, high = score.interval("bits_per_char", "texts")
    print(f"long text  {score.bits_per_char:.3f}, 95 % over texts {low:.3f} to {high:.3f}")

    # With one token at a time from left to right the likelihood is exact.
    exact = unmasker.score_in_order(TEXTS["as it was"])
    print(f"left to right, exactly {exact.nats:.1f} nats")


if __name__ == "__main__":
    main()
