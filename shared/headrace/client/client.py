"""The typed client of the HTTP api.

    from headrace.client.client import Client        # packages import nothing themselves, hence the full name

    async with Client("http://127.0.0.1:8374", token) as client:
        run = await client.create_run(workflow="repo-report", inputs={"root": "."})
        async for event in client.run_events(run.id):       # each once, in order, through any reconnect
            print(event.event, event.data)
        print(await client.result(run.id))

Requests that meet connection trouble or 503 are sent again under the same Idempotency-Key. Every refusal is raised as
the error of `headrace.errors` that the api answered with.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Self
from urllib.parse import quote

from headrace.client import views
from headrace.client.streams import Event, follow
from headrace.client.transport import PATIENCE_S, Transport
from headrace.codec import digest
from headrace.vocabulary import PAGE_MAX

SIMULATED_S_MAX = 60.0
"""How much longer than anything else a simulation may take to be answered."""


class Client:
    """A caller of one api, for one token. Use it as an async context manager, or `close` it."""

    def __init__(
        self, url: str, token: str | None = None, *, patience_s: float = PATIENCE_S, transport: Transport | None = None
    ) -> None:
        self.transport = transport or Transport(url, token, patience_s=patience_s)

    async def __aenter__(self) -> Self:
        """Give itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Let go of connections."""
        await self.close()

    async def close(self) -> None:
        """Let go of connections."""
        await self.transport.close()

    # anything

    async def get(self, path: str, **query: Any) -> Any:
        """Read any route below /api."""
        return await self.transport.json("GET", f"/api{path}", query=query)

    async def post(self, path: str, body: object = None, *, key: str | None = None, wait_s: float = 0.0) -> Any:
        """Send to any route below /api."""
        return await self.transport.json("POST", f"/api{path}", body=body, key=key, wait_s=wait_s)

    async def pages(self, path: str, **query: Any) -> AsyncIterator[dict[str, Any]]:
        """Give every item of a list, page by page."""
        cursor: str | None = None
        while True:
            page = views.read(views.Page, await self.get(path, cursor=cursor, **query))
            for item in page.items:
                yield item
            cursor = page.next_cursor
            if cursor is None:
                return

    async def me(self) -> views.Caller:
        """Say who the token stands for."""
        return views.read(views.Caller, await self.get("/me"))

    async def download(self, digest_or_id: str) -> bytes:
        """Download a kept output, or a large output of a step, whole."""
        return await self.transport.send("GET", f"/api/artifacts/{quote(digest_or_id)}")

    # runs

    async def create_run(
        self,
        *,
        workflow: str | None = None,
        spec: Mapping[str, Any] | str | None = None,
        plan_digest: str | None = None,
        inputs: Mapping[str, Any] | None = None,
        subject: str | None = None,
        stage: str | None = None,
        labels: Mapping[str, str] | None = None,
        priority: int | None = None,
        key: str | None = None,
        wait_s: float = 0.0,
    ) -> views.Run:
        """Create a run of a workflow, a document, or a recorded plan; `wait_s` waits for its end."""
        told = {
            "workflow": workflow,
            "spec": spec,
            "plan_digest": plan_digest,
            "inputs": dict(inputs or {}),
            "subject": subject,
            "stage": stage,
            "labels": dict(labels or {}),
            "priority": priority,
        }
        body = {name: value for name, value in told.items() if value is not None}
        return views.read(views.Run, await self.post("/runs", body, key=key, wait_s=wait_s))

    async def create_runs(self, runs: Sequence[Mapping[str, Any]], *, key: str | None = None) -> list[dict[str, Any]]:
        """Create up to 1,000 runs in one request, each said as in `create_run`.

        Gives for each, in order, its `id` and `status`, or the `error` for which it alone was refused.
        """
        body = await self.post("/runs/batch", {"runs": [dict(one) for one in runs]}, key=key)
        items: list[dict[str, Any]] = body["items"]
        return items

    async def run(self, run_id: str) -> views.Run:
        """Read a run with its steps."""
        return views.read(views.Run, await self.get(f"/runs/{quote(run_id)}"))

    async def runs(
        self, *, status: Sequence[str] = (), workflow: str | None = None, subject: str | None = None, limit: int = 20
    ) -> list[views.Run]:
        """List the newest runs."""
        page = await self.get("/runs", status=list(status) or None, workflow=workflow, subject=subject, limit=limit)
        return [views.read(views.Run, item) for item in page["items"]]

    async def result(self, run_id: str) -> dict[str, Any]:
        """Give the result of a finished run; raises ConflictError while it is under way."""
        body: dict[str, Any] = await self.get(f"/runs/{quote(run_id)}/result")
        return body

    async def output(self, run_id: str, step: str) -> bytes:
        """Give the whole output of a step that succeeded, as JSON; of a map the list of its items' outputs."""
        return await self.transport.send("GET", f"/api/runs/{quote(run_id)}/steps/{quote(step)}/output")

    async def act(
        self, run_id: str, action: str, *, reason: str = "", key: str | None = None, **more: Any
    ) -> views.Run:
        """Act on a run: cancel, start, pause, resume; retry gives the new run. `more` is what other actions take."""
        body = await self.post(f"/runs/{quote(run_id)}", {"action": action, "reason": reason, **more}, key=key)
        return views.read(views.Run, body)

    async def signal(
        self, run_id: str, name: str, data: object = None, *, signal_id: str | None = None, key: str | None = None
    ) -> views.Run:
        """Send a run a signal by name; again under the same `signal_id` (else the key) it changes nothing."""
        more = {"signal_id": signal_id} if signal_id is not None else {}
        return await self.act(run_id, "signal", name=name, data=data, key=key, **more)

    async def children(self, run_id: str, *, limit: int = 100) -> list[views.Run]:
        """List the newest child runs of a run."""
        page = await self.get("/runs", parent=run_id, limit=limit)
        return [views.read(views.Run, item) for item in page["items"]]

    async def rerun(
        self, run_id: str, from_step: str, *, inputs: Mapping[str, Any] | None = None, key: str | None = None
    ) -> views.Run:
        """Run a finished run again from a step, as a new run: the results before that step stand."""
        return await self.act(run_id, "rerun", from_step=from_step, inputs=dict(inputs or {}), key=key)

    async def settle(
        self,
        run_id: str,
        step: str,
        answer: str,
        *,
        output: Any = None,
        reason: str = "",
        key: str | None = None,
    ) -> views.Run:
        """Say what became of a write whose worker was lost: happened (with its output), not_happened or give_up."""
        told = {"step": step, "answer": answer, **({} if output is None else {"output": output})}
        return await self.act(run_id, "settle", reason=reason, key=key, **told)

    async def effects(self, run_id: str) -> list[dict[str, Any]]:
        """List what a run did to the world: every claimed attempt with its key, its worker and its outcome."""
        return [item async for item in self.pages(f"/runs/{quote(run_id)}/effects", limit=PAGE_MAX)]

    async def step(self, run_id: str, step: str) -> views.Step:
        """Read one step of a run with its last failed attempts."""
        return views.read(views.Step, await self.get(f"/runs/{quote(run_id)}/steps/{quote(step)}"))

    def run_events(self, run_id: str, after: str | None = None) -> AsyncIterator[Event]:
        """Follow a run's events to its end; the last one is `complete` and carries the status."""
        return follow(self.transport, f"/api/runs/{quote(run_id)}/events?stream=true", after)

    def run_lines(self, run_id: str, after: str | None = None) -> AsyncIterator[Event]:
        """Follow what a run prints to its end; the last event is `complete` and carries the status."""
        return follow(self.transport, f"/api/runs/{quote(run_id)}/logs?stream=true", after)

    async def until_over(self, run_id: str) -> views.Run:
        """Wait for the end of a run, by its event stream."""
        async for _ in self.run_events(run_id):
            pass
        return await self.run(run_id)

    # plans and workflows

    async def record_plan(self, spec: Mapping[str, Any] | str) -> dict[str, Any]:
        """Compile a document and keep its plan: digest, plan, authorisation."""
        body: dict[str, Any] = await self.post("/plans", {"spec": spec})
        return body

    async def simulate(
        self,
        spec: Mapping[str, Any] | str,
        *,
        inputs: Mapping[str, Any] | None = None,
        stubs: Mapping[str, Any] | None = None,
        fail: Mapping[str, str | None] | None = None,
        approve: Sequence[str] | None = None,
        reject: Sequence[str] = (),
        signals: Mapping[str, Sequence[Any]] | None = None,
        also: Sequence[Mapping[str, Any] | str] = (),
    ) -> dict[str, Any]:
        """Tell what a document's run would do, as `headrace simulate -o json` does; nothing is performed or kept.

        `fail` gives the error type with which a step's tool fails (None: `tool_error`); `approve` None: people agree to
        all that is not in `reject`; `signals` gives by name what comes each time that it is waited for.
        """
        body: dict[str, Any] = {"spec": spec, "inputs": dict(inputs or {}), "stubs": dict(stubs or {})}
        body |= {"fail": dict(fail or {}), "reject": list(reject), "also": list(also)}
        body |= {"signals": {name: list(payloads) for name, payloads in (signals or {}).items()}}
        if approve is not None:
            body["approve"] = list(approve)
        told: dict[str, Any] = await self.post("/simulate", body, wait_s=SIMULATED_S_MAX)
        return told

    async def plan(self, plan_digest: str) -> dict[str, Any]:
        """Read a recorded plan."""
        body: dict[str, Any] = await self.get(f"/plans/{quote(plan_digest)}")
        return body

    async def request_authorization(
        self, plan_digest: str, *, roles: Sequence[str] = ("approver",), quorum: int = 1
    ) -> dict[str, Any]:
        """Ask that a plan be authorised for every run of it."""
        body: dict[str, Any] = await self.post(
            f"/plans/{quote(plan_digest)}/authorizations", {"roles": list(roles), "quorum": quorum}
        )
        return body

    async def apply(self, spec: Mapping[str, Any] | str) -> dict[str, Any]:
        """Keep a document as the newest version of its name."""
        body: dict[str, Any] = await self.post("/workflows", {"spec": spec})
        return body

    async def trigger(self, name: str, payload: object, *, key: str | None = None) -> dict[str, Any]:
        """Publish a trigger event; a repeat under the same key meets the same runs."""
        body: dict[str, Any] = await self.post(f"/triggers/{quote(name)}", payload, key=key)
        return body

    # approvals

    async def approvals(self, *, status: str | None = "pending", run_id: str | None = None) -> list[views.Approval]:
        """List approvals, the newest first."""
        return [
            views.read(views.Approval, item) async for item in self.pages("/approvals", status=status, run_id=run_id)
        ]

    async def approval(self, approval_id: str) -> views.Approval:
        """Read an approval with exactly what is decided on."""
        return views.read(views.Approval, await self.get(f"/approvals/{quote(approval_id)}"))

    async def decide(
        self, approval: views.Approval, action: str, *, reason: str = "", shown_digest: str | None = None
    ) -> views.Approval:
        """Approve or reject what was shown: the digest is computed here from `shown`, not taken from the answer."""
        told = {"action": action, "digest": shown_digest or digest(approval.shown), "reason": reason}
        return views.read(views.Approval, await self.post(f"/approvals/{quote(approval.id)}", told))

    async def decide_all(
        self, approvals: Sequence[views.Approval], action: str, *, reason: str = ""
    ) -> list[dict[str, Any]]:
        """Approve or reject up to 1,000 questions in one request, each by the digest of its own `shown`.

        Gives for each, in order, its `id` and `status` (recorded, refused), with the `error` of one that is refused.
        """
        told = [
            {"approval_id": one.id, "action": action, "digest": digest(one.shown), "reason": reason}
            for one in approvals
        ]
        body = await self.post("/approvals/batch", {"decisions": told})
        items: list[dict[str, Any]] = body["items"]
        return items

    # tokens and connections

    async def create_token(self, name: str, roles: Sequence[str], *, key: str | None = None) -> dict[str, Any]:
        """Make an access token; its text is in this answer only."""
        body: dict[str, Any] = await self.post("/tokens", {"name": name, "roles": list(roles)}, key=key)
        return body

    async def revoke_token(self, token_id: str) -> dict[str, Any]:
        """Make a token worthless."""
        body: dict[str, Any] = await self.transport.json("DELETE", f"/api/tokens/{quote(token_id)}")
        return body

    async def save_connection(
        self, name: str, integration: str, *, settings: Mapping[str, Any], secrets: Mapping[str, str]
    ) -> dict[str, Any]:
        """Connect an integration; secrets are references such as `env:GITHUB_TOKEN`."""
        told = {"integration": integration, "settings": dict(settings), "secrets": dict(secrets)}
        body: dict[str, Any] = await self.transport.json("PUT", f"/api/connections/{quote(name)}", body=told)
        return body

    async def delete_connection(self, name: str) -> None:
        """Take a connection away."""
        await self.transport.json("DELETE", f"/api/connections/{quote(name)}")
