"""What `hpcm serve` answers, and in how much memory: the table in docs/serving.md.

    python benchmarks/serving.py [PICTURES] [--models nano lite] [--clients 1 32] [--seconds S] [--workers N]

For each model and number of clients a server of its own. Every client posts pictures to /compress one after the other,
then the files to /decompress (PNG). Prints requests per second, the median and the longest answer, processor time per
request (which other programs change little), both of the server, and the most memory that it has had.
Linux only. PICTURES is a folder, by default the tests' two of 768 x 512.
"""

import argparse
import http.client
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from statistics import median

from common import heading

ROOT = Path(__file__).resolve().parents[1]
TICKS = os.sysconf("SC_CLK_TCK")  # per second


class Server:
    """`hpcm serve` in a process."""

    def __init__(self, model: str, options: list[str]) -> None:
        line = [sys.executable, "-m", "hpcm", "serve", "--port", "0", "--model", model, *options]
        self.process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        match = re.search(r":(\d+)/", self.process.stdout.readline())
        assert match is not None
        self.port = int(match[1])

    def processor_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS  # user, system

    def peak(self) -> float:
        """Megabytes."""
        match = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())
        assert match is not None
        return int(match[1]) / 1000

    def end(self) -> None:
        self.process.terminate()
        self.process.wait()


def post(connection: http.client.HTTPConnection, path: str, body: bytes) -> bytes:
    connection.request("POST", path, body)
    answer = connection.getresponse()
    data = answer.read()
    assert answer.status == 200, (answer.status, data)
    return data


def load(server: Server, path: str, bodies: list[bytes], clients: int, seconds: float) -> tuple[list[bytes], str]:
    """So many clients for so long; the answers to `bodies`, and a row of the table."""
    times: list[float] = []
    answers = [b""] * len(bodies)
    warm = http.client.HTTPConnection("127.0.0.1", server.port)
    for index, body in enumerate(bodies):
        answers[index] = post(warm, path, body)
    before, begin = server.processor_seconds(), time.perf_counter()

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        index = number % len(bodies)
        while time.perf_counter() < begin + seconds:
            asked = time.perf_counter()
            assert post(connection, path, bodies[index]) == answers[index]
            times.append(time.perf_counter() - asked)
            index = (index + 1) % len(bodies)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed, spent = time.perf_counter() - begin, server.processor_seconds() - before
    row = f"{len(times) / elapsed:.1f} | {median(times):.2f} s | {max(times):.2f} s | {spent / len(times):.3f} s"
    return answers, f"{row} | {server.peak():,.0f} MB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", nargs="?", type=Path, default=ROOT / "tests" / "data")
    parser.add_argument("--models", nargs="+", default=["nano", "lite"])
    parser.add_argument("--clients", nargs="+", type=int, default=[1, 32])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--workers", type=int)
    options = parser.parse_args()
    pictures = [path.read_bytes() for path in sorted(options.pictures.glob("*.png"))]
    print(f"{len(pictures)} pictures, {heading()}, load {os.getloadavg()[0]:.1f}\n")
    print("| model | clients | | requests/s | median | longest | processor time each | peak memory |")
    print("|---|--:|---|--:|--:|--:|--:|--:|")
    for model in options.models:
        for clients in options.clients:
            server = Server(model, ["--workers", str(options.workers)] if options.workers else [])
            try:
                files, row = load(server, "/compress", pictures, clients, options.seconds)
                print(f"| {model} | {clients} | compress | {row} |", flush=True)
                print(
                    f"| | | decompress | {load(server, '/decompress', files, clients, options.seconds)[1]} |",
                    flush=True,
                )
            finally:
                server.end()


if __name__ == "__main__":
    main()
