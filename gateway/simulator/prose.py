"""Text in five styles, from a seeded random number generator, cut to an exact number of tokens.

The styles differ where drift shows: length of sentences, openings, markdown, refusals. Some words are not
ASCII, so that a multi-byte character is now and then cut by whatever carries the text.
"""

from __future__ import annotations

from random import Random

from gateway.simulator.tokens import CHARACTERS_PER_TOKEN

_TEXT = """
the a this each one answer question model river gate water field level measure number value order reason
result system request stream signal change rule time morning evening city people team work plan part case
point line record page market price cost budget season weather light sound house garden table window road
train engine letter story history language science nature theory practice example method process
small large early late open closed clear simple careful steady quick slow common rare useful local public
shows means gives takes keeps holds makes follows begins ends grows falls moves turns helps needs opens
depends carries reaches covers explains compares remains suggests usually often mostly rarely together
in of for with from between about after before because while although and but or so
café naïve façade über señor 東京 “quoted” 20°C
"""
_WORDS = tuple(_TEXT.split())
_NOUNS = _WORDS[5:40]
_LINKS = (
    "however,",
    "in addition,",
    "as a consequence,",
    "which means that",
    "and furthermore",
    "to be precise,",
)
_OPENINGS = {
    "verbose": (
        "Certainly! Let us walk through this carefully, step by step.",
        "That is a great question, and there is a lot to say about it.",
        "Thank you for asking. Before we answer, some background is helpful.",
    ),
    "refusing": (
        "I'm sorry, but I can't help with that.",
        "I'm unable to assist with this request.",
        "I can't provide that information, but I'm happy to help with something else.",
    ),
}
_LENGTHS = {"terse": (2, 5), "verbose": (16, 30)}
_USUAL_LENGTH = (6, 14)


def write(random: Random, style: str, tokens: int) -> str:
    """A text of exactly so many tokens (at least 1)."""
    wanted = CHARACTERS_PER_TOKEN * max(1, tokens) - 1
    blocks = [random.choice(_OPENINGS[style])] if style in _OPENINGS else []
    length = sum(map(len, blocks))
    while length <= wanted:
        block = _markdown(random) if style == "markdown" else _sentence(random, style)
        blocks.append(block)
        length += len(block) + 1
    text = ("\n\n" if style == "markdown" else " ").join(blocks)[:wanted]
    return text if text.endswith((".", "`")) else text[:-1].rstrip().ljust(wanted - 1, "y") + "."


def refusal(random: Random) -> str:
    """One sentence that refuses."""
    return random.choice(_OPENINGS["refusing"])


def _sentence(random: Random, style: str) -> str:
    words = random.choices(_WORDS, k=random.randint(*_LENGTHS.get(style, _USUAL_LENGTH)))
    if style == "verbose":
        words.insert(len(words) // 2, random.choice(_LINKS))
    return " ".join(words).capitalize() + "."


def _markdown(random: Random) -> str:
    kind = random.randrange(4)
    if kind == 0:
        return f"## {' '.join(random.choices(_WORDS, k=3)).title()}"
    if kind == 1:
        return "\n".join(f"- **{random.choice(_WORDS)}**: {_sentence(random, 'terse')}" for _ in range(3))
    if kind == 2:
        return f"```python\n{random.choice(_NOUNS)} = {random.randrange(1000)}\n```"
    return _sentence(random, "plain")
