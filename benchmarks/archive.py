"""How fast `hpcm archive` is beside the codec alone, what loading pictures costs, and what 100 machines would do.

    python benchmarks/archive.py [PICTURES] [--model nano] [--count N] [--runs R] [--only coding loading driver cluster]

PICTURES is a folder, by default the tests' two of 768 x 512; they are copied until there are N. Prints
- coding: pictures per second of the codec in a process for each core, from files to files, and in turn with that of
  `archive.compress` over the same folder: while parts come back, and of the whole call
- loading: pictures per second of one process, by `hpcm.archive.Pictures` and of JPEG files through Pillow, whole and as
  regions
- driver: parts per second that Ray Data hands to actors when there is nothing to do
- cluster: a simulation from these numbers and from those of S3 and of machines that are named below
"""

import argparse
import heapq
import io
import multiprocessing
import os
import shutil
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import ray
from common import heading
from PIL import Image

import hpcm
from hpcm import archive
from hpcm.archive import Pictures, run
from hpcm.eval.measure import read_pixels

ROOT = Path(__file__).resolve().parents[1]
IDLE = 8  # actors
REGION = (256, 256)  # pixels
NODES, CORES = 100, 64
LIST_KEYS = 10_000  # per second: pages of 1,000, one after the other, 0.1 s each
PUTS = 3_500  # per second and prefix, as Amazon documents S3
GET_SECONDS, PUT_SECONDS = 0.03, 0.05  # of a small object
NETWORK = 25e9 / 8  # bytes per second and node
START = 15.0  # seconds until actors are up


class Nothing:
    """An actor that has nothing to do, in place of Worker."""

    def __init__(self, job: object) -> None:
        self.job = job

    def __call__(self, batch: dict) -> dict:
        return {"part": batch["part"]}


def folder_of(pictures: Path, count: int, into: Path) -> list[Path]:
    originals = sorted(path for path in pictures.iterdir() if path.suffix in (".png", ".jpg"))
    into.mkdir()
    for index in range(count):
        source = originals[index % len(originals)]
        shutil.copy(source, into / f"{index:05d}{source.suffix}")
    return sorted(into.iterdir())


def alone(model: str, files: list[Path], target: Path) -> float:
    """Pictures per second of the codec in a process for each core, from files to files; loading it isn't counted."""
    target.mkdir()
    cores = os.cpu_count() or 1
    ready = multiprocessing.get_context("spawn").Barrier(cores + 1)
    processes = [
        multiprocessing.get_context("spawn").Process(target=share, args=(model, files[i::cores], target, ready))
        for i in range(cores)
    ]
    for process in processes:
        process.start()
    ready.wait()
    began = time.perf_counter()
    for process in processes:
        process.join()
    return len(files) / (time.perf_counter() - began)


def share(model: str, files: list[Path], target: Path, ready: Any) -> None:
    codec = hpcm.load(model, threads=1)
    codec.compress(files[0])
    ready.wait()
    for path in files:
        (target / path.with_suffix(".hpcm").name).write_bytes(codec.compress(path))


def archived(model: str, source: Path, target: Path) -> tuple[float, float, float]:
    """Pictures per second of a run, all included, and while parts come back; seconds until the first part."""
    seen: list[tuple[float, int]] = []
    done = archive.compress(source, target, model=model, on_progress=lambda s: seen.append((s.seconds, s.pictures)))
    (first, already), (last, pictures) = seen[os.cpu_count() or 1], seen[-1]  # when each actor had done a part
    return done.pictures / done.seconds, (pictures - already) / (last - first), seen[1][0]


def coding(options: argparse.Namespace, scratch: Path) -> float:
    files = folder_of(options.pictures, options.count, scratch / "pictures")
    rows = []
    for index in range(options.runs):
        codec = alone(options.model, files, scratch / f"alone{index}")
        whole, steady, first = archived(options.model, scratch / "pictures", scratch / f"archive{index}")
        rows.append((codec, steady, steady / codec, whole / codec, first))
        print(
            f"  codec alone {codec:.2f}/s, archive {steady:.2f}/s ({steady / codec:.1%}), {whole / codec:.1%} with the"
        )
        print(f"  start of Ray and of actors, of which the first part takes {first:.1f} s", flush=True)
    print(f"coding: {median(row[2] for row in rows):.1%} of the codec alone (median of {options.runs})")
    return median(row[0] for row in rows) / (os.cpu_count() or 1)


