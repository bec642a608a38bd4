"""Running one service. It imports no command-line library: five of these start at once under `headrace up`."""

from headrace.config import from_env
from headrace.serving import run


def serve_service(name: str) -> int:
    """Run an installed service until it is told to stop, and give its exit code."""
    return run(name, from_env())
