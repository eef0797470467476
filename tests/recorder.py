"""Writes down what the native library was asked and what it gave, for core/test/replay.c, which asks it elsewhere.

A record is HPCMCALL and then entries. They consist of signed 64-bit numbers, little-endian; only an entry 0 has bytes:

    0  size  bytes                   data; they are counted from 1, and other entries refer to them. 0 is none
    k  inputs  status  results       a call of FUNCTIONS[k - 1]; results only of a call that succeeded, but see `_made`

Models, tables, encoders and decoders are handles, which are counted from 1, too. core/test/replay.c reads what the
methods of `Recorder` give. What is equal stands there once: data, models, and calls of a model. Models aren't freed.

Not recorded are calls that somebody stopped or that a signal interrupted, and what depends on the machine.
"""

from __future__ import annotations

import ctypes
import os
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from hpcm.core import library as c

MAGIC, VERSION = b"HPCMCALL", 1
MODEL_FUNCTIONS = ("model_create", "analyse", "encode", "decode", "decode_known", "fill", "synthesise")
GIVING_NUMBERS = ("decoder_words_left", "checksum")  # others give a status
FREEING = ("tables_free", "encoder_free", "decoder_free")
RESIDUAL_FUNCTIONS = ("residual_encode", "residual_decode", "dct_encode", "dct_decode")
FUNCTIONS = (
    *MODEL_FUNCTIONS,
    *("tables_create", "encoder_create", "encoder_push", "encoder_cut", "encoder_finish"),
    *("decoder_create", "decoder_pop", *GIVING_NUMBERS),
    *FREEING,
    *RESIDUAL_FUNCTIONS,
)
NOT_RECORDED = (c.STOPPED, c.NO_MEMORY, c.BAD_KERNELS)
TYPE_BYTES = (1, 2, 4, 2, 4)  # of hpcm_type
FLOAT = SYMBOL = 4  # bytes
Numbers = list[int]


class Handle(NamedTuple):
    """Of a model, tables, an encoder or a decoder.

    number: in the record.
    config: a model's.
    cuts: an encoder's, so far.
    """

    number: int
    config: Any = None
    cuts: int = 0


