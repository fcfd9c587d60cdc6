"""How many tokens a call's input can be at most, from its bytes alone: no tokenizer, no network.

A byte-level BPE (OpenAI, Llama 3, Qwen, DeepSeek, Mistral's Tekken) and SentencePiece with byte fallback give
each token at least one byte of text, and the JSON around a text is longer than what a chat template puts
around it: so the bytes of the body are an upper bound. Media are counted by their kind; what lies with the
provider, or is fetched by it, has no bound. Not covered: tokenizers that rewrite text before they cut it
(NFKC of XLM-R, in some embedding models, makes 18 characters of the one U+FDFA).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from gateway.quota.audio import takes_bytes
from gateway.usage import Usage, split_usage
from gateway.wire.dialects.openai_chat import Call
from gateway.wire.json import dumps

IMAGE_TOKENS = 50_000
"""What one image may cost. The dearest known: gpt-4o-mini in high detail, 2,833 + 5,667 for each of at most 8
tiles of 512 × 512 = 48,169 (OpenAI's guide to images)."""
OVERHEAD_TOKENS = 256
"""What a provider's template puts before the first message: 3 tokens at OpenAI, 25 (Llama 3.1: dates), 20
(Qwen: a default system prompt), about 100 (gpt-oss)."""
TOOLS_TOKENS = 1_024
"""What it adds if there are tools, or a form for the answer: 346 to 530 tokens at Anthropic."""

UNBOUNDED_FIELDS: Mapping[str, bool] = {
    "chat_template": False,
    "container": False,
    "compound_custom": True,
    "conversation": False,
    "data_sources": True,
    "enable_search": True,
    "file_ids": False,
    "mcp_servers": True,
    "models": False,
    "plugins": True,
    "previous_response_id": False,
    "search_parameters": True,
    "search_settings": True,
    "web_search_options": True,
}
"""Fields of a call that bring in text which is not in its body → whether that is a web search. OpenAI, Azure
(`data_sources`), OpenRouter (`models`, `plugins`), xAI (`search_parameters`), Groq (`compound_custom`,
`search_settings`), Anthropic (`container`, `mcp_servers`), Qwen (`enable_search`), vLLM (`chat_template`: a
program that writes the prompt)."""

BACKGROUND = "background"
"""A call whose answer is not waited for: what it used is told to whoever asks for it later, if anybody."""
_LOOKED_AT = frozenset(
    {*UNBOUNDED_FIELDS, BACKGROUND, "input", "tools", "functions", "response_format", "modalities", "audio"}
)
_TEXTS = frozenset(
    {"text", "refusal", "thinking", "redacted_thinking", "reasoning", "input_text", "output_text"}
)
"""Parts of a message that are in the body as they are."""
_OWN_TOOLS = frozenset({"function", "custom"})
"""Tools that the caller runs; any other runs at the provider, and its results are input."""
_OF_MESSAGES = frozenset({"audio", "file_ids", "attachments"})
"""Fields of a message that name something stored: an earlier spoken answer, files."""


class Bound(NamedTuple):
    """The input of one call, as far as its bytes tell."""

    tokens: int
    """No provider counts more, if nothing is `unbounded`."""
    text_bytes: int
    """Of the body, without images and audio."""
    images: int = 0
    audio_bytes: int = 0
    """Base64 text of audio in the body. It is in `tokens`: a second is 10 to 32 tokens and, where
    `audio.takes_bytes` holds, at least 1,300 bytes of it."""
    has_audio: bool = False
    """True if audio goes in or comes out, so that its prices may apply."""
    searches: int = 0
    """Web searches that are charged beside the tokens."""
    unbounded: str = ""
    """The first thing in the call that has no bound, as a path ("messages[].content[].file"); "" if none."""

    @property
    def is_plain(self) -> bool:
        """True if its tokens are those of its text: a call that ratios learn from."""
        return not (self.images or self.audio_bytes or self.unbounded)

    def held_tokens(self, context: int | None) -> int | None:
        """Input tokens to hold at a model with this context window: the bound; for what has none all the
        window, and None if that is not known. The bound may be above the window: published windows are not
        always up to date, and a hold must not rest on one that is too short."""
        if not self.unbounded:
            return self.tokens
        return context


def bound_input(call: Call, image_tokens: int = IMAGE_TOKENS) -> Bound:
    """The bound of a call's input. Never raises, whatever the body holds: what providers refuse is theirs
    to refuse. 0.8 µs for a call of two messages of text, 0.15 µs for each further one."""
    fields = call.fields
    if _LOOKED_AT.isdisjoint(fields):
        messages = fields.get("messages")
        for message in messages if type(messages) is list else ():
            if (
                type(message) is not dict
                or type(message.get("content", "")) is not str
                or not _OF_MESSAGES.isdisjoint(message)
            ):
                break
        else:
            # As a tuple is made: the class's own way, which looks for defaults, costs 0.2 µs more.
            return tuple.__new__(Bound, (call.size + OVERHEAD_TOKENS, call.size, 0, 0, False, 0, ""))
    return _bound(call, fields, image_tokens)


def _bound(call: Call, fields: Mapping[str, Any], image_tokens: int) -> Bound:
    """The bound of a call that is more than messages of text."""
    media = _Media()
    if fields.get(BACKGROUND) is True:
        media.unbound(BACKGROUND)
    named = [name for name in fields if name in UNBOUNDED_FIELDS and fields[name] not in (None, False)]
    if named:
        media.unbound(named[0])
    searches = int(any(UNBOUNDED_FIELDS[name] for name in named))
    messages = fields.get("messages")
    for message in messages if type(messages) is list else ():
        if type(message) is dict:
            media.look(message)
    inputs = fields.get("input")
    if type(inputs) is dict or (type(inputs) is list and dict in set(map(type, inputs))):
        # Embeddings of images: {"image": URL} and the like.
        media.unbound("input[]")
    overhead = OVERHEAD_TOKENS
    for name in ("tools", "functions", "response_format"):
        tools = fields.get(name)
        if tools:
            # A template writes them anew, as TypeScript or as indented JSON: once more as long, at most.
            overhead += TOOLS_TOKENS + size_of(tools, call.size)
    if _has_foreign(fields.get("tools")):
        media.unbound("tools[].type")
        searches = 1
    modalities = fields.get("modalities")
    if modalities and modalities != ["text"]:
        media.speaks(modalities)
    if fields.get("audio"):
        media.has_audio = True
    rest = max(0, call.size - media.image_bytes)
    return Bound(
        tokens=rest + media.images * image_tokens + overhead,
        text_bytes=max(0, rest - media.audio_bytes),
        images=media.images,
        audio_bytes=media.audio_bytes,
        has_audio=media.has_audio,
        searches=searches,
        unbounded=media.unbounded,
    )


def within(usage: Usage, input_tokens: int, output_tokens: int) -> Usage:
    """A usage that we estimated, not above what a call could have consumed: an estimate must not make an
    overshoot of its own."""
    total_input, total_output = usage.total_input, usage.total_output
    if total_input <= input_tokens and total_output <= output_tokens:
        return usage
    smaller = split_usage(min(total_input, input_tokens), min(total_output, output_tokens))
    smaller.estimated, smaller.service_tier, smaller.searches = True, usage.service_tier, usage.searches
    return smaller


class _Media:
    """What of a call's messages is not text."""

    __slots__ = ("audio_bytes", "has_audio", "image_bytes", "images", "unbounded")

    def __init__(self) -> None:
        self.images = self.image_bytes = self.audio_bytes = 0
        self.has_audio = False
        self.unbounded = ""

    def look(self, message: Mapping[str, Any]) -> None:
        """A message: its parts (some take one alone), and what it refers to."""
        content = message.get("content")
        for part in content if type(content) is list else (content or "",):
            if type(part) is dict:
                kind = part.get("type")
                if kind == "image_url":
                    self._image(part.get("image_url"))
                elif kind == "input_audio":
                    self._audio(part.get("input_audio"))
                elif type(kind) is not str or kind not in _TEXTS:
                    # A file, a video, a reference, or what we do not know.
                    self.has_audio = True
                    self.unbound(f"messages[].content[].{kind if kind == 'file' else 'type'}")
            elif type(part) is not str:
                self.unbound("messages[].content[]")
        for name in message:
            if name in _OF_MESSAGES and message[name] is not None:
                self.has_audio = True
                self.unbound(f"messages[].{name}")

    def speaks(self, modalities: object) -> None:
        """What the answer is to be made of, besides text."""
        self.has_audio = True
        if type(modalities) is not list or not all(
            type(name) is str and name in ("text", "audio") for name in modalities
        ):
            # Whether a cap on tokens holds for images that a model draws is not known.
            self.unbound("modalities")

    def _image(self, image: object) -> None:
        self.images += 1
        url = image.get("url") if type(image) is dict else image
        if type(url) is not str:
            self.unbound("messages[].content[].image_url")
        elif url[:11].lower() == "data:image/":
            self.image_bytes += len(url)
        else:
            # What an address leads to is not in the body, and Gemini takes films and documents this way.
            self.has_audio = True
            self.unbound("messages[].content[].image_url")

    def _audio(self, audio: object) -> None:
        self.has_audio = True
        data = audio.get("data") if type(audio) is dict else None
        if type(data) is not str or not takes_bytes(data):
            self.unbound("messages[].content[].input_audio")
        else:
            self.audio_bytes += len(data)

    def unbound(self, what: str) -> None:
        """Something that has no bound; the first one is named."""
        self.unbounded = self.unbounded or what


def _has_foreign(tools: Any) -> bool:
    if type(tools) is not list:
        return False
    for tool in tools:
        kind = tool.get("type", "function") if type(tool) is dict else None
        if type(kind) is not str or kind not in _OWN_TOOLS:
            return True
    return False


def size_of(value: Any, most: int) -> int:
    """Bytes of a part of a body as JSON; `most` (the body's size) if it cannot be written."""
    try:
        return len(dumps(value))
    except TypeError:
        # Nested deeper than orjson writes; such a body is refused before it is sent.
        return most
