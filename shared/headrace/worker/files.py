"""`headrace worker my.py`: a worker for the tools of one Python file."""

import importlib.util
import logging
import sys
from pathlib import Path
from typing import Any

from headrace.config import Config
from headrace.errors import ValidationError
from headrace.ports.tool import Tool
from headrace.worker.service import run_worker_service

log = logging.getLogger(__name__)


def load_tools(path: Path) -> list[Tool]:
    """Give the tools that a Python file makes at its top level, by name.

    Raises ValidationError: there is no such file, it fails when loaded, or it makes no tool.
    """
    if not path.is_file():
        message = f"there is no file {str(path)!r}"
        raise ValidationError(message)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        message = f"{str(path)!r} is no Python file"
        raise ValidationError(message)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except Exception as problem:
        del sys.modules[path.stem]
        message = f"{str(path)!r} failed when it was loaded: {type(problem).__name__}: {problem}"
        raise ValidationError(message) from problem
    found: dict[str, Tool] = {}
    for value in vars(module).values():
        if _is_tool(value):
            found[value.name] = value
    if not found:
        message = f"{str(path)!r} makes no tool: put @headrace.tool above a typed function"
        raise ValidationError(message)
    return [found[name] for name in sorted(found)]


async def run_worker(config: Config, path: Path) -> None:
    """Work for the tools of a file until cancelled, then drain."""
    tools = load_tools(path)
    for tool in tools:
        log.info("offers %s (%s) in pool %s", tool.name, tool.effect, tool.pool)
    await run_worker_service("worker", (), lambda _: tools, config)


def _is_tool(value: Any) -> bool:
    return not isinstance(value, type) and isinstance(value, Tool)
