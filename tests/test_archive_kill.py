"""Workers, nodes and drivers die, and an archive becomes what it would have become without that."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import pytest
from PIL import Image

from archives import RAYS_WARNINGS
from hpcm.archive import manifest, plan
from hpcm.archive.plan import Job
from hpcm.archive.store import Store
from hpcm.archive.worker import Worker

pytestmark = RAYS_WARNINGS
HERE = Path(__file__).parent
PICTURES = 200
DRIVER = """
import sys
from hpcm import archive
source, target, address, to = sys.argv[1:]
done = archive.compress(source, target, model="nano", quality=30, to=to, shard_size=5, verify=True, address=address)
assert not done.failed, done.failure
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Two hundred pictures, two of which are none."""
    folder = tmp_path_factory.mktemp("photos")
    photo = Image.open(HERE / "data" / "kodim23.png")
    for index in range(PICTURES):
        place = (index * 7 % 500, index * 3 % 300)
        photo.crop((*place, place[0] + 192, place[1] + 144)).save(folder / f"{index:04d}.png")
    (folder / "0050.png").write_bytes(b"no picture")
    (folder / "0150.png").write_bytes((folder / "0151.png").read_bytes()[:5000])
    return folder


@pytest.fixture(scope="module")
def undisturbed(photos, tmp_path_factory) -> Callable[[str], Path]:
    """The archive of a kind as one worker makes it, without Ray."""
    return cache(lambda to: _undisturbed(photos, tmp_path_factory.mktemp(to), to))


def _undisturbed(photos: Path, target: Path, to: str) -> Path:
    job = Job(str(target), to=to, model="nano", codec_options={"quality": 30}, verify=True)
    worker = Worker(job)
    for part in plan.plan([str(photos)], job, shard_size=5).parts:
        assert not worker.attempt(part)["failure"]
    manifest.merge(Store(str(target)))
    return target


def contents(folder: Path) -> dict[str, bytes]:
    """All that is in an archive but for what tells when it was made."""
    names = ("settings.json", "report.html", "manifest.parquet")
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in names]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def rows_of(folder: Path) -> list[dict]:
    return manifest.read(Store(str(folder))).drop_columns("finished").to_pylist()


@contextmanager
def cluster():
    """Two nodes on this machine, each with one core."""
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}
    nodes = Cluster(initialize_head=True, head_node_args=small)
    nodes.add_node(num_cpus=1, object_store_memory=80 << 20)
    try:
        yield nodes
    finally:
        nodes.shutdown()


def workers(nodes) -> list[int]:
    """The processes of the pool's actors on these nodes."""
    raylets = {info.process.pid for node in nodes.list_all_nodes() for info in node.all_processes.get("raylet", [])}
    found = []
    for folder in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent in raylets and b"ray::MapWorker" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


def driver(photos: Path, target: Path, nodes, to: str) -> subprocess.Popen:
    line = [sys.executable, "-c", DRIVER, photos, target, nodes.address, to]
    with target.with_suffix(".log").open("a") as log:
        return subprocess.Popen(line, stderr=log, env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"})


def killed_often(run: subprocess.Popen, nodes, chance: random.Random, until: float | None) -> int:
    """Kills workers until the driver ends, or until its time is over, when it is killed too. How many were killed."""
    kills, began = 0, time.monotonic()
    while run.poll() is None:
        time.sleep(chance.uniform(0.1, 1.2))
        found = workers(nodes)
        if found and kills < PICTURES // 10:
            with suppress(ProcessLookupError):
                os.kill(chance.choice(found), signal.SIGKILL)
                kills += 1
        if until is not None and kills and time.monotonic() > began + until:
            run.kill()
            break
    run.wait()
    return kills


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_an_archive_survives_whatever_dies(seed, photos, undisturbed, tmp_path):
    """Actors are killed at random, then the driver, then a node goes; the last run finishes, with actors killed."""
    chance = random.Random(seed)
    to = ("loose", "tar", "parquet")[seed % 3]
    expected = undisturbed(to)
    target = tmp_path / "target"
    with cluster() as nodes:
        first = driver(photos, target, nodes, to)
        kills = killed_often(first, nodes, chance, until=chance.uniform(5, 15))
        run = driver(photos, target, nodes, to)
        time.sleep(chance.uniform(5, 12))
        nodes.remove_node(nodes.list_all_nodes()[1], allow_graceful=False)
        nodes.add_node(num_cpus=1, object_store_memory=80 << 20)
        kills += killed_often(run, nodes, chance, until=chance.uniform(1, 10))
        last = driver(photos, target, nodes, to)
        kills += killed_often(last, nodes, chance, until=None)
    assert last.returncode == 0, target.with_suffix(".log").read_text()
    assert kills
    print(f"seed {seed}, {to}: {kills} workers killed; drivers: {[run.returncode for run in (first, run, last)]}")
    assert contents(target) == contents(expected)
    assert rows_of(target) == rows_of(expected)
