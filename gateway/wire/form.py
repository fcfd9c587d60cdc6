"""multipart/form-data as it passes (RFC 7578, RFC 2046 5.1): its small fields read, its files not kept.

Strict where readers differ: a form that two parsers could take for two different forms is refused, since
what is checked here must be what the provider reads.
"""

from __future__ import annotations

import re

MAX_FIELD_BYTES = 64 * 1024
MAX_HEAD_BYTES = 8 * 1024
MAX_PARTS = 1000

_TYPE = re.compile(
    rb'multipart/form-data[ \t]*;[ \t]*boundary=(?:"([^"\\\r\n]{1,70})"|([^\s";,]{1,70}))[ \t]*',
    re.IGNORECASE,
).fullmatch
_BOUNDARY = re.compile(rb"[A-Za-z0-9'()+_,./:=?-]{1,70}").fullmatch
_DISPOSITION = re.compile(
    rb'form-data; ?name="([^"\\\r\n]*)"'
    rb'(; ?filename="(?:[^"\\\r\n]|\\[^\r\n])*")?(; ?filename\*=[A-Za-z0-9\'._%~-]+)?[ \t]*',
    re.IGNORECASE,
).fullmatch
_PLAIN_TYPE = re.compile(rb"text/plain(?:; ?charset=\"?utf-8\"?)?", re.IGNORECASE).fullmatch


class BadForm(Exception):
    """No form that has one meaning only. The message says what is wrong, without a word of the form."""


def boundary_of(content_type: bytes) -> bytes | None:
    """The boundary that a Content-Type names; None if it is not that of a form."""
    found = _TYPE(content_type)
    boundary = None if found is None else found[1] or found[2]
    return boundary if boundary is not None and _BOUNDARY(boundary) else None


class FormScanner:
    """Reads a form in any split. `feed` may be given every byte before it goes on: fields are told as soon as
    their end was seen, so a form with a field it must not have is never passed on whole.

    `plain` are the fields that somebody will ask for: they may not be files, lists or JSON.
    """

    __slots__ = (
        "_boundary",
        "_buffer",
        "_field",
        "_is_file",
        "_looked",
        "_names",
        "_parts",
        "_plain",
        "_state",
        "ended",
    )

    def __init__(self, boundary: bytes, *, plain: frozenset[bytes]) -> None:
        self._boundary = b"\r\n--" + boundary
        self._plain = plain
        self._buffer = bytearray(b"\r\n")  # the first boundary has no line end before it
        self._state = self._preamble
        self._names: set[bytes] = set()
        self._parts = 0
        self._field = b""
        self._is_file = False
        self._looked = 0
        self.ended = False
        """True once the closing boundary was seen."""

    def feed(self, data: bytes) -> list[tuple[str, str]]:
        """(name, value) of the fields that `data` completes; files are passed over. Raises `BadForm`."""
        self._buffer += data
        fields: list[tuple[str, str]] = []
        while self._state(fields):
            pass
        return fields

    # states: each takes what it can from the buffer; False if it needs more of it

    def _preamble(self, fields: list[tuple[str, str]]) -> bool:
        buffer, boundary = self._buffer, self._boundary
        if not boundary.startswith(buffer[: len(boundary)]):
            raise BadForm("the form does not begin with its boundary")
        return self._after_boundary(0)

    def _after_boundary(self, at: int) -> bool:
        """`at` is where a boundary begins, if it is there whole with the two bytes after it."""
        buffer, end = self._buffer, at + len(self._boundary) + 2
        if len(buffer) < end:
            return False
        following = bytes(buffer[end - 2 : end])
        del buffer[:end]
        if following == b"--":
            self.ended = True
            self._state = self._epilogue
        elif following == b"\r\n":
            self._parts += 1
            if self._parts > MAX_PARTS:
                raise BadForm(f"the form has more than {MAX_PARTS} parts")
            self._state = self._head
        else:
            raise BadForm("a boundary is not followed by a line end")
        return True

    def _head(self, fields: list[tuple[str, str]]) -> bool:
        buffer = self._buffer
        end = buffer.find(b"\r\n\r\n")
        if end < 0 or end > MAX_HEAD_BYTES:
            if len(buffer) > MAX_HEAD_BYTES:
                raise BadForm("the head of a part is too long")
            return False
        self._read_head(bytes(buffer[:end]))
        # The line end stays: a part without content has its boundary right there.
        del buffer[: end + 2]
        self._looked = 0
        self._state = self._file if self._is_file else self._value
        return True

    def _read_head(self, head: bytes) -> None:
        known: dict[bytes, bytes] = {}
        for line in head.split(b"\r\n"):
            name, colon, value = line.partition(b":")
            name = name.lower()
            if (
                not colon
                or self._boundary[2:] in line
                or not re.fullmatch(rb"[a-z0-9-]+", name)
                or name in known
                or b"\r" in line
            ):
                raise BadForm("a part's head is not valid")
            known[name] = value.strip(b" \t")
        found = _DISPOSITION(known.get(b"content-disposition", b""))
        if found is None or b"\n" in head.replace(b"\r\n", b""):
            raise BadForm("a part has no valid Content-Disposition with a name")
        if known.get(b"content-transfer-encoding", b"binary").lower() not in (b"binary", b"8bit", b"7bit"):
            raise BadForm("a part is encoded; send it as it is")
        self._field = field = found[1]
        self._is_file = (
            found[2] is not None
            or found[3] is not None
            or not _PLAIN_TYPE(known.get(b"content-type", b"text/plain"))
        )
        if field.partition(b"[")[0] in self._plain:
            if self._is_file or field not in self._plain:
                raise BadForm("a field that must be plain text is something else")
            if field in self._names:
                raise BadForm("a field is given twice")
            self._names.add(field)

    def _value(self, fields: list[tuple[str, str]]) -> bool:
        buffer = self._buffer
        at = self._next_boundary()
        if at > MAX_FIELD_BYTES or (at < 0 and len(buffer) > MAX_FIELD_BYTES + len(self._boundary)):
            raise BadForm("a field that is no file is larger than 64 KiB")
        if at < 0 or len(buffer) < at + len(self._boundary) + 2:
            return False
        try:
            fields.append((self._field.decode(), buffer[2:at].decode()))
        except UnicodeDecodeError:
            raise BadForm("a field is not UTF-8") from None
        return self._after_boundary(at)

    def _file(self, fields: list[tuple[str, str]]) -> bool:
        at = self._next_boundary()
        if at >= 0:
            return self._after_boundary(at)
        # The boundary may have begun in the last bytes.
        keep = len(self._boundary) - 1
        if len(self._buffer) > keep:
            del self._buffer[:-keep]
            self._looked = 0
        return False

    def _next_boundary(self) -> int:
        """Where the next boundary begins, -1 if it is not there yet.

        Its text may stand nowhere else: to lenient readers a line end of one byte is one too.
        """
        buffer, mark = self._buffer, self._boundary[2:]
        at = buffer.find(mark, self._looked)
        # What was looked at once is not looked at again: a field may come byte by byte.
        self._looked = max(0, len(buffer) - len(mark)) if at < 0 else at
        if at < 0:
            return -1
        if buffer[at - 2 : at] != b"\r\n":
            raise BadForm("its boundary stands in the middle of a line")
        return at - 2

    def _epilogue(self, fields: list[tuple[str, str]]) -> bool:
        if self._buffer.strip(b"\r\n"):
            raise BadForm("there is more after the end of the form")
        return False
