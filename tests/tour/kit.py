"""A tool and a short way to write workflows, for tests that need any tool and any workflow."""

from typing import Any

from pydantic import BaseModel

from headrace.ports.tool import ToolContext


class Greeting(BaseModel):
    name: str


class Greeted(BaseModel):
    text: str


class Greet:
    """A tool by the Tool port: typed in, typed out, with its effect stated."""

    name, version, description = "greet", "1", "Says hello."
    effect, access, idempotent, pool = "read", "auto", True, "test"
    input, output = Greeting, Greeted

    async def perform(self, context: ToolContext, input: Greeting) -> Greeted:
        context.log(f"greeting {input.name}")
        return Greeted(text=f"Hello {input.name}")


def workflow(name: str, *steps: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "headrace/v1",
        "kind": "Workflow",
        "metadata": {"name": name},
        "spec": {"steps": list(steps), **spec},
    }
