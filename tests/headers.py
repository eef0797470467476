"""What the headers of the native library declare, to be compared with a binding by ctypes."""

import ctypes
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CORE = Path(__file__).resolve().parents[1] / "core"
NUMBERS = {
    "int": ctypes.c_int,
    "int32_t": ctypes.c_int32,
    "int64_t": ctypes.c_int64,
    "uint8_t": ctypes.c_uint8,
    "uint32_t": ctypes.c_uint32,
    "uint64_t": ctypes.c_uint64,
    "char": ctypes.c_char,
    "size_t": ctypes.c_size_t,
    "float": ctypes.c_float,
    "hpcm_status": ctypes.c_int,
    "void": None,
}


class Header:
    """Declarations of some headers. `types`: of ctypes, by names that aren't in NUMBERS."""

    def __init__(self, *names: str, types: Mapping[str, Any]) -> None:
        text = "".join((CORE / name).read_text("utf-8") for name in names)
        self.text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
        self.types = {**NUMBERS, **types}
        defined = re.findall(r"^#define (HPCM_\w+) (\d+)", self.text, re.MULTILINE)
        self.constants = {name: int(value) for name, value in defined}

    def functions(self) -> dict[str, tuple[str, list[str]]]:
        """name -> what it returns, and its parameters, as they are written there."""
        found = re.findall(r"^HPCM_API ([\w\s]+[\s*])(hpcm_\w+)\((.*?)\);", self.text, re.MULTILINE | re.DOTALL)
        functions = {}
        for result, name, parameters in found:
            functions[name] = result.strip(), [] if parameters == "void" else re.split(r",\s*", parameters)
        return functions

    def fits(self, kind: Any, parameter: str) -> bool:
        """Whether a type of ctypes is that of a parameter, such as `const float *y`; pointers may point to anything."""
        if "*" in parameter or "[" in parameter:
            return is_pointer(kind)
        return kind is self.types[parameter.split()[0]]

    def fields(self, struct: str) -> list[tuple[str, Any]]:
        """The fields of a struct: name, type of ctypes; None for any pointer."""
        (body,) = re.findall(r"typedef struct \{([^}]*)\} " + struct + ";", self.text)
        fields = []
        for line in filter(None, map(str.strip, body.split(";"))):
            kind, names = re.fullmatch(r"(?:const )?(\w+) (.*)", line, re.DOTALL).groups()
            for field in re.split(r",\s*", names):
                sizes = [self.constants.get(size) or int(size) for size in re.findall(r"\[(\w+)\]", field)]
                expected = None if "*" in field else self.types[kind]
                for size in reversed(sizes):
                    expected = expected * size
                fields.append((re.search(r"\w+", field)[0], expected))
        return fields

    def enumeration(self, name: str) -> list[str]:
        (body,) = re.findall(r"typedef enum \{([^}]*)\} " + name + ";", self.text)
        return re.findall(r"HPCM_\w+", body)

    def check_functions(self, bound: Mapping[str, tuple[Any, list[Any]]]) -> None:
        """Asserts that a binding, name -> result and arguments, has just the functions of the header."""
        functions = self.functions()
        assert set(functions) == set(bound)
        for name, (result, parameters) in functions.items():
            returned, arguments = bound[name]
            assert self.fits(returned, result), name
            assert len(arguments) == len(parameters), name
            assert all(map(self.fits, arguments, parameters)), name

    def check_struct(self, name: str, bound: type[ctypes.Structure]) -> None:
        """Asserts that a struct of a binding has the fields of the header's."""
        fields = self.fields(name)
        assert [field for field, _ in bound._fields_] == [field for field, _ in fields]
        for (field, kind), (_, expected) in zip(bound._fields_, fields, strict=True):
            assert is_pointer(kind) if expected is None else kind is expected, field


def is_pointer(kind: Any) -> bool:
    return kind in (ctypes.c_void_p, ctypes.c_char_p) or issubclass(kind, (ctypes._Pointer, ctypes.Array))
