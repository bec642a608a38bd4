"""Processes: everything at once, one service, the demo, a worker of one's own tools."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from headrace.cli.serve import serve_service
from headrace.config import from_env


def serve(service: Annotated[str, typer.Argument(help="An installed service, such as api or planner.")]) -> None:
    """Run one service until it is told to stop."""
    raise typer.Exit(serve_service(service))


def up() -> None:
    """Start everything and keep it running: Postgres and NATS (unless URLs name real ones) and every service."""
    from headrace.dev.up import up as start

    raise typer.Exit(asyncio.run(start(from_env())))


def demo() -> None:
    """Start everything, run the main job, prove what headrace promises, stop everything."""
    from headrace.dev.demo import demo as start

    raise typer.Exit(asyncio.run(start(from_env())))


def worker(file: Annotated[Path, typer.Argument(help="A Python file with functions marked @headrace.tool.")]) -> None:
    """Offer the tools of a Python file and perform them until told to stop."""
    from headrace.worker.files import run_worker

    asyncio.run(run_worker(from_env(), file))
