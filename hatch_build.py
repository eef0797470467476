"""A hook of hatchling for wheels and editable installs: compiles libhpcm, and packs what `make man` has made."""

import runpy
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Native(BuildHookInterface):
    def dependencies(self) -> list[str]:
        """A compiler, unless this machine has one that is as good."""
        return [] if self.core()["own_compiler"]() else ["ziglang>=0.13"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        core = self.core()
        core["build"]()
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{core['wheel_platform']()}"
        build_data["artifacts"].append(core["LIBRARY"].relative_to(self.root).as_posix())  # whatever .gitignore says
        made = (file for file in Path(self.root, "share").rglob("*") if file.is_file())
        build_data["shared_data"] |= {str(file): file.relative_to(self.root).as_posix() for file in made}

    def core(self) -> dict[str, Any]:
        """What core/build.py defines."""
        return runpy.run_path(str(Path(self.root, "core", "build.py")))
