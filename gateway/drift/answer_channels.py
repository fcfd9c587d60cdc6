"""What is told of an answer: one row per channel. Edges follow from the unit, never from answers."""

from __future__ import annotations

from gateway.drift.channel import nominal, number, rate


def _steps(first: float, last: float, step: float) -> list[float]:
    return [first + step * index for index in range(round((last - first) / step) + 1)]


_SHARES = [0.001, 0.0025, 0.005, *_steps(0.01, 0.1, 0.01), 0.125, 0.15, 0.2, 0.25, *_steps(0.3, 0.9, 0.1)]
SCRIPTS = (
    "none",
    "latin",
    "greek",
    "cyrillic",
    "hebrew",
    "arabic",
    "indic",
    "thai",
    "hangul",
    "kana",
    "han",
    "other",
)
LAST = (
    "nothing",
    "full stop",
    "exclamation mark",
    "question mark",
    "colon",
    "comma",
    "bracket",
    "quote",
    "backtick",
    "asterisk",
    "digit",
    "letter",
    "ideographic stop",
    "other",
)
STARTS = (
    "nothing",
    "{",
    "[",
    "code fence",
    "#",
    "list item",
    "digit",
    "quote",
    "tag",
    "bold",
    "capital",
    "small letter",
    "other letter",
    "other",
)
FINISHES = ("none", "stop", "length", "tool_calls", "content_filter", "function_call", "other")
WORDS, PHRASES = 31, 63
PROJECTIONS = 8

ANSWER = (
    number("chars", "length", "log2(1 + characters)", _steps(1, 14.75, 0.25)),
    number("words", "words", "log2(1 + words)", _steps(0.5, 12.25, 0.25)),
    number("lines", "lines", "log2(1 + lines)", _steps(1.25, 10, 0.25)),
    number("word_length", "mean length of words", "characters", _steps(1.5, 12, 0.25)),
    number("distinct_words", "different words among the first 100", "share", _steps(0.02, 0.98, 0.02)),
    number("non_ascii", "characters beyond ASCII", "share", _SHARES),
    number("digits", "digits", "share", _SHARES),
    number("capitals", "capital letters", "share", _SHARES),
    number("spaces", "white space", "share", _steps(0.02, 0.4, 0.01)),
    number("punctuation", "punctuation", "share", _SHARES),
    number("list_lines", "lines that are list items", "share", _steps(0.02, 0.98, 0.04)),
    number("compression", "how far it can be compressed", "share", _steps(0.04, 1.5, 0.04)),
    number("questions", "question marks", "count", [1, 2, 3, 4, 6, 8, 12, 16]),
    number("exclamations", "exclamation marks", "count", [1, 2, 3, 4, 6, 8, 12, 16]),
    number("tool_calls", "tool calls", "count", [1, 2, 3, 4, 6, 8, 16]),
    number("completion_tokens", "output tokens", "log2(1 + tokens)", _steps(0.5, 14, 0.25)),
    number("reasoning_tokens", "reasoning tokens", "log2(1 + tokens)", _steps(0.5, 16, 0.5)),
    number("output_input_ratio", "output tokens for an input token", "log2", _steps(-12, 6, 0.5)),
    number("first_logprob", "log-probability of the first token", "nats", [
           -8, -4, -3, -2, -1.5, -1, -0.7, -0.5,
           -0.35, -0.25, -0.15, -0.1, -0.07, -0.05, -0.03, -0.02, -0.01, -0.005, -0.001, -0.0001]),
    nominal("first_word", "first word (hash)", [str(cell) for cell in range(WORDS + 1)]),
    nominal("first_words", "first three words (hash)", [str(cell) for cell in range(PHRASES + 1)]),
    nominal("last_char", "how it ends", LAST),
    nominal("start", "how it begins", STARTS),
    nominal("script", "script of most letters", SCRIPTS),
    nominal("finish_reason", "why it ended", FINISHES),
    nominal("tool_names", "tools called (hash)", [str(cell) for cell in range(WORDS + 1)]),
    rate("refusal", "refusals", critical=True),
    rate("refusal_anywhere", "refusals anywhere in the text", critical=True),
    rate("fence", "code fences", critical=True),
    rate("header", "headings", critical=True),
    rate("bold", "bold text", critical=True),
    rate("list", "lists", critical=True),
    rate("math", "formulas"),
    rate("json_start", "answers that begin like JSON", critical=True),
    rate("ends_punctuated", "answers that end with punctuation", critical=True),
    rate("short", "answers under 40 characters", critical=True),
    rate("empty", "empty answers", critical=True),
    rate("truncated", "answers cut at the token limit", critical=True),
    rate("other_script", "letters of a foreign script", critical=True),
    rate("json_valid", "valid JSON where asked for", critical=True),
    rate("schema_valid", "JSON that fits its schema, where one was given", critical=True),
    rate("near_repeat", "nearly the previous answer again"),
    *(
        number(f"projection_{index + 1}", "projection of letter triples", "", _steps(-1.5, 1.5, 0.05))
        for index in range(PROJECTIONS)
    ),
)  # fmt: skip
INDEX = {channel.name: index for index, channel in enumerate(ANSWER)}
