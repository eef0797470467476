"""Fields of a file as bytes, and reading them without trust: fixed-width integers, varints, bounds, CRCs.

Fixed-width integers are little-endian. A *varint* is LEB128: seven bits per byte, lowest first, the top bit set on all
bytes but the last, at most MAX_VARINT_BYTES bytes, and never longer than its value needs.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any, NamedTuple
from zlib import crc32

from ..errors import CorruptError, FormatError, TruncatedError

UINT32 = Struct("<I")
CRC_BYTES = UINT32.size
MAX_VARINT_BYTES = 5
MAX_VARINT = (1 << 7 * MAX_VARINT_BYTES) - 1


def check_range(what: str, value: int, low: int, high: int) -> None:
    """Raises FormatError for a value out of its bounds."""
    if not low <= value <= high:
        raise FormatError(f"{what} is {value}; a .hpcm file allows {low} to {high}")


def varint(value: int) -> bytes:
    """LEB128 of a number that is not negative, in the fewest bytes."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk: its type, the length of its data as a varint, the data, and the CRC-32 of all three."""
    body = kind + varint(len(data)) + data
    return body + UINT32.pack(crc32(body))


class Reader:
    """A place in the bytes of a file. Each method moves past what it returns, or raises TruncatedError."""

    def __init__(self, data: bytes) -> None:
        self.data = memoryview(data)  # slices of it copy nothing
        self.at = 0

    @property
    def left(self) -> int:
        """Bytes that follow."""
        return len(self.data) - self.at

    def require(self, size: int, what: str) -> None:
        """Without moving: are there `size` more bytes?"""
        if self.left < size:
            raise TruncatedError(
                f"cut short or damaged: {size} bytes of {what} expected, {self.left} left; fetch it again"
            )

    def take(self, size: int, what: str) -> memoryview:
        self.require(size, what)
        self.at += size
        return self.data[self.at - size : self.at]

    def byte(self, what: str) -> int:
        return self.take(1, what)[0]

    def uint32(self, what: str) -> int:
        return int(UINT32.unpack(self.take(4, what))[0])

    def varint(self, what: str) -> int:
        """Raises FormatError too, where it has more bytes than its value needs or than are allowed."""
        value = 0
        for i in range(MAX_VARINT_BYTES):
            byte = self.byte(what)
            value |= (byte & 0x7F) << 7 * i
            if byte == 0 and i > 0:
                break
            if byte < 0x80:
                return value
        raise FormatError(f"{what} takes more bytes than a varint of its value; the file is damaged")

    def chunk(self, name: str, start: int, limit: int) -> bytes:
        """The data of a chunk whose type, at `start`, has been read. Raises FormatError, CorruptError."""
        size = self.varint(f"length of the {name} chunk")
        check_range(f"length of the {name} chunk", size, 0, limit)
        data = bytes(self.take(size, f"{name} chunk"))
        if crc32(self.data[start : self.at]) != self.uint32(f"CRC of the {name} chunk"):
            raise CorruptError(f"the {name} chunk was changed: its CRC differs; fetch the file again")
        return data


class Codec(NamedTuple):
    """How a value lies in a file."""

    write: Callable[[Any], bytes]  # of a value within its bounds
    read: Callable[[Reader, str], Any]  # of a reader and the field's name, for messages


def _write_text(text: str) -> bytes:
    return bytes([len(text)]) + text.encode("ascii")


def _read_text(reader: Reader, what: str) -> str:
    length = reader.byte(f"length of the {what}")
    return str(reader.take(length, what), "latin-1")  # takes any byte; the field's pattern refuses what isn't ASCII


def fixed(size: int) -> Codec:
    """So many bytes."""
    return Codec(write=bytes, read=lambda reader, what: bytes(reader.take(size, what)))


BYTE = Codec(write=lambda value: bytes([value]), read=Reader.byte)
VARINT = Codec(write=varint, read=Reader.varint)
TEXT = Codec(write=_write_text, read=_read_text)  # its length, one byte, then its letters
LOG2 = Codec(  # a power of two, as its exponent
    write=lambda value: bytes([value.bit_length() - 1]),
    read=lambda reader, what: 1 << reader.byte(what),
)
