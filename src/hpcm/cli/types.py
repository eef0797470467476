"""argparse's types: from the text of an argument to its value, or to an error in a line."""

from __future__ import annotations

import argparse
import math
import re
from datetime import datetime

from ..defaults import LOSSES, MAX_QUALITY, MAX_TILE_SIDE
from ..format.fields import TILE_SIDES

TILES = tuple(side for side in TILE_SIDES if side <= MAX_TILE_SIDE)


def quality(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_QUALITY:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to {MAX_QUALITY}")
    return int(text)


def whole(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return int(text)


def max_error(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0")
    return int(text)


def positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number")
    return value


def not_negative(text: str) -> float:
    return 0.0 if text == "0" else positive(text)


def share(text: str) -> float:
    value = not_negative(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not within 0 to 1")
    return value


def moment(text: str) -> float:
    """A time as in ISO 8601, local unless it names a zone, as seconds since 1970."""
    try:
        return datetime.fromisoformat(re.sub("Z$", "+00:00", text)).timestamp()  # Python 3.10 doesn't know Z
    except (ValueError, OverflowError, OSError):
        raise argparse.ArgumentTypeError(f"{text!r} is no time, such as 2030-01-31T18:30") from None


def loss(text: str) -> str:
    """One of LOSSES, or where a function is: FILE.py:FUNCTION or MODULE:FUNCTION."""
    place, _, function = text.rpartition(":")
    if text not in LOSSES and not (place and function.isidentifier()):
        own = "FILE.py:FUNCTION or MODULE:FUNCTION"
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(LOSSES)}, and no {own}")
    return text


def settings(text: str) -> tuple[float | int, ...]:
    try:
        return tuple(int(word) if word.isdecimal() else float(word) for word in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers, such as 10,50,90") from None


def efforts(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"[0-9](,[0-9])*", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of efforts from 0 to 9, such as 0,9")
    return tuple(map(int, text.split(",")))


def codec_settings(text: str) -> tuple[str, tuple[float | int, ...]]:
    codec, _, listed = text.partition("=")
    return codec, settings(listed)


def size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return whole(width), whole(height)


def suffix(text: str) -> str:
    return text.lower().removeprefix(".")


def tile(text: str) -> int:
    if text not in map(str, TILES):
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(map(str, TILES))}")
    return int(text)


def crop(text: str) -> tuple[int, int, int, int]:
    """WxH+X+Y, as X11 and ImageMagick write it -> left, top, right, bottom."""
    match = re.fullmatch(r"(\d+)x(\d+)\+(\d+)\+(\d+)", text, re.ASCII)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no WxH+X+Y, such as 640x480+100+50")
    width, height, left, top = map(int, match.groups())
    return left, top, left + width, top + height
