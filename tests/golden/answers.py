"""Makes the known answers of `hpcm selftest`, src/hpcm/selftest/answers.txt: python tests/golden/answers.py

When a model is released, or a drawing or a level comes to them. Both engines compute every answer, and must agree. What
stands in the file for a released model never changes.
"""

from collections.abc import Iterator

from hpcm.codec.codec import Codec
from hpcm.model.file import WeightsFile
from hpcm.model.find import ASSETS, available
from hpcm.selftest.answers import FILE, Answer, Case, cases, compressed, hash_of_pixels, hash_of_symbols
from hpcm.selftest.pictures import DRAWINGS
from hpcm.util import atomic

HEAD = """\
# The right answers of `hpcm selftest`, on every machine. tests/golden/answers.py has made them.
# drawing, level, hash of the symbols, hash of the decoded pixels
"""


def lines(weights: WeightsFile) -> Iterator[str]:
    yield f"\nmodel {weights.name} {weights.hash.hex()}"
    codecs = [Codec([weights], engine=engine, threads=1) for engine in ("core", "torch")]
    for case in cases():
        answer, *others = {answer_of(codec, case) for codec in codecs}
        if others:
            raise SystemExit(f"the engines differ: {weights.name}, {case}: {answer}, {others}")
        yield f"{case.drawing:11} {case.level:2} {answer.symbols} {answer.pixels}"


def answer_of(codec: Codec, case: Case) -> Answer:
    (drawing,) = (drawing for drawing in DRAWINGS if drawing.name == case.drawing)
    container = compressed(codec, drawing, case.level)
    return Answer(hash_of_symbols(container), hash_of_pixels(codec.decompress(container)))


if __name__ == "__main__":
    bundled = [weights for weights in available() if weights.path.parent == ASSETS]
    text = HEAD + "".join(f"{line}\n" for weights in bundled for line in lines(weights))
    atomic.write(FILE, text.encode(), force=True)
    print(FILE, len(text), "bytes")
