"""Processes that stay: one service, or everything. They load no command-line library: six start under `headrace up`."""

from headrace.config import from_env


def serve_service(name: str) -> int:
    """Run an installed service until it is told to stop, and give its exit code."""
    from headrace.serving import run

    return run(name, from_env())


def start_everything() -> int:
    """Start everything and keep it running until a signal; gives the exit code."""
    import asyncio

    from headrace.dev.up import up

    return asyncio.run(up(from_env()))
