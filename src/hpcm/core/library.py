"""libhpcm by ctypes: its functions, its structs, and its status codes as errors. core/hpcm.h documents them."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Generator, Sequence
from ctypes import POINTER, Structure, c_char_p, c_float, c_int, c_int32, c_int64, c_size_t, c_uint8, c_uint32, c_void_p
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CorruptError, UsageError, WeightsError

if TYPE_CHECKING:
    import numpy as np

API_VERSION = 2
STAGES, TRANSFORMS, PARTS = 4, 4, 3
MESSAGE_BYTES = 1024
NAMES = {"darwin": "libhpcm.dylib", "win32": "hpcm.dll"}
PATH = Path(__file__).with_name(NAMES.get(sys.platform, "libhpcm.so"))
HOW_TO_BUILD = "`pip install .` in a checkout builds it, or `python core/build.py`"

OK, STOPPED, NO_MEMORY, BAD_ARGUMENT, BAD_MODEL, BAD_PAYLOAD, BAD_KERNELS = range(7)  # hpcm_status
TYPES = ("int8", "int16", "int32", "float16", "float32")  # hpcm_type, as numpy names them

Check = ctypes.CFUNCTYPE(c_int, c_void_p)


class Array(Structure):
    """hpcm_array."""

    _fields_ = [
        ("name", c_char_p),
        ("data", c_void_p),
        ("shape", c_int64 * 4),
        ("dimensions", c_int32),
        ("type", c_int32),
    ]


class Config(Structure):
    """hpcm_config."""

    _fields_ = [
        ("M", c_int32),
        ("N", c_int32),
        ("stem", c_int32),
        ("stages", c_int32 * TRANSFORMS),
        ("blocks", c_int32 * STAGES * TRANSFORMS),
        ("widths", c_int32 * STAGES * TRANSFORMS),
        ("partial", c_int32),
        ("ratio", c_int32),
        ("prior_width", c_int32),
        ("prior_coarse", c_int32 * 3),
        ("prior_fine", c_int32 * 3),
        ("has_prior_fine", c_int32),
        ("adaptor_blocks", c_int32 * 3),
        ("steps", c_int32 * 3),
        ("hierarchy", c_int32),
        ("psi_is_context", c_int32),
        ("context_net", c_int32),
        ("refine", c_int32),
        ("released_placement", c_int32),
        ("paired_gains", c_int32),
        ("levels", c_int32),
    ]


class Pixels(Structure):
    """hpcm_pixels."""

    _fields_ = [
        ("data", c_void_p),
        ("stride", c_int64),
        ("bytes", c_int32),
        ("rows", c_int32),
        ("columns", c_int32),
        ("channels", c_int32),
        ("peak", c_float),
    ]


class Payload(Structure):
    """hpcm_payload."""

    _fields_ = [("bytes", c_void_p), ("sizes", c_size_t * PARTS), ("checksums", c_uint32 * PARTS)]


class Decoded(Structure):
    """hpcm_decoded."""

    _fields_ = [("checksum", c_uint32), ("words_left", c_size_t)]


_pointer, _int = c_void_p, c_int32
_size = [_int, _int]  # h, w
_coding = [*_size, _int, _int, _int]  # h, w, level, rows, columns
_check = [Check, c_void_p]
_residual = [_pointer, _int, _int, _int, _int, _int]  # base, rows, columns, channels, bit_depth, max_error or step
_read = [c_char_p, c_size_t, _int, *_coding]  # payload, its size, steps, ...
FUNCTIONS = {  # name: (what it returns, arguments)
    "hpcm_api_version": (c_int, []),
    "hpcm_kernels": (c_char_p, []),
    "hpcm_model_create": (
        c_int,
        [POINTER(Config), POINTER(Array), c_size_t, _int, c_char_p, POINTER(c_void_p), c_char_p],
    ),
    "hpcm_model_free": (None, [_pointer]),
    "hpcm_model_kernels": (c_char_p, [_pointer]),
    "hpcm_analyse": (c_int, [_pointer, POINTER(Pixels), *_size, _pointer, *_check]),
    "hpcm_encode": (c_int, [_pointer, _pointer, _pointer, *_coding, _pointer, POINTER(Payload), *_check]),
    "hpcm_payload_free": (None, [POINTER(Payload)]),
    "hpcm_decode": (c_int, [_pointer, *_read, _pointer, POINTER(Decoded), *_check]),
    "hpcm_decode_known": (c_int, [_pointer, *_read, _pointer, c_void_p * 3, POINTER(Decoded), *_check]),
    "hpcm_fill": (c_int, [_pointer, _pointer, c_void_p * 3, *_size, _int, _pointer, *_check]),
    "hpcm_synthesise": (c_int, [_pointer, _pointer, *_size, c_int32 * 4, _int, _int, _pointer, *_check]),
    "hpcm_residual_encode": (
        c_int,
        [_pointer, *_residual, POINTER(POINTER(c_uint8)), POINTER(c_size_t), *_check],
    ),
    "hpcm_residual_free": (None, [POINTER(c_uint8)]),
    "hpcm_residual_decode": (c_int, [c_char_p, c_size_t, *_residual, _pointer, *_check]),
    "hpcm_dct_encode": (c_int, [_pointer, *_residual, POINTER(POINTER(c_uint8)), POINTER(c_size_t), *_check]),
    "hpcm_dct_decode": (c_int, [c_char_p, c_size_t, *_residual, _pointer, *_check]),
    "hpcm_tables_create": (c_int, [_pointer, _pointer, _int, _pointer, c_size_t, POINTER(c_void_p)]),
    "hpcm_tables_free": (None, [_pointer]),
    "hpcm_encoder_create": (c_int, [_pointer, POINTER(c_void_p)]),
    "hpcm_encoder_free": (None, [_pointer]),
    "hpcm_encoder_push": (c_int, [_pointer, _pointer, _pointer, c_size_t]),
    "hpcm_encoder_cut": (c_int, [_pointer]),
    "hpcm_encoder_finish": (c_int, [_pointer, POINTER(POINTER(c_uint8)), POINTER(c_size_t)]),
    "hpcm_decoder_create": (c_int, [_pointer, c_char_p, c_size_t, POINTER(c_void_p)]),
    "hpcm_decoder_free": (None, [_pointer]),
    "hpcm_decoder_pop": (c_int, [_pointer, _pointer, c_size_t, _pointer]),
    "hpcm_decoder_words_left": (c_size_t, [_pointer]),
    "hpcm_checksum": (c_uint32, [_pointer, c_size_t, c_uint32]),
}


@cache
def library() -> Any:
    """The library, loaded once. Raises UsageError where it is missing, for another platform, or of another version."""
    if not PATH.exists():
        raise UsageError(f"the native library {PATH} is missing: {HOW_TO_BUILD}")
    try:
        loaded = ctypes.CDLL(str(PATH))
        version = loaded.hpcm_api_version()  # first: another version may lack functions
        if version == API_VERSION:
            for name, (result, arguments) in FUNCTIONS.items():
                function = getattr(loaded, name)
                function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        reason = str(error).removeprefix(f"{PATH}: ")
        raise UsageError(f"the native library {PATH} can't be loaded ({reason}): {HOW_TO_BUILD}") from error
    if version != API_VERSION:
        raise UsageError(f"the native library {PATH} has version {version} instead of {API_VERSION}: {HOW_TO_BUILD}")
    return loaded


def check_status(status: int, message: str = "") -> None:
    """Raises the error that a status stands for; `message` is what the library says of it."""
    if status == OK:
        return
    if status == NO_MEMORY:
        raise MemoryError("the native library got no memory")
    if status == BAD_MODEL:
        raise WeightsError(message)
    if status == BAD_PAYLOAD:
        raise CorruptError("entropy-coded data are impossible: they are damaged")
    if status == BAD_KERNELS:
        raise UsageError(message)
    raise ValueError(f"the native library refuses an argument (status {status})")


def call_checked(name: str, arguments: Sequence[Any], check: Callable[[], None] | None) -> None:
    """Calls a function of the library whose last arguments are an hpcm_check and its user.

    What `check` raises ends the work, and is raised. Other errors are those of `check_status`.
    """
    raised: list[BaseException] = []
    checking = _checking(check, raised)
    next(checking)
    status = getattr(library(), name)(*arguments, Check(checking.send), None)
    if raised:
        raise raised[0]
    check_status(status)


def _checking(check: Callable[[], None] | None, raised: list[BaseException]) -> Generator[int, int | None, None]:
    """What the library calls, by `send`: whether to stop, 0 or 1. What ends the work is added to `raised`.

    It is a generator because a signal's handler runs where Python code goes on after compiled code. In a function that
    is before its first line, outside any `try`, and ctypes passes over what is raised there.
    """
    stop = 0
    while True:
        try:
            while True:  # in here because handlers run at the end of a loop, too
                yield stop
                if check:
                    check()
        except GeneratorExit:
            return
        except BaseException as error:
            raised.append(error)
            stop = 1


def pointer(array: np.ndarray) -> int:
    """Where an array's numbers begin. The array must be contiguous, and live on."""
    return array.ctypes.data
