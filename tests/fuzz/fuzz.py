"""Fuzzes what reads the files of strangers: python tests/fuzz/fuzz.py [options of libFuzzer] [folder of a corpus ...]

It needs atheris (Linux, `make fuzz`), which follows what code an input reaches. New inputs go to the first folder; a
finding is written to the working directory as crash-*, timeout-* or oom-*, which `python tests/fuzz/fuzz.py FILE` runs
again. tests/test_fuzz.py runs the corpus without atheris.
"""

import sys

import atheris

with atheris.instrument_imports(include=["hpcm", "PIL"]):
    from targets import run

if __name__ == "__main__":
    atheris.Setup(sys.argv, run)
    atheris.Fuzz()
