"""What the presets share."""

from typing import Any

from nextlat_bench import registry

__all__ = ["chosen"]


def chosen(objective: str, settings: dict[str, dict[str, Any]]) -> Any:
    """The objective with a preset's parameters for it, where it has any."""
    return registry.load("objectives", objective)(**settings.get(objective, {}))