def loading(options: argparse.Namespace, scratch: Path) -> None:
    folder_of(options.pictures, 24, scratch / "source")
    archive.compress(scratch / "source", scratch / "tar", model=options.model, to="tar")
    (scratch / "jpeg").mkdir()
    for path in (scratch / "source").iterdir():
        Image.fromarray(read_pixels(path)).save(scratch / "jpeg" / f"{path.stem}.jpg", quality=90)
    jpegs = sorted((scratch / "jpeg").iterdir())

    def jpeg(path: Path, region: bool) -> None:
        image = Image.open(io.BytesIO(path.read_bytes()))
        image.load()
        if region:
            image.crop((0, 0, *REGION))

    def rate(work: list) -> float:
        began = time.perf_counter()
        for each in work:
            each()
        return len(work) / (time.perf_counter() - began)

    for name, crop in (("whole", None), (f"{REGION[0]} x {REGION[1]}", REGION)):
        pictures = Pictures(str(scratch / "tar"), crop=crop)
        pictures[0]
        ours = rate([lambda i=i, p=pictures: p[i] for i in range(len(pictures))])
        theirs = rate([lambda path=path, crop=crop: jpeg(path, crop is not None) for path in jpegs])
        print(f"loading, {name}: hpcm {ours:.1f}/s, JPEG {theirs:.0f}/s, {theirs / ours:.0f} times as many", flush=True)


def driver(parts: int = 1000) -> float:
    """Parts per second that come back from IDLE actors that do nothing: more would need more cores."""
    worker, run.Worker = run.Worker, Nothing
    ray.init("local", num_cpus=IDLE, include_dashboard=False, log_to_driver=False)
    try:
        made = [run.Part(str(index), "tar", "/", "tar", "", ()) for index in range(parts)]
        times = [time.perf_counter() for _ in run._results(run.Job("/"), made)]
    finally:
        run.Worker = worker
        ray.shutdown()
    rate = (parts - 1) / (times[-1] - times[0])
    print(f"driver: {rate:.0f} parts/s", flush=True)
    return rate


def cluster(each: float, rate: float, name: str, pictures: int, size: int, part: int, loose: bool) -> None:
    """Simulates a run part by part.

    Args:
        each: seconds of a core for a picture.
        rate: parts per second that the driver hands out.
        pictures, size, part: how many, bytes of one, and how many a part has.
        loose: whether each is an object of its own, on both sides.
    """
    parts = -(-pictures // part)
    objects = pictures if loose else parts
    listed = START + objects / LIST_KEYS
    read = part * (GET_SECONDS if loose else 0) + part * size / (NETWORK / CORES)
    busy = max(part * each, read) + (0 if loose else PUT_SECONDS)  # pictures are read while others are coded
    free = [listed] * min(NODES * CORES, parts)
    prefix = listed  # when S3 has taken all that was put so far
    for index in range(parts):
        begin = max(heapq.heappop(free), listed + index / rate)
        prefix = max(prefix, begin) + (part + 1 if loose else 2) / PUTS
        heapq.heappush(free, max(begin + busy, prefix))
    end = max(free)
    work = pictures * each / (NODES * CORES)
    limits = {
        "coding": work,
        "list": objects / LIST_KEYS,
        "driver": parts / rate,
        "puts": objects / PUTS,
        "network": pictures * size / (NETWORK * NODES),
        "one part": busy,
    }
    longest_first = sorted(limits.items(), key=lambda limit: -limit[1])
    alone = ", ".join(f"{limit} {seconds:.0f} s" for limit, seconds in longest_first)
    print(f"cluster, {name}: {end:.0f} s, {work / end:.0%} of the cores' time; alone each would take: {alone}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", nargs="?", type=Path, default=ROOT / "tests" / "data")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=["coding", "loading", "driver", "cluster"])
    parser.add_argument("--rate", type=float, default=0, help="pictures/s of a core, where coding isn't measured")
    parser.add_argument("--parts", type=float, default=0, help="parts/s, where the driver isn't measured")
    options = parser.parse_args()
    print(f"{options.model}, {heading()}, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        core = coding(options, Path(folder)) if "coding" in options.only else options.rate
        if "loading" in options.only:
            loading(options, Path(folder))
    rate = driver() if "driver" in options.only else options.parts
    if "cluster" in options.only:
        megapixel = 1 / core / (768 * 512 / 1e6)  # seconds of a core
        small, large = 0.4 * megapixel, 12 * megapixel
        cluster(small, rate, "1 million loose pictures of 0.4 megapixels", 10**6, 150_000, 100, True)
        cluster(small, rate, "the same in 1,000 shards", 10**6, 150_000, 1000, False)
        cluster(small, rate, "the same in 10,000 shards", 10**6, 150_000, 100, False)
        cluster(large, rate, "1 million loose pictures of 12 megapixels", 10**6, 4_000_000, 100, True)
        cluster(large, rate, "100 million in 1 million shards", 10**8, 4_000_000, 100, False)


if __name__ == "__main__":
    main()
