"""What a process has to know of its machine: cores, memory, the speed of matrix products, its parent's end."""

from __future__ import annotations

import os
import platform
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

SIDE = {"cpu": 512, "cuda": 4096}  # of the square matrices that are multiplied, by type of device
TRIALS = 5
UNKNOWN_MEMORY = 4 << 30  # bytes, a guess where the system doesn't say
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # parameters of glibc's mallopt
NEVER = 2**31 - 1
TOP_PAD = 256 << 20  # bytes by which the heap grows at least


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor(root: Path = Path("/")) -> str:
    """What the processor calls itself; of ARM's, Linux tells the maker's number and the part's.

    `root` is where proc is mounted.
    """
    try:
        lines = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    first = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines))}
    if "model name" in first:
        return first["model name"]
    numbers = [f"{key[4:]} {first[key]}" for key in ("CPU implementer", "CPU part") if key in first]
    return ", ".join([platform.processor() or platform.machine(), *numbers])


def end_with_parent() -> None:
    """From now on, this worker process is sent SIGTERM when the one that started it is gone, however it ended."""
    from multiprocessing import parent_process

    def wait() -> None:
        if (parent := parent_process()) is not None:
            parent.join()
            os.kill(os.getpid(), signal.SIGTERM)

    Thread(target=wait, daemon=True).start()


def keep_pages() -> None:
    """Makes glibc's malloc keep the memory of freed tensors for the next ones: convolutions run 1.3 times as fast.

    By default every large tensor is mapped anew, and the kernel clears its pages each time. This is no part of
    `import hpcm` because it changes the whole process, which belongs to whoever imports it. Other systems: nothing.
    """
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        for parameter, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, NEVER), (M_TOP_PAD, TOP_PAD)):
            libc.mallopt(parameter, value)


def available_memory(root: Path = Path("/")) -> int:
    """Bytes that this process can take: what is free, shared with the other processes that torchrun started here.

    Free is what the machine has left or, if that is less, a control group (container) that the process is in. Memory
    that holds copies of files counts as free, for the system gives it up. `root` is where proc and sys are mounted.
    Where there is no /proc it is a guess: half of the machine's memory on macOS, 4 GiB on Windows.
    """
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min([_machine_memory(root), *_group_memory(root)]) // processes


def _machine_memory(root: Path) -> int:
    meminfo = root / "proc/meminfo"
    if meminfo.exists():
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        return int(fields["MemAvailable"].split()[0]) * 1024
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return UNKNOWN_MEMORY


def _group_memory(root: Path) -> Iterator[int]:
    """Bytes that are left of each limit on the memory of this process's control groups and of those that hold them.

    /proc/self/cgroup has lines "number:controllers:path"; controllers are empty in version 2. In a container the path
    may be the host's, and what is mounted is the container's own group.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            mount, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            mount = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        group = mount / path.strip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(mount):
                yield from _left_of(folder, *names)


def _left_of(group: Path, limit: str, usage: str, files: str) -> Iterator[int]:
    """What is left of a limit, if there is one; `files` is the line of memory.stat that counts copies of files."""
    try:
        most, used = ((group / name).read_text().strip() for name in (limit, usage))
        stat = dict(line.split(" ", 1) for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no such group here, or one without the memory controller
        return
    if most != "max":
        yield max(int(most) - int(used) + int(stat.get(files, 0)), 0)


def matrix_speed(
    device: torch.device, dtype: torch.dtype, side: int | None = None, *, processor_time: bool = False
) -> float:
    """Multiplications and additions per second of a product of matrices [side, side]: the best of TRIALS.

    Elapsed time, a GPU being waited for; on a CPU with `processor_time` instead what its threads spent on it, which
    measures the processor better while other programs run. By default `side` suits the device.
    """
    import torch

    side = side or SIDE.get(device.type, 1024)
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    spent = processor_time and device.type == "cpu"
    now, threads = (time.process_time, torch.get_num_threads()) if spent else (time.perf_counter, 1)
    best = float("inf")
    for _ in range(TRIALS + 1):  # one to warm up
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        begin = now()
        product = a @ b
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, (now() - begin) / threads)
    return 2 * side * side * product.shape[1] / best
