"""How fast the native library is: beside another checkout of hpcm, torch and AVIF, on the same picture, in turn.

    python benchmarks/engines.py PICTURE [--before CHECKOUT] [--threads 1 2] [--repeats N] [--torch]

Prints a table for each model and number of threads: the median milliseconds of compressing and decompressing in a
process that has loaded the model, of whole `hpcm` commands, and the ratio to the other checkout. Each row's
alternatives take turns. Then the peak memory of a whole `hpcm decompress` of 12 megapixels. Both checkouts run with
this interpreter, which must have what each needs.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from common import heading
from PIL import Image

from hpcm.eval.measure import read_pixels

HERE = Path(__file__).resolve()
ROOT = HERE.parents[1]
MODELS = ("nano", "lite")
LARGE = (4096, 3072)  # pixels of the picture whose memory is measured
AVIF_QUALITY = 60


class Worker:
    """A process that runs a checkout's hpcm, and is asked by lines of JSON."""

    def __init__(self, checkout: Path, engine: str, threads: int) -> None:
        line = [sys.executable, str(HERE), "--worker", engine, str(threads)]
        self.process = subprocess.Popen(
            line, env=environment(checkout), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def seconds(self, action: str, model: str, file: Path) -> float:
        """What an action takes: "compress" or "decompress"."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([action, model, str(file)]) + "\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self) -> None:
        self.process.communicate()


def work(engine: str, threads: int) -> None:
    """The other end of a Worker."""
    import hpcm
    from hpcm.eval.measure import read_pixels

    codecs: dict[str, Any] = {}
    for line in sys.stdin:
        action, model, file = json.loads(line)
        if model not in codecs:
            codecs[model] = hpcm.load(model, engine=engine, threads=threads)
        picture = read_pixels(Path(file)) if action == "compress" else Path(file).read_bytes()
        begin = time.perf_counter()
        getattr(codecs[model], action)(picture)
        print(time.perf_counter() - begin, flush=True)


def environment(checkout: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(checkout / "src")}


def whole_command(checkout: Path, threads: int, line: list[str]) -> float:
    begin = time.perf_counter()
    command(checkout, threads, line)
    return time.perf_counter() - begin


def command(checkout: Path, threads: int, line: list[str]) -> None:
    whole = [sys.executable, "-m", "hpcm", *line, "-f", "-q", "--threads", str(threads)]
    subprocess.run(whole, env=environment(checkout), check=True)


def in_turn(runs: dict[str, Callable[[], float]], repeats: int) -> dict[str, float]:
    """Median seconds, after one run of each to warm up."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for trial in range(repeats + 1):
        for name, run in runs.items():
            seconds = run()
            if trial:
                taken[name].append(seconds)
    return {name: median(seconds) for name, seconds in taken.items()}


def avif_seconds(data: bytes) -> float:
    begin = time.perf_counter()
    Image.open(io.BytesIO(data)).load()
    return time.perf_counter() - begin


def table(model: str, threads: int, options: argparse.Namespace, folder: Path) -> None:
    trees = {"now": ROOT} | ({"before": options.before} if options.before else {})
    workers = {name: Worker(tree, "auto", threads) for name, tree in trees.items()}
    if options.torch:
        workers["torch"] = Worker(ROOT, "torch", threads)
    print(f"\n{model}, {threads} thread{'s' if threads > 1 else ''}: milliseconds\n")
    print(f"| | {' | '.join(workers)} | now / before |\n|---|{'--:|' * (len(workers) + 1)}", flush=True)
    files = {name: folder / f"{name}.hpcm" for name in trees}
    for name, tree in trees.items():
        command(tree, threads, ["compress", str(options.picture), "--model", model, "-o", str(files[name])])
    for action in ("compress", "decompress"):
        sources = dict.fromkeys(workers, options.picture) if action == "compress" else {**files, "torch": files["now"]}
        runs = {name: partial(worker.seconds, action, model, sources[name]) for name, worker in workers.items()}
        print_row(action, in_turn(runs, options.repeats))
    for worker in workers.values():
        worker.close()
    lines = {
        "compress": ["compress", str(options.picture), "--model", model, "-o", str(folder / "again.hpcm")],
        "decompress": ["decompress", "", "-o", str(folder / "again.png")],
    }
    for action, line in lines.items():
        runs = {}
        for name, tree in trees.items():
            source = str(options.picture if action == "compress" else files[name])
            runs[name] = partial(whole_command, tree, threads, [action, source, *line[2:]])
        print_row(f"`hpcm {action}`, the whole command", in_turn(runs, options.repeats))


def print_row(what: str, seconds: dict[str, float]) -> None:
    cells = [f"{1000 * value:.1f}" for value in seconds.values()]
    ratio = f"{seconds['now'] / seconds['before']:.2f}" if "before" in seconds else ""
    print(f"| {what} | {' | '.join(cells)} | {ratio} |", flush=True)


def peak_memory(tree: Path, model: str, picture: Path, folder: Path) -> float:
    """Megabytes of a process that decompresses a large picture."""
    file = folder / "large.hpcm"
    command(tree, 1, ["compress", str(picture), "--model", model, "-o", str(file)])
    code = "import sys, resource, hpcm.__main__ as m; c = m.main(); "
    code += "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr); sys.exit(c)"
    line = [sys.executable, "-c", code, "decompress", str(file), "-o", str(folder / "large.png"), "-f", "-q"]
    done = subprocess.run([*line, "--threads", "1"], env=environment(tree), check=True, capture_output=True, text=True)
    return int(done.stderr.split()[-1]) / 1024


def main() -> None:
    if sys.argv[1:2] == ["--worker"]:
        work(sys.argv[2], int(sys.argv[3]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--before", type=Path, metavar="CHECKOUT")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--torch", action="store_true")
    options = parser.parse_args()
    options.picture = options.picture.resolve()
    print(heading(max(options.threads), "torch"))
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for model in MODELS:
            for threads in options.threads:
                table(model, threads, options, folder)
        picture = Image.fromarray(read_pixels(options.picture))
        file = io.BytesIO()
        picture.save(file, "AVIF", quality=AVIF_QUALITY, max_threads=1)
        decoding = in_turn({"avif": lambda: avif_seconds(file.getvalue())}, options.repeats)
        print(f"\nAVIF (Pillow, dav1d), quality {AVIF_QUALITY}: decoded in {1000 * decoding['avif']:.1f} ms\n")
        picture.resize(LARGE).save(folder / "large.png")
        for name, tree in {"now": ROOT, **({"before": options.before} if options.before else {})}.items():
            peaks = [f"{model} {peak_memory(tree, model, folder / 'large.png', folder):.0f} MB" for model in MODELS]
            print(f"Peak memory of decompressing {LARGE[0]} x {LARGE[1]}, {name}: {', '.join(peaks)}", flush=True)


if __name__ == "__main__":
    main()
