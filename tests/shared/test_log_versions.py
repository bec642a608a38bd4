"""What newer code wrote into the log meets older code: refused by name, parked, in nobody's way."""

import msgspec
import pytest

from headrace.vocabulary import LOG_RUNS
from tests.shared.host_toy import Add, World, on_virtual_time, until


def rewritten(world: World, stream: str, **changes: object) -> None:
    """Let a stream's last event be one that only newer code knows."""
    for events in (world.log._streams[LOG_RUNS, stream], world.log._parts[LOG_RUNS, 0].events):
        place = max(number for number, event in enumerate(events) if event.stream_id == stream)
        events[place] = msgspec.structs.replace(events[place], **changes)


@on_virtual_time
@pytest.mark.parametrize(
    ("changes", "said"),
    [({"schema": 9}, "of schema 9"), ({"type": "run.invented"}, "'run.invented'")],
    ids=["schema", "event"],
)
async def test_a_stream_that_only_newer_code_can_read_is_refused_by_name_and_its_neighbours_go_on(
    changes: dict[str, object], said: str
) -> None:
    async with World() as world:
        await world.host("first")
        newer, plain = world.stream(0, partition=0), world.stream(2, partition=0)
        for stream in (newer, plain):
            assert (await world.ask(Add(), stream=stream)).status == 201
        rewritten(world, newer, **changes)
        world.kill("first")
        await world.host("second")
        refused = await world.ask(Add(), stream=newer)
        assert refused.status == 500
        assert refused.error is not None
        assert said in refused.error.message
        assert "use a newer headrace" in refused.error.message
        assert (await world.ask(Add(), stream=plain)).status == 200
        await until(lambda: _parked(world))
        (parked,) = await world.log.parked()
        assert (parked.stream_id, said in parked.error) == (newer, True)
        assert await world.total(newer) == 1, "nothing was written over"


async def _parked(world: World) -> bool:
    return bool(await world.log.parked())
