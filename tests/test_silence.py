"""The package contacts nobody and leaves nothing behind, nor do the libraries that it starts."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PHOTO = ROOT / "tests" / "data" / "kodim23.png"
STRACE, COMPILER = shutil.which("strace"), shutil.which("cc")
CALLS = ("socket", "connect", "getaddrinfo", "sendto")
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void tell(const char *name) {
    int file = open(getenv("CALLS"), O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (file < 0 || write(file, name, strlen(name)) < 0) abort();
    close(file);
}
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int socket(int a, int b, int c) { tell("socket "); return REAL(socket)(a, b, c); }
int connect(int a, const struct sockaddr *b, socklen_t c) { tell("connect "); return REAL(connect)(a, b, c); }
int getaddrinfo(const char *a, const char *b, const struct addrinfo *c, struct addrinfo **d) {
    tell("getaddrinfo ");
    return REAL(getaddrinfo)(a, b, c, d);
}
ssize_t sendto(int a, const void *b, size_t c, int d, const struct sockaddr *e, socklen_t f) {
    tell("sendto ");
    return REAL(sendto)(a, b, c, d, e, f);
}
"""
THERE_AND_BACK = """
import sys, time
from hpcm.cli import main
photo, file, seconds = sys.argv[1:]
failed = main(["compress", photo, "-o", file, "--model", "nano", "-q"])
failed = failed or main(["decompress", file, "-o", file + ".png", "-q"])
time.sleep(float(seconds))
sys.exit(failed)
"""
Run = Callable[..., tuple[subprocess.CompletedProcess[str], list[str]]]


def alone(home: Path, **more: str) -> Mapping[str, str]:
    """An environment with this home."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("XDG_")}
    return {**kept, "HOME": str(home), **more}


@pytest.fixture(params=["strace", "cc"])
def run(request, tmp_path) -> Run:
    """Runs Python code, and tells which calls for the network it has made, also those of C++ libraries."""
    calls = tmp_path / "calls"
    line, more = [], {}
    if request.param == "strace":
        line = [STRACE, "-f", "-qq", "-e", f"trace={','.join(set(CALLS) - {'getaddrinfo'})}", "-o", str(calls)]
        if STRACE is None or subprocess.run([*line, "true"], capture_output=True, check=False).returncode:
            pytest.skip("strace isn't there, or may not trace")
    else:
        if COMPILER is None or sys.platform != "linux":
            pytest.skip("needs a C compiler, on Linux")
        (tmp_path / "shim.c").write_text(SHIM)
        shim = str(tmp_path / "shim.so")
        subprocess.run([COMPILER, "-shared", "-fPIC", "-o", shim, tmp_path / "shim.c", "-ldl"], check=True)
        more = {"LD_PRELOAD": shim, "CALLS": str(calls)}

    def ran(home: Path, code: str, *given: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
        calls.unlink(missing_ok=True)
        command = [*line, sys.executable, "-c", code, *given]
        done = subprocess.run(command, env=alone(home, **more), capture_output=True, text=True, check=False)
        return done, re.findall("|".join(CALLS), calls.read_text()) if calls.exists() else []

    return ran


@pytest.mark.parametrize("code", ["import socket; socket.socket()", "import socket; socket.getaddrinfo('a', 1)"])
def test_the_watch_can_see(run, tmp_path, code):
    _, calls = run(tmp_path, code)
    assert calls


@pytest.mark.parametrize("seconds", [0, pytest.param(25, marks=pytest.mark.slow)])  # events may be sent with a delay
def test_nothing_is_sent_or_left_behind(run, tmp_path, seconds):
    home = tmp_path / "home"
    home.mkdir()
    done, calls = run(home, THERE_AND_BACK, str(PHOTO), str(tmp_path / "a.hpcm"), str(seconds))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not calls
    assert not list(home.iterdir())


def test_a_home_that_cannot_be_written_to(tmp_path):
    """No library complains: here it is a file, in which even root can make no folder."""
    home = tmp_path / "home"
    home.write_text("")
    line = [
        sys.executable,
        "-m",
        "hpcm",
        "compress",
        str(PHOTO),
        "-o",
        str(tmp_path / "a.hpcm"),
        "--model",
        "nano",
        "-q",
    ]
    done = subprocess.run(line, env=alone(home), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
