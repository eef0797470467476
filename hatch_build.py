"""A hook of hatchling for wheels and editable installs: compiles libhpcm, and packs what `make man` has made."""

import os
import runpy
import shutil
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Native(BuildHookInterface):
    def dependencies(self) -> list[str]:
        """A compiler where there is no clang: that of the package `ziglang`."""
        return [] if os.environ.get("CC") or shutil.which("clang") else ["ziglang>=0.13"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        runpy.run_path(str(Path(self.root, "core", "build.py")))["build"]()
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
        made = (file for file in Path(self.root, "share").rglob("*") if file.is_file())
        build_data["shared_data"] |= {str(file): file.relative_to(self.root).as_posix() for file in made}