class Recorder:
    """Writes to a file, as a context, in which `attach` says whose calls."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._file.write(MAGIC)
        self._write([VERSION])
        self._process = os.getpid()  # what a forked child calls isn't recorded
        self._lock = threading.RLock()  # entered again where memory is collected meanwhile, which frees handles
        self._data: dict[bytes, int] = {}  # content: its number
        self._calls: dict[tuple[int, ...], Handle | None] = {}  # those of models: a new model's handle
        self._handles: dict[int, Handle] = {}  # by address
        self._count = 0  # of handles
        self._attached: list[tuple[Any, str, Any]] = []  # a library, the name of a function, and this

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for library, name, function in self._attached:
            setattr(library, name, function)
        self._file.close()

    def attach(self, library: Any) -> None:
        """From now on, calls of a loaded library are recorded."""
        for name in FUNCTIONS:
            full = f"hpcm_{name}"
            function = getattr(library, full)
            if isinstance(function, ctypes._CFuncPtr):  # else it is attached already
                self._attached.append((library, full, function))
                setattr(library, full, self._recorded(name, function))

    def _recorded(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if name in FREEING:  # first: when it is free, another thread may get its address
                self._note(name, arguments, c.OK)
                return function(*arguments)
            result = function(*arguments)
            self._note(name, arguments, result)
            return result

        return call

    def _note(self, name: str, arguments: tuple[Any, ...], result: int) -> None:
        if os.getpid() != self._process or self._file.closed:
            return
        if result in NOT_RECORDED and name not in GIVING_NUMBERS:
            return
        if name in FREEING and arguments[0].value not in self._handles:
            return  # it was made before
        with self._lock:
            numbers = [FUNCTIONS.index(name) + 1, *getattr(self, name)(result, *arguments)]
            key = tuple(numbers)
            if name not in MODEL_FUNCTIONS:
                self._write(numbers)
            elif key not in self._calls:
                self._write(numbers)
                self._calls[key] = None
            if name == "model_create" and result == c.OK:
                made = self._calls[key] = self._calls[key] or self._new(arguments[0]._obj)
                self._handles[_created(arguments[-2])] = made

    def _write(self, numbers: Numbers, data: bytes = b"") -> None:
        self._file.write(struct.pack(f"<{len(numbers)}q", *numbers) + data)

    def _new(self, config: Any = None) -> Handle:
        self._count += 1
        return Handle(self._count, config)

    def _handle(self, address: Any) -> Handle:
        return self._handles[address.value]

    def _store(self, content: bytes) -> int:
        """The number of data."""
        if content not in self._data:
            self._write([0, len(content)], content)
            self._data[content] = len(self._data) + 1
        return self._data[content]

    def _given(self, address: Any, size: int) -> int:
        """The number of what a call reads there; 0 for a null pointer."""
        if isinstance(address, bytes):
            return self._store(address[:size])
        return self._store(ctypes.string_at(address, size)) if address else 0

    def _made(self, address: Any, size: int, succeeded: bool = True) -> Numbers:
        """Where a call writes a result: how many bytes (-1 for a null pointer), and the number of what it wrote."""
        if not address:
            return [-1, 0]
        return [size, self._given(address, size) if succeeded else 0]

    # ---- models: the numbers of each call ----

    def model_create(self, status: int, config: Any, arrays: Any, count: int, threads: int, *others: Any) -> Numbers:
        message = others[-1].raw.split(b"\0")[0] + b"\0" if status == c.BAD_MODEL else b""
        described = [number for array in arrays[:count] for number in self._array(array)]
        fields = list(_flat(config._obj))
        return [len(fields), *fields, threads, count, *described, status, self._store(message) if message else 0]

    def _array(self, array: Any) -> Numbers:
        size = TYPE_BYTES[array.type] if array.type in range(len(TYPE_BYTES)) else 0  # of what isn't read
        for side in array.shape[: array.dimensions]:
            size *= side
        data = self._given(array.data, size) if size else self._store(b"")
        return [self._store(array.name + b"\0"), array.type, array.dimensions, *array.shape, data]

    def analyse(self, status: int, model: Any, pixels: Any, h: int, w: int, y: Any, *_: Any) -> Numbers:
        handle, p = self._handle(model), pixels._obj
        # A call with a bad argument reads nothing.
        span = 0 if status else (p.rows - 1) * p.stride + p.columns * p.channels * p.bytes
        picture = [self._given(p.data, span), p.stride, p.bytes, p.rows, p.columns, p.channels, _bits(p.peak)]
        return [handle.number, *picture, h, w, status, *self._made(y, self._latent(status, handle, h, w), not status)]

    def _latent(self, status: int, model: Handle, h: int, w: int) -> int:
        """The bytes of y; of a call with a bad argument nothing is read or written."""
        return 0 if status == c.BAD_ARGUMENT else FLOAT * h * w * model.config.M

    def _hyper(self, status: int, model: Handle, h: int, w: int) -> int:
        """The bytes of z."""
        return 0 if status == c.BAD_ARGUMENT else FLOAT * (h // 4) * (w // 4) * model.config.N

    def _lattices(self, status: int, model: Handle, h: int, w: int) -> list[int]:
        """The bytes of y on each scale."""
        coarsening = (4, 2, 1) if model.config.hierarchy else (1, 1, 1)
        return [self._latent(status, model, h // times, w // times) for times in coarsening]

    def encode(self, status: int, model: Any, y: Any, z: Any, h: int, w: int, *others: Any) -> Numbers:
        level, rows, columns, y_hat, payload, *_ = others
        handle, succeeded = self._handle(model), status == c.OK
        size = self._latent(status, handle, h, w)
        inputs = [self._given(y, size), self._given(z, self._hyper(status, handle, h, w))]
        results = self._made(y_hat, size, succeeded)
        if succeeded:
            parts = payload._obj
            results += [*parts.sizes, *parts.checksums, self._given(parts.bytes, sum(parts.sizes))]
        return [handle.number, *inputs, h, w, level, rows, columns, status, *results]

    def _payload(self, payload: bytes, size: int, *coding: int) -> Numbers:
        return [self._given(payload, size), *coding]

    def decode(self, status: int, model: Any, *others: Any) -> Numbers:
        *coding, y_hat, decoded, _, _ = others
        handle, (h, w) = self._handle(model), coding[3:5]
        made = self._made(y_hat, self._latent(status, handle, h, w), status == c.OK)
        return [handle.number, *self._payload(*coding), status, *made, *_decoded(status, decoded)]

    def decode_known(self, status: int, model: Any, *others: Any) -> Numbers:
        *coding, z, y, decoded, _, _ = others
        handle, (h, w) = self._handle(model), coding[3:5]
        made = self._made(z, self._hyper(status, handle, h, w), status == c.OK)
        for address, size in zip(y, self._lattices(status, handle, h, w), strict=True):
            made += self._made(address, size, status == c.OK)
        return [handle.number, *self._payload(*coding), status, *made, *_decoded(status, decoded)]

    def fill(self, status: int, model: Any, z: Any, y: Any, h: int, w: int, level: int, y_hat: Any, *_: Any) -> Numbers:
        handle = self._handle(model)
        known = [self._given(z, self._hyper(status, handle, h, w))]
        known += [
            self._given(address, size) for address, size in zip(y, self._lattices(status, handle, h, w), strict=True)
        ]
        made = self._made(y_hat, self._latent(status, handle, h, w), status == c.OK)
        return [handle.number, *known, h, w, level, status, *made]

    def synthesise(self, status: int, model: Any, y_hat: Any, h: int, w: int, box: Any, *others: Any) -> Numbers:
        sample_bytes, channels, pixels, *_ = others
        handle, (left, top, right, bottom) = self._handle(model), box
        size = 0 if status else (bottom - top) * (right - left) * channels * sample_bytes
        given = self._given(y_hat, self._latent(status, handle, h, w))
        made = self._made(pixels, size, status == c.OK)
        return [handle.number, given, h, w, *box, sample_bytes, channels, status, *made]

    # ---- residuals ----

    def _tile(
        self, status: int, samples: Any, rows: int, columns: int, channels: int, bit_depth: int
    ) -> tuple[int, int]:
        """The number of a tile's samples, and how many bytes they are; none of a call with a bad argument."""
        if status == c.BAD_ARGUMENT:
            return 0, 0
        size = rows * columns * channels * (2 if bit_depth > 8 else 1)
        return self._given(samples, size), size

    def residual_encode(self, status: int, source: Any, base: Any, *others: Any) -> Numbers:
        *shape, number, payload, size, _, _ = others
        (given, _), (known, _) = self._tile(status, source, *shape), self._tile(status, base, *shape)
        numbers = [given, known, *shape, number, status]
        if status != c.OK:
            return numbers
        return [*numbers, self._given(ctypes.cast(payload._obj, ctypes.c_void_p).value, size._obj.value)]

    def residual_decode(self, status: int, payload: bytes, payload_size: int, base: Any, *others: Any) -> Numbers:
        *shape, number, pixels, _, _ = others
        known, size = self._tile(status, base, *shape)
        made = self._made(pixels, size, status == c.OK)
        return [self._given(payload, payload_size), known, *shape, number, status, *made]

    dct_encode, dct_decode = residual_encode, residual_decode

    # ---- the entropy coder ----

    def _new_at(self, status: int, made: Any) -> None:
        if status == c.OK:
            self._handles[_created(made)] = self._new()

    def tables_create(self, status: int, scales: Any, radius: Any, count: int, *others: Any) -> Numbers:
        frequencies, total, made = others
        given = [self._given(scales, FLOAT * count), self._given(radius, SYMBOL * count), count]
        self._new_at(status, made)
        return [*given, self._given(frequencies, SYMBOL * total), total, status]

    def encoder_create(self, status: int, tables: Any, made: Any) -> Numbers:
        number = self._handle(tables).number
        self._new_at(status, made)
        return [number, status]

    def encoder_push(self, status: int, encoder: Any, symbols: Any, indexes: Any, count: int) -> Numbers:
        given = [self._given(symbols, SYMBOL * count), self._given(indexes, count), count]
        return [self._handle(encoder).number, *given, status]

    def encoder_cut(self, status: int, encoder: Any) -> Numbers:
        handle = self._handle(encoder)
        self._handles[encoder.value] = handle._replace(cuts=handle.cuts + (status == c.OK))
        return [handle.number, status]

    def encoder_finish(self, status: int, encoder: Any, data: Any, sizes: Any) -> Numbers:
        handle = self._handle(encoder)
        parts = list(sizes)[: handle.cuts + 1]
        results = [] if status else [*parts, self._given(ctypes.cast(data._obj, ctypes.c_void_p).value, sum(parts))]
        return [handle.number, len(parts), status, *results]

    def decoder_create(self, status: int, tables: Any, payload: bytes, size: int, made: Any) -> Numbers:
        number = self._handle(tables).number
        self._new_at(status, made)
        return [number, self._given(payload, size), status]

    def decoder_pop(self, status: int, decoder: Any, indexes: Any, count: int, symbols: Any) -> Numbers:
        made = self._made(symbols, SYMBOL * count, status == c.OK)
        return [self._handle(decoder).number, self._given(indexes, count), count, status, *made]

    def decoder_words_left(self, words: int, decoder: Any) -> Numbers:
        return [self._handle(decoder).number, words]

    def checksum(self, crc: int, symbols: Any, count: int, start: int) -> Numbers:
        return [self._given(symbols, SYMBOL * count), count, start, crc]

    def _freed(self, _: int, address: Any) -> Numbers:
        return [self._handles.pop(address.value).number]

    tables_free = encoder_free = decoder_free = _freed


def _created(made: Any) -> int:
    """The address of a new handle, by the argument that got it."""
    return int(made._obj.value)


def _decoded(status: int, decoded: Any) -> Numbers:
    return [decoded._obj.checksum, decoded._obj.words_left] if status == c.OK else []


def _bits(number: float) -> int:
    """Those of a float32."""
    return int.from_bytes(struct.pack("<f", number), "little")


def _flat(value: Any) -> Iterator[int]:
    """The numbers of a struct, or of arrays of arrays, in their order."""
    if isinstance(value, ctypes.Structure):
        for name, *_ in value._fields_:
            yield from _flat(getattr(value, name))
    elif isinstance(value, ctypes.Array):
        for each in value:
            yield from _flat(each)
    else:
        yield value
