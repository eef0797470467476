"""`hpcm selftest`: whether each set of kernels of this machine computes what every other machine does."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..errors import UsageError
from .messages import printable, say
from .parsing import Commands, add_command

if TYPE_CHECKING:
    from ..selftest.check import Difference, Result

SHOWN = 5  # differences of a set of kernels; --json has all
DIFFERS = {"symbols": "the symbols differ", "pixels": "the pixels differ", "decoding": "can't open its own file"}
REPORT = "report it with what this command prints"


def add(commands: Commands) -> None:
    text = "compare what this machine computes with known answers, with each of its kernels"
    command = add_command(commands, "selftest", selftest, text)
    command.add_argument("--all", action="store_true", help="ask for all known answers, which takes about a minute")
    command.add_argument("--json", action="store_true", help="print JSON")


def selftest(options: argparse.Namespace) -> bool:
    from ..selftest.check import check, models

    names = kernels()
    used, about, asked = used_of(names), machine(), models(partial(say, "note"))
    about |= {"models": [weights.name for weights in asked], "used": used}
    if not options.json:
        print("\n".join(heading(about, names)), flush=True)
    results = []
    for name in names:
        if not options.json:
            print(f"{name:9} ", end="", flush=True)  # before it runs: should it crash, its name is there
        results.append(check(name, asked, everything=options.all))
        if not options.json:
            print("\n".join(lines(results[-1])), flush=True)
    if options.json:
        print(json.dumps({**about, "kernels": list(map(described, results))}, indent=2))
    problem = verdict(results, used)
    if problem is not None:
        say("error", problem)
    return problem is None


def kernels() -> list[str]:
    """The sets of kernels of this machine, best first. Raises UsageError where the library can't be used."""
    from ..core.library import library

    return library().hpcm_kernels().decode().split()


def used_of(names: Sequence[str]) -> str:
    """The set that other commands use. Raises UsageError if there is none of the name that HPCM_KERNELS has."""
    used = os.environ.get("HPCM_KERNELS") or names[0]
    if used not in names:
        raise UsageError(f"HPCM_KERNELS is {used!r}: this machine has the kernels {' '.join(names)}")
    return used


def machine() -> dict[str, Any]:
    """What a report of a failure has to say of this machine."""
    from ..core.library import API_VERSION
    from ..util.hardware import processor

    return {
        "hpcm": __version__,
        "library": API_VERSION,
        "python": platform.python_version(),
        "processor": processor(),
        "system": platform.platform(),
    }


def heading(about: dict[str, Any], names: Sequence[str]) -> list[str]:
    return [
        f"hpcm {about['hpcm']}, native library {about['library']}, Python {about['python']}",
        f"  processor  {printable(about['processor'])}",
        f"  system     {printable(about['system'])}",
        f"  models     {', '.join(about['models'])}",
        f"  kernels    {', '.join(names)}; used: {about['used']}",
    ]


def lines(result: Result) -> list[str]:
    """Behind the name of the set: how many answers are right, and which aren't."""
    if result.refused is not None:
        return ["refused", f"  {printable(result.refused)}"]
    wrong = len(result.differences)
    shown = [f"  {described_difference(one)}" for one in result.differences[:SHOWN]]
    more = [f"  and {wrong - SHOWN} more"] if wrong > SHOWN else []
    return [f"{result.asked - wrong} of {result.asked} right", *shown, *more]


def described_difference(one: Difference) -> str:
    return f"{DIFFERS[one.what]}: {one.drawing}, {one.model}, level {one.level}"


def described(result: Result) -> dict[str, Any]:
    """What `--json` prints about a set of kernels."""
    return {
        "name": result.kernels,
        "asked": result.asked,
        "right": result.asked - len(result.differences),
        "refused": result.refused,
        "differences": [asdict(one) for one in result.differences],
    }


def verdict(results: Sequence[Result], used: str) -> str | None:
    """What to do about the sets that are wrong, in a line; None if all are right."""
    wrong = [result.kernels for result in results if not result.is_right]
    right = [result.kernels for result in results if result.is_right]
    if not wrong:
        return None
    if not right:
        return f"no kernels compute rightly on this machine: don't compress or open pictures with it, and {REPORT}"
    which = f"the kernels {', '.join(wrong)} compute wrongly on this machine"
    if used in right:
        return f"{which}; {used}, which it uses, are right: {REPORT}"
    return f"{which}: set HPCM_KERNELS={right[0]} in the environment, and {REPORT}"
