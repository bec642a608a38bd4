"""Processes: everything at once, one service, the demo, a worker of one's own tools."""

from pathlib import Path
from typing import Annotated

import typer

from headrace.cli.options import above, awaited, found
from headrace.config import Config, environment, from_env, read
from headrace.errors import ValidationError


def serve(service: Annotated[str, typer.Argument(help="An installed service, such as api or planner.")]) -> None:
    """Run one service until it is told to stop."""
    from headrace.cli.serve import serve_service

    raise typer.Exit(serve_service(service))


def up() -> None:
    """Start everything and keep it running: Postgres and NATS (unless URLs name real ones) and every service.

    Set by the environment: HEADRACE_API_PORT, HEADRACE_DATA_DIR (.headrace here), HEADRACE_DATABASE_URL and
    HEADRACE_NATS_URL (servers of your own). The token of the admin lies in .headrace/token.
    """
    from headrace.cli.serve import start_everything

    raise typer.Exit(start_everything())


def demo() -> None:
    """Start everything, run the main job, prove what headrace promises, stop everything."""
    from headrace.dev.demo import demo as start

    raise typer.Exit(awaited(start(from_env())))


def worker(file: Annotated[Path, typer.Argument(help="A Python file with functions marked @headrace.tool.")]) -> None:
    """Offer the tools of a Python file and perform them until told to stop."""
    from headrace.logs import configure_logging
    from headrace.serving import run_loop
    from headrace.worker.files import run_worker

    config = beside_up(from_env())
    configure_logging("worker", config.log_level)
    run_loop(run_worker(config, file))


def beside_up(config: Config) -> Config:
    """Complete a configuration from the data folder of a running `headrace up`, here or above: servers and keys.

    Raises ValidationError when nothing says where NATS is.
    """
    if config.nats_url is not None:
        return config
    place = above("nats.url", config)
    if place is None:
        message = "no NATS server is known: start `headrace up` here or above, or set HEADRACE_NATS_URL"
        raise ValidationError(message)
    folder = {
        "HEADRACE_DATA_DIR": str(place.parent),
        "HEADRACE_NATS_URL": found(place.name, config) or "",
        "HEADRACE_API_URL": config.api_url or found("api", config) or "",
    }
    return read({**environment(), **folder})
