"""Many threads that use hpcm at once: each gets what it would get alone, with the GIL and without it.

`make check` runs this file a second time, alone (--noconftest), in an environment that has no torch.
"""

import io
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import hpcm
import hpcm.codec.codec
import hpcm.pillow  # registers the plugin
from hpcm.codec.codec import Codec
from hpcm.codec.engine import Engine
from hpcm.core.library import library
from hpcm.errors import HPCMError
from hpcm.model.find import find

HERE = Path(__file__).parent
THREADS = 8
TINY = HERE / "golden" / "tiny.safetensors"
PHOTO = Image.open(HERE / "data" / "kodim23.png").convert("RGB")
PICTURES = [PHOTO.crop((60 * i, 40 * i, 60 * i + 272, 40 * i + 32)) for i in range(THREADS)]  # two tiles each
PICTURES[1] = PICTURES[1].convert("L")
PICTURES[2].putalpha(PICTURES[0].convert("L"))

Work = Callable[[], Any]


@pytest.fixture(autouse=True)
def frequent_switches() -> Iterator[None]:
    """With the GIL, threads take turns so often that one is interrupted nearly everywhere."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def at_once(works: Sequence[Work]) -> list[Any]:
    """What the functions return, each called in a thread of its own. They begin together."""
    barrier = threading.Barrier(len(works))

    def begin(work: Work) -> Any:
        barrier.wait(60)
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        return [future.result() for future in [pool.submit(begin, work) for work in works]]


def outcome(work: Work) -> Any:
    """What a function returns, pixels as bytes; of an error its type and what it says."""
    try:
        result = work()
    except (HPCMError, KeyError) as error:
        return type(error), str(error)
    return (result.mode, result.size, result.tobytes()) if isinstance(result, Image.Image) else result


def stopped_after(calls: int) -> Callable[[], None]:
    """A check that raises KeyError when it has been called so often."""
    left = iter(range(calls))

    def check() -> None:
        if next(left, None) is None:
            raise KeyError("enough")

    return check


def works_on(codec: Codec, picture: Image.Image) -> list[Work]:
    """What a codec can do with a picture and its file, failures included."""
    compress = partial(codec.compress, picture, tile=256)
    file = compress(quality=80, progressive=True)
    damaged = bytearray(file)
    damaged[-9] ^= 1
    return [
        compress,
        partial(compress, quality=20),
        partial(compress, bpp=3.0, on_note=lambda line: None),
        partial(compress, quality=101),
        partial(compress, check=stopped_after(7)),
        partial(codec.decompress, file),
        partial(codec.decompress, file, box=(240, 8, 270, 30)),
        partial(codec.decompress, file, draft=(68, 8)),
        partial(codec.decompress, file, scale=1),
        partial(codec.decompress, bytes(damaged)),
        partial(codec.decompress, file, check=stopped_after(12)),
        partial(codec.preview, file[: len(file) // 2]),
    ]


def outcomes(codec: Codec, picture: Image.Image, first: int = 0) -> list[Any]:
    """The outcomes of `works_on`, from another one on so that threads differ in what they do at the moment."""
    works = works_on(codec, picture)
    first %= len(works)
    done = [outcome(work) for work in (*works[first:], *works[:first])]
    return done[-first:] + done[:-first] if first else done


def test_one_codec() -> None:
    codec = hpcm.load(TINY, threads=3)
    alone = [outcomes(codec, picture) for picture in PICTURES]
    failures = [result[0].__name__ for result in alone[0] if isinstance(result, tuple) and isinstance(result[0], type)]
    assert failures == ["UsageError", "KeyError", "CorruptError", "KeyError"]
    works = [partial(outcomes, codec, picture, 5 * i) for i, picture in enumerate(PICTURES)]
    assert at_once(works) == alone


def test_several_models() -> None:
    """They take one another's place in the codec, again and again; one thread at a time loads."""
    loading = threading.Lock()

    def wrap(engine: Engine) -> Engine:
        assert loading.acquire(blocking=False)
        time.sleep(0.01)  # in which another thread would begin to load, too
        loading.release()
        return engine

    codec = Codec([find(TINY), find("nano")], wrap=wrap)
    files = [hpcm.load(model, threads=1).compress(PICTURES[0]) for model in (TINY, "nano")]

    def work(first: int) -> list[Any]:
        there = [outcome(partial(codec.compress, PICTURES[first]))]
        return there + [outcome(partial(codec.decompress, files[(first + i) % 2])) for i in range(2)]

    alone = [work(first) for first in range(THREADS)]
    assert at_once([partial(work, first) for first in range(THREADS)]) == alone


