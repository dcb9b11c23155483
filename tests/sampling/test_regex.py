"""Patterns mean what they mean to ``re``: judged by ``re`` itself on patterns made at random."""

import random
import re

import pytest

from unmask.errors import UserError
from unmask.sampling.constraints.regex import MAX_POSITIONS, compile_regex

ALPHABET = "abcé日 1\nA{}"
PIECES = ["a", "b", "é", "日", ".", "[ab]", "[^a]", r"\d", r"\w", "", " ", "[a-c]", r"\n", r"\x61"]
PIECES += ["[]a]", "[^]]", "{", "}", r"\{", "A", r"\u65e5", r"\141", r"\N{LATIN SMALL LETTER A}"]
REPEATS = ["*", "+", "?", "*?", "+?", "??", "{2}", "{0,2}", "{1,3}?", "{2,}", "{,2}", "{,}", "{0}"]


def pattern(rng: random.Random, depth: int) -> str:
    kind = rng.random()
    if depth == 0 or kind < 0.3:
        return rng.choice(PIECES)
    inner = [pattern(rng, depth - 1) for _ in range(3)]
    if kind < 0.5:
        return inner[0] + inner[1]
    if kind < 0.65:
        return f"(?:{inner[0]}|{inner[1]})"
    if kind < 0.8:
        return f"(?:{inner[0]}){rng.choice(REPEATS)}"
    if kind < 0.9:
        return f"({inner[0]})"
    return "".join(inner)


def test_patterns_made_at_random_match_what_re_matches():
    rng = random.Random(1)
    matched = total = 0
    for _ in range(400):
        whole = rng.choice(["", "", "(?i)", "(?s)", "^"]) + pattern(rng, 4) + rng.choice(["", "$"])
        dfa, judge = compile_regex(whole, ALPHABET), re.compile(whole)
        for _ in range(40):
            text = "".join(rng.choices(ALPHABET, k=rng.randrange(6)))
            # A blank before the text does not count.
            expected = any(judge.fullmatch(t) for t in (text, text.removeprefix(" ")))
            assert dfa.matches(text) == expected, (whole, text)
            matched, total = matched + expected, total + 1
    assert 0.05 < matched / total < 0.95, "no power"


@pytest.mark.parametrize(
    ("text", "matches"), [("ab", True), ("a", True), ("abab", True), ("ba", False), ("", False)]
)
def test_an_alternative_that_begins_another_does_not_hide_it(text, matches):
    assert compile_regex("(a|ab)+", "ab").matches(text) == matches


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("(a", "unterminated subpattern at position 0"),
        ("a[z-a]", "bad character range z-a at position 2"),
        ("*a", "nothing to repeat at position 0"),
        ("a{99999999999999}", "too large"),
        ("ab(?=c)", "position 2"),
        ("(?!a)b", "position 0"),
        ("(?<=a)b", "position 0"),
        (r"(a)b\1", "position 4"),
        (r"\bfoo", "position 0"),
        ("a++", "position 2"),
        ("a^b", "position 1"),
        ("a$b", "position 1"),
        ("(?>a)b", "position 0"),
        ("a(?i:b)", "position 1"),
        ("(a)(?(1)b|c)", "position 3"),
        ("(?x) a b", "flag x"),
        (f"a{{{MAX_POSITIONS + 1}}}", f"more than {MAX_POSITIONS} characters"),
        ("((a{90}){90}){90}", f"more than {MAX_POSITIONS} characters"),
        ("(){4000000000}", f"more than {MAX_POSITIONS} characters"),
        ("(a|b)*a(a|b){14}", "more than"),
    ],
)
def test_what_cannot_be_an_automaton_is_one_sentence_that_says_where(wrong, says):
    with pytest.raises(UserError, match=re.escape(says)):
        compile_regex(wrong, "ab c")


def test_a_counted_repetition_costs_a_state_for_each_count():
    dfa = compile_regex("[A-Z][^.!?]{10,200}[.!?]", [chr(i) for i in range(32, 1000)])
    assert len(dfa.rows) < 210
    assert dfa.matches("A" + "é" * 200 + "!")
    assert not dfa.matches("A" + "é" * 201 + "!")
    assert not dfa.matches("A" + "é" * 9 + "!")


@pytest.mark.parametrize(
    "nothing", ["(((){4000}){4000}){4000}", "((|(|)){999}|(){9}){3,999}(){7,}"]
)
def test_nothing_however_often_is_nothing(nothing):
    dfa = compile_regex(f"a{nothing}b", "ab")
    assert dfa.matches("ab")
    assert not dfa.matches("aab")


@pytest.mark.parametrize("wrong", ["(a?){900}", "(a?b?){500}", "((a?){60}){20}", "(.?){900}"])
def test_the_work_of_an_automaton_is_bounded(monkeypatch, wrong):
    monkeypatch.setattr("unmask.sampling.constraints.regex.MAX_WORK", 200_000)
    with pytest.raises(UserError, match="steps of work"):
        compile_regex(wrong, "ab")
    compile_regex(".{0,200}", "ab")
