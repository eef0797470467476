"""A hook of hatchling for wheels and editable installs: compiles libhpcm, and packs what `make man` has made.

HPCM_TARGET chooses another platform by the tag of its wheels (TARGETS in core/build.py): HPCM_TARGET=win_amd64.
"""

import os
import re
import runpy
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Native(BuildHookInterface):
    def dependencies(self) -> list[str]:
        core = _core(self.root)
        return [core.ZIG] if core.needs_zig(_target()) else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        core = _core(self.root)
        target = _target()
        platform = target or core.this_platform()
        name = core.library_name(platform)
        if version == "editable":
            library = core.PACKAGE / name
        else:
            self.folder = TemporaryDirectory()  # not the package's: that one may be in use
            library = Path(self.folder.name, name)
            build_data["force_include"][str(library)] = f"hpcm/core/{name}"
        try:
            core.build(library, target)
        except FileNotFoundError as error:
            self.app.abort(str(error))  # a line instead of a traceback, since everybody's `pip install` may come here
        except subprocess.CalledProcessError as error:
            self.app.abort(f"the compiler failed (status {error.returncode})")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{target or _local(platform)}"
        made = (file for file in Path(self.root, "share").rglob("*") if file.is_file())
        build_data["shared_data"] |= {str(file): file.relative_to(self.root).as_posix() for file in made}

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if version != "editable":
            self.folder.cleanup()


def _target() -> str | None:
    return os.environ.get("HPCM_TARGET")


def _core(root: str) -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(Path(root, "core", "build.py"))))


def _local(platform: str) -> str:
    """The tag of a wheel that needn't run on older systems of the kind than this one."""
    return re.sub(r"^(many|musl)linux_\d+_\d+_", "linux_", platform)
