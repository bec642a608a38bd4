"""Simulating a document: what its run would do, told by a process of its own. Nothing is performed, nothing is kept."""

from typing import Annotated, Any, ClassVar, Final

import msgspec
from fastapi import APIRouter, Response
from pydantic import Field

from headrace import codec
from headrace.events.catalogue import ToolManifest
from headrace_api.answers import JSON
from headrace_api.asking import Asked, Asking, says
from headrace_api.bodies import Body, Json, Name
from headrace_api.simulated import Simulated

router = APIRouter(tags=["plans"])
CHILDREN_MAX: Final = 50
"""Documents of workflows that one simulation may bring."""
SUPPOSED_MAX: Final = 1_000
"""Names that one field may suppose something of."""
TOOLS_PAGE: Final = 1_000

Document = dict[str, Json] | str


class SimulateBody(Body):
    """A document and what is supposed; names and values as `headrace simulate` has them.

    `stubs`: what a step's tool gives. `fail`: the error type with which a step's tool fails, null for `tool_error`.
    `approve` and `reject` name steps, or `run`; without `approve` people agree to all that is not rejected. `signals`:
    by name, what comes each time that it is waited for. `also`: documents of workflows that this one runs.
    """

    OLDER: ClassVar[dict[str, str]] = {"yaml": "spec", "document": "spec", "stub": "stubs", "signal": "signals"}

    spec: Document
    inputs: dict[str, Json] = {}
    stubs: Annotated[dict[str, Json], Field(max_length=SUPPOSED_MAX)] = {}
    fail: Annotated[dict[str, Name | None], Field(max_length=SUPPOSED_MAX)] = {}
    approve: Annotated[list[Name], Field(max_length=SUPPOSED_MAX)] | None = None
    reject: Annotated[list[Name], Field(max_length=SUPPOSED_MAX)] = []
    signals: Annotated[dict[str, list[Json]], Field(max_length=SUPPOSED_MAX)] = {}
    also: Annotated[list[Document], Field(max_length=CHILDREN_MAX)] = []


@router.post("/simulate", name="simulate", responses=says(Simulated))
async def simulate(asked: Asked, body: SimulateBody) -> Response:
    """Say what a document's run would do, as `headrace simulate` does. Nothing is performed, sent or recorded.

    Results that are not in `stubs` are made up from the tools' schemas. What takes over 20 s of a processor, or 45 s, is refused (422).
    """
    from headrace.testing.prediction.apart import Wanted  # loaded by who simulates: an api serves without
    from headrace.testing.prediction.scenario import FAILURE, Scenario

    wanted = Wanted(
        text=_text(body.spec),
        others=tuple(_text(each) for each in body.also),
        scenario=Scenario(
            fields=True,
            inputs=body.inputs,
            stubs=body.stubs,
            failures={name: kind or FAILURE for name, kind in body.fail.items()},
            approved=None if body.approve is None else frozenset(body.approve),
            rejected=frozenset(body.reject),
            signals={name: tuple(payloads) for name, payloads in body.signals.items()},
        ),
        manifests=tuple(await _manifests(asked)),
    )
    return Response(await asked.desk.turns.predict(wanted), media_type=JSON)


def _text(document: Document) -> str:
    return document if isinstance(document, str) else codec.dumps(document).decode()


async def _manifests(asked: Asking) -> list[ToolManifest]:
    """Give the manifests of every tool that the workspace knows."""
    found: list[ToolManifest] = []
    after: str | None = None
    while True:
        where: dict[str, Any] = {"workspace": asked.workspace}
        rows = await asked.desk.log.rows("tools", where, descending=False, after=after, limit=TOOLS_PAGE)
        found += [msgspec.convert(row["manifest"], ToolManifest) for row in rows]
        if len(rows) < TOOLS_PAGE:
            return found
        after = rows[-1]["id"]
