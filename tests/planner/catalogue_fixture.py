"""A catalogue for tests of the compiler: the tools that the product's own services announce, in short."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from headrace.events.catalogue import ToolManifest


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PathArguments(Strict):
    path: str = Field(min_length=1)


class WriteArguments(Strict):
    path: str = Field(min_length=1)
    contents: str


class GlobArguments(Strict):
    pattern: str = Field(min_length=1)
    root: str = "."


class SearchArguments(GlobArguments):
    limit: int = Field(default=1000, ge=1, le=10_000)


class ReadRequest(Strict):
    method: Literal["GET", "HEAD", "OPTIONS"] = "GET"
    url: str
    headers: dict[str, str] = {}
    query: dict[str, Any] = {}
    body: Any = None
    timeout_s: float = Field(default=30.0, gt=0, le=300)
    follow_redirects: bool = False


class WriteRequest(ReadRequest):
    method: Literal["POST", "PUT", "PATCH", "DELETE"] = "POST"  # type: ignore[assignment]  # the other methods


class IssueArguments(Strict):
    owner: str
    repo: str
    state: Literal["open", "closed", "all"] = "open"
    labels: list[str] | None = None


class GateArguments(BaseModel):
    model_config = ConfigDict(extra="allow")


def manifest(
    name: str,
    arguments: type[BaseModel],
    *,
    effect: str = "read",
    access: str = "auto",
    pool: str = "runner",
    **more: Any,
) -> ToolManifest:
    return ToolManifest(
        name=name,
        version="1",
        effect=effect,
        access=access,
        idempotent=more.pop("idempotent", effect == "read"),
        pool=pool,
        input_schema=arguments.model_json_schema(),
        output_schema={},
        **more,
    )


def catalogue() -> dict[str, ToolManifest]:
    tools = [
        manifest("file_read", PathArguments),
        manifest("file_glob", GlobArguments),
        manifest("file_search", SearchArguments),
        manifest("symbols_in_file", PathArguments),
        manifest("file_write", WriteArguments, effect="write", access="gated", idempotent=True),
        manifest("file_create", WriteArguments, effect="write", access="gated"),
        manifest("http", ReadRequest),
        manifest("http_write", WriteRequest, effect="write", access="gated"),
        manifest("rm", PathArguments, effect="write", access="forbidden"),
        manifest("github.issues", IssueArguments, pool="integrations", requires_connection="github"),
        manifest(
            "github.close",
            IssueArguments,
            effect="write",
            access="gated",
            pool="integrations",
            requires_connection="github",
        ),
        *(
            manifest(f"gate.{name}", GateArguments, pool="gates", kind="gate")
            for name in (
                "file_exists",
                "content_check",
                "artifact_exists",
                "metric_threshold",
                "expression",
                "is_friday",
            )
        ),
    ]
    return {tool.name: tool for tool in tools}
