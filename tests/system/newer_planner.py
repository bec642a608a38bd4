"""A planner of the next version, as a process: it writes a format and a schema that this version does not know."""

from collections.abc import Sequence
from typing import Any

from headrace import serving
from headrace.config import from_env
from headrace.events import registry
from headrace.events.runs import RunStarted
from headrace.events.upcasting import UPCASTERS, Fields, Reader
from headrace.logs import configure_logging
from headrace_planner.runs.room import RunRoom
from headrace_planner.service import PlannerService

NEWER_FORMAT = RunRoom.format + 1
NEWER_SCHEMA = RunStarted.SCHEMA + 1


def as_it_was(fields: Fields) -> Fields:
    """Read what the version before wrote."""
    return fields


class NewerRunRoom(RunRoom):
    """Runs, one format on."""

    format = NEWER_FORMAT


class NewerPlanner(PlannerService):
    """The planner of the next version."""

    def rooms(self, library: Any) -> Sequence[Any]:
        """Give the rooms, that of runs being newer."""
        return NewerRunRoom(library), *super().rooms(library)[1:]


def main() -> None:
    """Become the next version, and serve."""
    raised = {**UPCASTERS, (RunStarted.type_name(), RunStarted.SCHEMA): as_it_was}
    RunStarted.SCHEMA = NEWER_SCHEMA
    vars(registry)["_reader"] = Reader(registry.BY_NAME.values(), raised)
    config = from_env()
    configure_logging("planner", config.log_level)
    serving.run_loop(NewerPlanner().run(config))


if __name__ == "__main__":
    main()
