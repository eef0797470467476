"""A hook of hatchling: puts the manual page and the completions into the wheel if `make man` has made them."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Share(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        made = (file for file in Path(self.root, "share").rglob("*") if file.is_file())
        build_data["shared_data"] |= {str(file): file.relative_to(self.root).as_posix() for file in made}