def test_codecs_come_and_go() -> None:
    def work(picture: Image.Image) -> list[Any]:
        results = []
        for threads in (1, 2, 3):
            codec = hpcm.load(TINY, threads=threads)
            results.append(outcome(partial(codec.decompress, codec.compress(picture))))
        return results

    alone = list(map(work, PICTURES))
    assert at_once([partial(work, picture) for picture in PICTURES]) == alone


def test_a_model_is_loaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, loads = tmp_path / "own.safetensors", []
    model.write_bytes(TINY.read_bytes())
    file = hpcm.load(TINY).compress(PICTURES[0])
    load_engine = hpcm.codec.codec.load_engine

    def slow(*given: Any, **how: Any) -> Any:
        loads.append(given)
        time.sleep(0.1)  # in which the other threads would begin to load, too
        return load_engine(*given, **how)

    monkeypatch.setattr(hpcm.codec.codec, "load_engine", slow)
    works = [partial(hpcm.compress, PICTURES[0], model=model), partial(hpcm.decompress, file, model=model)]
    files = at_once(works * (THREADS // 2))[::2]
    assert files == [file] * (THREADS // 2)
    assert len(loads) == 1


def test_pillow() -> None:
    def work(number: int) -> list[Any]:
        results = []
        for _ in range(5):
            out = io.BytesIO()
            PICTURES[number].save(out, "HPCM", model=str(TINY), quality=10 * number + 20)
            with Image.open(io.BytesIO(nano)) as image:
                image.draft("RGB", (272 >> number % 4, 32 >> number % 4))
                image.load()
            results += [out.getvalue(), image.size, image.tobytes()]
        return results

    nano = hpcm.load("nano").compress(PICTURES[0])
    alone = [work(number) for number in range(THREADS)]
    assert at_once([partial(work, number) for number in range(THREADS)]) == alone


def test_ctrl_c_ends_the_main_threads_work_alone() -> None:
    codec = hpcm.load(TINY, threads=2)
    file = codec.compress(PICTURES[0])
    decompress, over = partial(codec.decompress, file), threading.Event()
    alone = outcome(decompress)

    def others() -> None:
        while not over.is_set():
            assert outcome(decompress) == alone

    with ThreadPoolExecutor(THREADS - 1) as pool:
        futures = [pool.submit(others) for _ in range(THREADS - 1)]
        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background inherits others
        try:
            for _ in range(30):
                with pytest.raises(KeyboardInterrupt):
                    decompress(check=partial(signal.raise_signal, signal.SIGINT))
        finally:
            over.set()
            signal.signal(signal.SIGINT, before)
        for future in futures:
            future.result()
    assert outcome(decompress) == alone


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this Python has the GIL")
def test_the_gil_stays_off() -> None:
    code = "import sys, hpcm.pillow; hpcm.load('nano'); print(sys._is_gil_enabled())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert (done.stdout.strip(), done.stderr) == ("False", "")


IN_INTERPRETERS = """
import threading
from concurrent import interpreters
kernels = "from hpcm.core.library import library; said.put(library().hpcm_kernels().decode())"
codec = '''
try:
    import hpcm
    said.put(hpcm.load("nano").weights.name)
except ImportError as error:
    said.put(str(error))
'''
def run(code):
    interpreter, said = interpreters.create(), interpreters.create_queue()
    interpreter.prepare_main(said=said)
    interpreter.exec(code)
    found[code].append(said.get())
    interpreter.close()
found = {kernels: [], codec: []}
threads = [threading.Thread(target=run, args=[code]) for code in (kernels, kernels, codec)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(*found[kernels], found[codec][0].splitlines()[-1], sep="\\n")
"""


@pytest.mark.skipif(sys.version_info < (3, 14), reason="concurrent.interpreters came with Python 3.14")
def test_interpreters() -> None:
    """Several load the native library. A codec works where numpy and Pillow do, and else they say so."""
    done = subprocess.run([sys.executable, "-c", IN_INTERPRETERS], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    *kernels, codec = done.stdout.splitlines()
    assert kernels == [library().hpcm_kernels().decode()] * 2
    assert codec == "nano-1" or codec.endswith("does not support loading in subinterpreters")
