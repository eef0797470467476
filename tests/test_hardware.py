"""Free memory and processors, on machines that are described by files as Linux writes them; the speed of products."""

import time

import pytest
import torch

from hpcm.util import hardware
from hpcm.util.hardware import available_memory, matrix_speed

GIGABYTE = 1 << 30


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Writes the files of a machine with 16 GB free, and more of them by path."""
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)

    def write(files):
        free = f"MemTotal: {99 << 20} kB\nMemAvailable:   {16 << 20} kB\n"
        for name, text in {"proc/meminfo": free, **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


def version_2(path, limit, used, files=0):
    names = {"max": limit, "current": used, "stat": f"anon 5\ninactive_file {files}"}
    return {f"sys/fs/cgroup/{path}memory.{name}": f"{text}\n" for name, text in names.items()}


def version_1(path, limit, used, files=0):
    names = {"limit_in_bytes": limit, "usage_in_bytes": used, "stat": f"cache 5\ntotal_inactive_file {files}"}
    return {f"sys/fs/cgroup/memory/{path}memory.{name}": f"{text}\n" for name, text in names.items()}


def test_what_the_machine_has_left(machine):
    assert available_memory(machine({})) == 16 * GIGABYTE


def test_processes_of_a_machine_share(machine, monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert available_memory(machine({})) == 4 * GIGABYTE


@pytest.mark.parametrize(
    ("files", "free"),
    [
        (version_2("a/b/", 8 * GIGABYTE, 3 * GIGABYTE), 5),
        (version_2("a/b/", 8 * GIGABYTE, 3 * GIGABYTE, 2 * GIGABYTE), 7),  # copies of files are given up
        (version_2("a/b/", "max", 3 * GIGABYTE), 16),
        (version_2("a/b/", "max", 0) | version_2("a/", 4 * GIGABYTE, 3 * GIGABYTE), 1),  # the group around it
        (version_2("", 8 * GIGABYTE, 9 * GIGABYTE), 0),  # a container's own group is what it sees as the root
        (version_2("other/", GIGABYTE, 0), 16),
    ],
)
def test_limits_of_control_groups(machine, files, free):
    assert available_memory(machine({"proc/self/cgroup": "0::/a/b\n", **files})) == free * GIGABYTE


@pytest.mark.parametrize(
    ("files", "free"),
    [
        (version_1("a/", 8 * GIGABYTE, 3 * GIGABYTE, GIGABYTE), 6),
        (version_1("a/", 0x7FFFFFFFFFFFF000, 3 * GIGABYTE), 16),  # what stands there without a limit
        (version_1("", 2 * GIGABYTE, 0), 2),
    ],
)
def test_limits_of_control_groups_of_the_first_version(machine, files, free):
    groups = "9:name=systemd:/x\n4:cpu,memory:/a\n0::/\n"
    assert available_memory(machine({"proc/self/cgroup": groups, **files})) == free * GIGABYTE


def test_this_machine():
    assert 1 << 26 < available_memory() < 1 << 50


def test_matrix_speed():
    assert 1e8 < matrix_speed(torch.device("cpu"), torch.float32) < 1e14
    assert 1e8 < matrix_speed(torch.device("cpu"), torch.float32, processor_time=True) < 1e14


@pytest.mark.parametrize(("processor_time", "expected"), [(False, 2 * 8**3 / 4), (True, 2 * 8**3)])
def test_clocks(monkeypatch, processor_time, expected):
    """The one that runs four times as fast is the wall's; the processor's counts the time of two threads."""
    ticks = iter(range(100))
    monkeypatch.setattr(time, "perf_counter", lambda: 4.0 * next(ticks))
    monkeypatch.setattr(time, "process_time", lambda: 2.0 * next(ticks))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    found = matrix_speed(torch.device("cpu"), torch.float32, side=8, processor_time=processor_time)
    assert found == expected
    assert next(ticks) == 2 * (hardware.TRIALS + 1)


@pytest.mark.parametrize(
    ("lines", "name"),
    [
        ("processor\t: 0\nmodel name\t: AMD EPYC: 9654\n\nprocessor\t: 1\nmodel name\t: another\n", "AMD EPYC: 9654"),
        ("processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n", "ARM, implementer 0x41, part 0xd0c"),
        ("nothing\n", "ARM"),
        (None, "ARM"),
    ],
)
def test_the_name_of_the_processor(tmp_path, monkeypatch, lines, name):
    monkeypatch.setattr(hardware.platform, "processor", lambda: "ARM")
    if lines is not None:
        (tmp_path / "proc").mkdir()
        (tmp_path / "proc" / "cpuinfo").write_text(lines)
    assert hardware.processor(tmp_path) == name
