"""Puts each man page under man/ where man looks for its section."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ManPages(BuildHookInterface[Any]):
    """Adds to the wheel what its shared-data in pyproject.toml would have to list page by page."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Add man/NAME.8 as share/man/man8/NAME.8, and so on."""
        build_data["shared_data"] |= {
            str(page): f"share/man/man{page.suffix[1:]}/{page.name}"
            for page in Path(self.root, "man").glob("*.[1-9]")
        }
