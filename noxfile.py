"""The tests on every Python from 3.10 to 3.14 that is installed: `nox`, or `nox -s tests-3.12 -- tests/test_cli.py`.

Interpreters that aren't there are skipped, with `nox --error-on-missing-interpreters` they fail.
"""

import nox

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_missing_interpreters = False

PYTHONS = ["3.10", "3.11", "3.12", "3.13", "3.14"]
PINNED = ["-c", "constraints.txt"]
BASE_TESTS = ["tests/test_base.py", "tests/test_threads.py"]


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Everything, with torch."""
    session.install(*PINNED, "torch")
    session.install(*PINNED, "-e", ".[dev,eval]")
    session.run("pytest", *session.posargs)


@nox.session(python=PYTHONS)
def base(session: nox.Session) -> None:
    """What works without torch."""
    session.install(*PINNED, "-e", ".", "pytest")
    session.run("python", "-m", "pytest", "--noconftest", *BASE_TESTS, *session.posargs)


@nox.session(python="3.14t")
def free_threaded(session: nox.Session) -> None:
    """The same without the GIL."""
    session.install("-e", ".", "pytest", "safetensors>=0.9.0rc0")  # the first with wheels for it
    session.run("python", "-m", "pytest", "--noconftest", *BASE_TESTS, *session.posargs)
