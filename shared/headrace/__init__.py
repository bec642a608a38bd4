"""Headrace: a spec becomes a plan, the plan is held at gates, run by workers, and proven by the log.

`headrace.tool` makes a tool of a typed function; it is loaded when it is first used, so that `import headrace` stays
cheap.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["tool"]

if TYPE_CHECKING:
    from headrace.worker.decorator import tool
else:

    def __getattr__(name: str) -> Any:
        """Load what the package offers at its top level when it is asked for."""
        if name == "tool":
            from headrace.worker.decorator import tool

            return tool
        message = f"module 'headrace' has no attribute {name!r}"
        raise AttributeError(message)
