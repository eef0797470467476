"""Training on a machine that is lent for minutes, by commands of some minutes each and with small transfers.

    python experiments/lease.py pack --data PHOTOS... --data SCREENS... --out PIECES --megabytes 20     (here)
    python experiments/lease.py step --in PIECES --out RESULTS --minutes 11 -- TRAINING                 (there)
    python experiments/lease.py join RESULTS... --out model.safetensors                                 (here)

`pack` writes the pictures into pieces that each have some of every source. `step` is the one command there, the same
each time; what differs is the piece that came along. It takes the pieces that have come, starts `hpcm train` with the
options TRAINING in the background unless it runs, waits, and puts into RESULTS what the run has to send: its log and
the newest weights, in parts. The first `step` sets the deadline: by then the learning rate is zero. A `step` that was
killed, or whose training was, is given again: training goes on from its last checkpoint, on the same way to the same
deadline. Training that ends with an error starts again without --graph. `join` makes weights of the parts of all steps.

docs/lease.md goes through it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MEGABYTE = 10**6
TAR_BLOCK = 512  # bytes: of a header, and what contents are padded to
TAR_END = 20 * TAR_BLOCK  # what an archive ends with, at most
MARGIN = 0.98  # of a piece's size, which is planned
CHECK = 0.5  # seconds between looks whether training runs
SAVE, RESCAN = 0.5, 5  # minutes between checkpoints, seconds between looks for pictures
TAIL = 12  # lines of training's output that are shown
OURS = ("--data", "--out", "--resume", "--minutes", "--steps", "--until", "--save", "--rescan", "--evaluate")
RISKY = ("--graph", "--compile")  # what training that failed starts again without
STEP, TRAINING = "step", "training"  # names of locks; the second also of the file of options
EXIT_CODE = "exit-code"
SOUND = ("0", "130", "137", "143")  # exit codes of training that ended well, or was interrupted or killed
PIECE = "piece.json"
STATUS, LOG, PRINTED = "status.json", "log.jsonl", "printed.txt"  # in RESULTS; parts lie beside them


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Training on a machine that is lent for minutes.")
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("pack", help="pictures -> pieces")
    command.set_defaults(run=pack)
    command.add_argument("--data", nargs="+", action="append", required=True, help="a source; may be repeated")
    command.add_argument("--out", type=Path, required=True, help="folder for the pieces, 00, 01, ...")
    command.add_argument("--megabytes", type=float, default=20, help="size of a piece at most (default: 20)")
    command.add_argument(
        "--smallest", type=int, default=256, help="pixels, side of the smallest picture (default: 256)"
    )
    command = commands.add_parser("step", help="one call on the lent machine")
    command.set_defaults(run=step)
    command.add_argument("--in", dest="pieces", type=Path, required=True, help="folder of the pieces that have come")
    command.add_argument("--out", type=Path, required=True, help="folder for what is sent home")
    command.add_argument("--work", type=Path, default=Path("/tmp/hpcm-lease"), help="folder that stays between calls")
    command.add_argument("--minutes", type=float, required=True, help="from the first step to the deadline")
    command.add_argument("--wait", type=float, default=45, help="seconds to wait before results are sent (default: 45)")
    command.add_argument("--part", type=float, default=15, help="megabytes of a part at most (default: 15)")
    command.add_argument("--parts", type=int, default=4, help="parts that one call sends at most (default: 4)")
    command.add_argument("training", nargs="*", help="options of hpcm train, after --")
    command = commands.add_parser("join", help="parts -> weights")
    command.set_defaults(run=join)
    command.add_argument("results", nargs="+", type=Path, help="what the steps sent")
    command.add_argument("--out", type=Path, required=True, help="weights file")
    return parser.parse_args()


# ---- pack -----------------------------------------------------------------------------------------------------------


def pack(given: argparse.Namespace) -> None:
    """Writes pieces of about equal size, each with its share of every source."""
    from hpcm.train.index import scan

    if given.out.exists():
        sys.exit(f"{given.out} exists")
    sources = [scan([source], given.smallest).entries for source in given.data]
    if empty := [given.data[k] for k, entries in enumerate(sources) if not entries]:
        sys.exit(f"no pictures in {empty[0]}")
    total = sum(in_tar(entry.length) for entries in sources for entry in entries)
    room = int(MARGIN * given.megabytes * MEGABYTE - len(sources) * TAR_END)
    largest = max((entry for entries in sources for entry in entries), key=lambda entry: entry.length)
    if in_tar(largest.length) > room:
        sys.exit(f"{largest.name} has {largest.length / MEGABYTE:.1f} MB: too large for a piece, give more --megabytes")
    count = -(-total // room)
    sizes = []
    shares = [evenly(entries, count) for entries in sources]
    for number in range(count):
        folder = given.out / f"{number:02}"
        folder.mkdir(parents=True)
        for source, share in enumerate(shares):
            write_tar(folder / f"{source}.tar", share[number])
        bytes_of = {path.name: path.stat().st_size for path in folder.iterdir()}
        (folder / PIECE).write_text(json.dumps({"number": number, "of": count, "bytes": bytes_of}))
        sizes.append(sum(path.stat().st_size for path in folder.iterdir()) / MEGABYTE)
    pictures = sum(map(len, sources))
    print(f"{pictures} pictures, {count} pieces of {min(sizes):.1f} to {max(sizes):.1f} MB in {given.out}")
    if max(sizes) > given.megabytes:
        sys.exit(f"a piece is larger than {given.megabytes:g} MB: give fewer --megabytes")


def evenly(entries: Sequence[Any], count: int) -> list[list[Any]]:
    """Pictures in `count` parts of about equal size: each goes to the smallest, the largest picture first."""
    parts: list[list[Any]] = [[] for _ in range(count)]
    sizes = [0] * count
    for entry in sorted(entries, key=lambda entry: -entry.length):
        smallest = sizes.index(min(sizes))
        parts[smallest].append(entry)
        sizes[smallest] += in_tar(entry.length)
    return parts


def in_tar(length: int) -> int:
    """Bytes of an archive for a file of `length` bytes."""
    return TAR_BLOCK + -(-length // TAR_BLOCK) * TAR_BLOCK


def write_tar(path: Path, entries: Sequence[Any]) -> None:
    with tarfile.open(path, "w") as archive:
        for number, entry in enumerate(entries):
            member = tarfile.TarInfo(f"{number:05}{Path(entry.member or entry.path).suffix}")
            member.size = entry.length
            with entry.path.open("rb") as file:
                file.seek(entry.offset)
                archive.addfile(member, file)


# ---- step -----------------------------------------------------------------------------------------------------------


@dataclass
class Place:
    """The folder that stays between the calls."""

    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def printed(self) -> Path:
        return self.folder / PRINTED

    def read(self, name: str, default: Any) -> Any:
        path = self.folder / f"{name}.json"
        return json.loads(path.read_text()) if path.exists() else default

    def write(self, name: str, value: Any) -> None:
        temporary = self.folder / f".{name}.json"
        temporary.write_text(json.dumps(value))
        os.replace(temporary, self.folder / f"{name}.json")

    def lock(self, name: str, wait: bool = False) -> int | None:
        """An open file that holds a lock, for as long as a process has it open; None if others hold the lock."""
        import fcntl  # Windows has none

        file = os.open(self.folder / f"{name}.lock", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(file)
            return None
        return file


def step(given: argparse.Namespace) -> None:
    begin, now = time.monotonic(), time.time()
    if refused := [word for word in given.training if word.partition("=")[0] in OURS]:
        sys.exit(f"leave out {refused[0]}: a step gives {', '.join(OURS)} itself, or does without")
    place = Place(given.work)
    place.folder.mkdir(parents=True, exist_ok=True)
    place.lock(STEP, wait=True)  # until this process ends; a call that was given up may still be at work
    deadline = place.read("deadline", None)
    if deadline is None:
        deadline = now + 60 * given.minutes
        place.write("deadline", deadline)
    take_pieces(given.pieces, place)
    while time.monotonic() < begin + given.wait and not is_finished(place, deadline):
        keep_training(place, deadline, given.training)
        time.sleep(CHECK)
    given.out.mkdir(parents=True, exist_ok=True)
    left = send(place, given.out, int(given.part * MEGABYTE), given.parts)
    tell(place, deadline, left)


def take_pieces(folder: Path, place: Place) -> None:
    """Moves what has come to where training looks for it; each file appears there complete."""
    taken = place.read("pieces", {})
    for description in sorted(folder.glob(f"*/{PIECE}")):
        try:
            piece = json.loads(description.read_text())
        except ValueError:  # it has come in part
            continue
        if str(piece["number"]) not in taken and is_complete(description.parent, piece):
            for name in piece["bytes"]:
                take(description.parent / name, place.data / Path(name).stem, f"{piece['number']:02}.tar")
            taken[str(piece["number"])] = piece["of"]
            place.write("pieces", taken)
    if not taken:
        sys.exit(f"no piece has come yet: {folder} has no */{PIECE} with all its archives")


def is_complete(folder: Path, piece: dict[str, Any]) -> bool:
    sizes = {name: (folder / name).stat().st_size if (folder / name).exists() else 0 for name in piece["bytes"]}
    return bool(sizes == piece["bytes"])


def take(archive: Path, source: Path, name: str) -> None:
    """Copies a file into a folder, where it appears complete and once: to training, a second copy is more pictures."""
    if (source / name).exists():
        return
    source.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(archive, source / f".{name}")
    os.replace(source / f".{name}", source / name)


def is_finished(place: Place, deadline: float) -> bool:
    """Whether the deadline is past and training has saved its last weights."""
    return time.time() >= deadline and not is_running(place)


def is_running(place: Place) -> bool:
    lock = place.lock(TRAINING)
    if lock is not None:
        os.close(lock)
    return lock is None


def keep_training(place: Place, deadline: float, training: Sequence[str]) -> None:
    """Starts training, or starts it again, unless it runs or the deadline is past."""
    if time.time() >= deadline or (lock := place.lock(TRAINING)) is None:
        return
    exit_code = place.folder / EXIT_CODE  # there if training has ended by itself, not if it was killed
    before = place.read(TRAINING, {"given": None})
    is_same = before["given"] == training  # else it is the other options that may have failed
    dropped = before["dropped"] if is_same else []
    if exit_code.exists() and exit_code.read_text().strip() not in SOUND:
        risky = [option for option in RISKY if is_same and option in training and option not in dropped]
        dropped += risky[:1]
        print(f"training failed and starts again{f' without {risky[0]}' if risky else ''}", flush=True)
    place.write(TRAINING, {"given": training, "dropped": dropped})
    exit_code.unlink(missing_ok=True)
    options = [f"--no-{option[2:]}" if option in dropped else option for option in training]
    for source in sorted(place.data.iterdir(), key=lambda path: int(path.name)):
        options += ["--data", str(source)]
    until = datetime.fromtimestamp(deadline, timezone.utc).isoformat()
    options += ["--out", str(place.run), "--resume", "--until", until]
    options += ["--save", str(SAVE), "--rescan", str(RESCAN), "--evaluate", "0"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])}
    words = [sys.executable, "-u", "-m", "hpcm", "train", *options]
    with place.printed.open("a") as printed:
        # A process session of its own goes on when this call ends. The shell and training keep the lock, which tells
        # more than a process number does: that may be another's by now, or of a shell that was killed without training.
        process = subprocess.Popen(
            ["sh", "-c", f"{shlex.join(words)}; echo $? > {shlex.quote(str(exit_code))}"],
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
            pass_fds=(lock,),
        )
    os.close(lock)
    place.write("process", process.pid)


def send(place: Place, out: Path, size: int, count: int) -> int:
    """Writes the log and the next `count` parts of the weights; returns how many parts are left to send.

    The weights are those that were newest when their first part was sent.
    """
    log = place.run / LOG
    if log.exists():
        shutil.copyfile(log, out / LOG)
    if place.printed.exists():
        shutil.copyfile(place.printed, out / PRINTED)
    newest, outbox = place.run / "model.safetensors", place.folder / "outbox.safetensors"
    state = place.read("outbox", {"sent": 0, "parts": 0})
    if state["sent"] == state["parts"] and newest.exists() and newest.stat().st_mtime_ns != state.get("time"):
        with newest.open("rb") as file:  # training may replace it meanwhile
            data, changed = file.read(), os.fstat(file.fileno()).st_mtime_ns
        outbox.write_bytes(data)
        state = {"sent": 0, "parts": -(-len(data) // size), "time": changed, "part": size}
        state["sha256"] = hashlib.sha256(data).hexdigest()
    for number in range(state["sent"], min(state["sent"] + count, state["parts"])):
        with outbox.open("rb") as file:
            file.seek(number * state["part"])
            (out / f"{state['sha256'][:16]}.{number:03}-of-{state['parts']:03}").write_bytes(file.read(state["part"]))
        state["sent"] = number + 1
    place.write("outbox", state)
    (out / STATUS).write_text(json.dumps(state))
    return int(state["parts"] - state["sent"])


def tell(place: Place, deadline: float, left: int) -> None:
    """Says where training stands, and what the next call is for."""
    lines = place.printed.read_text(errors="replace").splitlines() if place.printed.exists() else []
    print("\n".join(lines[-TAIL:]))
    taken = place.read("pieces", {})
    missing = sorted(set(range(max(taken.values()))) - set(map(int, taken)))
    newest = place.run / "model.safetensors"
    unsent = newest.exists() and newest.stat().st_mtime_ns != place.read("outbox", {}).get("time")
    remaining = deadline - time.time()
    if remaining > 0:
        print(f"{remaining:.0f} s to the deadline; training {'runs' if is_running(place) else 'is not running'}")
    else:
        when = datetime.fromtimestamp(deadline)
        print(f"the deadline was {when:%Y-%m-%d %H:%M:%S}; another lease needs another --work than {place.folder}")
    print(f"pieces that are here: {' '.join(f'{int(number):02}' for number in sorted(taken, key=int))}")
    if missing and remaining > 0:
        print(f"NEXT: the same command with piece {missing[0]:02}")
    elif remaining > 0 or is_running(place) or left or unsent:
        print(f"NEXT: the same command ({left} parts of these weights are left)" if left else "NEXT: the same command")
    else:
        print("FINISHED: all is sent" if newest.exists() else "FINISHED: no weights were trained")


# ---- join -----------------------------------------------------------------------------------------------------------


def join(given: argparse.Namespace) -> None:
    """Puts the newest weights together of which all parts are there."""
    found = (path for folder in given.results for path in folder.glob("*-of-*"))
    parts = {path.name: path for path in sorted(found, key=lambda path: path.stat().st_size)}  # not what was cut off
    newest = None
    for key, time_ns in sorted(states(given.results), key=lambda pair: pair[1]):
        names = sorted(name for name in parts if name.startswith(key[:16]))
        if names and len(names) == int(names[0].rpartition("-")[2]):
            data = b"".join(parts[name].read_bytes() for name in names)
            if hashlib.sha256(data).hexdigest() == key:
                newest = data, time_ns
    if newest is None:
        sys.exit("no weights are complete")
    given.out.write_bytes(newest[0])
    print(f"{given.out}: {len(newest[0]):,} bytes, of {datetime.fromtimestamp(newest[1] / 1e9):%H:%M:%S}")


def states(folders: Sequence[Path]) -> Iterator[tuple[str, int]]:
    """SHA-256 and time of the weights that parts were sent of."""
    for folder in folders:
        with suppress(OSError, ValueError):  # a call that was killed has none, or a part of it
            state = json.loads((folder / STATUS).read_text())
            if state["parts"]:
                yield state["sha256"], state["time"]


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    given = arguments()
    given.run(given)
