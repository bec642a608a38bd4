"""Purging a run: who may, when, what again does, and that a rebuild of what is left changes nothing."""

import pytest

from headrace.errors import ConflictError, ForbiddenError, NotFoundError
from headrace.log.rebuild import rebuild
from headrace.steering import PurgeRun
from headrace.testing.engine import Engine
from headrace.testing.virtual import in_virtual_time
from headrace.vocabulary import LOG_RUNS

TEXT = """
apiVersion: headrace/v1
kind: Workflow
metadata: {name: short}
spec:
  steps:
    - {id: one, transform: 1}
    - {id: rest, wait: {timer: 1h}, depends_on: [one]}
"""


@in_virtual_time
async def test_only_an_admin_purges_and_only_what_is_over_and_again_is_nothing() -> None:
    async with Engine() as engine:
        run, other = await engine.run(TEXT), await engine.run(TEXT)
        with pytest.raises(ForbiddenError, match="admin"):
            await engine.ask(LOG_RUNS, PurgeRun(), stream=run.id)
        with pytest.raises(ConflictError, match="cancel it first"):
            await engine.ask(LOG_RUNS, PurgeRun(), stream=run.id, as_="root")
        await engine.cancel(run)
        await run.until("cancelled")
        for _ in range(2):
            await engine.ask(LOG_RUNS, PurgeRun(reason="old"), stream=run.id, as_="root")
        assert run.events.count("run.purged") == 1
        assert run.events[-2:] == ["run.cancelled", "run.purged"]
        with pytest.raises(NotFoundError):
            _ = run.row
        assert run.steps == {}
        assert [each.id for each in await engine.runs()] == [other.id]
        report = await rebuild(engine.log)
        assert (report.changed, report.examples) == (0, [])
        assert [each.id for each in await engine.runs()] == [other.id]
