"""GitHub (https://docs.github.com/en/rest, API_FACTS 1): issues of a repository."""

from typing import Any, Final, Literal

import httpx2
from pydantic import BaseModel, ConfigDict, Field

from headrace.codec import loads
from headrace.errors import StepError, ValidationError
from headrace.ports.integration import Rows
from headrace.ports.tool import Tool, ToolContext
from headrace.vocabulary import POOL_INTEGRATIONS, Access, Effect
from headrace_integrations.upstream import MESSAGE_CHARS_MAX, Upstream, parsed, wait_s

NAME: Final = "github"
BASE_URL: Final = "https://api.github.com"
API_VERSION: Final = "2022-11-28"
PER_PAGE_MAX: Final = 100
PAGES_DEFAULT: Final = 10
PAGES_MAX: Final = 100
LIMITED_WAIT_S: Final = 60.0
LIMIT_STATUSES: Final = frozenset({403, 429})
UNAUTHORIZED: Final = 401
ERROR_STATUS: Final = 300
PART = r"^[A-Za-z0-9._-]+$"


class GitHubSettings(BaseModel):
    """Settings of a connection."""

    model_config = ConfigDict(extra="forbid")

    base_url: str = Field(default=BASE_URL, pattern=r"^https?://[^/?#@]+(/[^?#]*)?$")
    """Where the API is: GitHub Enterprise Server has its own."""


class IssuesArguments(BaseModel):
    """Which issues: all pages up to `pages_max`; `cursor` goes on where an earlier result stopped."""

    model_config = ConfigDict(extra="forbid")

    owner: str = Field(min_length=1, max_length=100, pattern=PART)
    repo: str = Field(min_length=1, max_length=100, pattern=PART)
    state: Literal["open", "closed", "all"] = "open"
    since: str | None = None
    labels: list[str] = []
    sort: Literal["created", "updated", "comments"] = "created"
    direction: Literal["asc", "desc"] = "desc"
    per_page: int = Field(default=PER_PAGE_MAX, ge=1, le=PER_PAGE_MAX)
    pages_max: int = Field(default=PAGES_DEFAULT, ge=1, le=PAGES_MAX)
    cursor: str | None = None


class Issues:
    """Lists the issues of a repository, without its pull requests."""

    name = f"{NAME}.issues"
    version = "1"
    description = "Lists the issues of a GitHub repository, without its pull requests."
    input: type[BaseModel] = IssuesArguments
    output: type[BaseModel] = Rows
    effect: str = Effect.READ
    access: str = Access.AUTO
    idempotent = True
    pool = POOL_INTEGRATIONS

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    async def perform(self, context: ToolContext, input: IssuesArguments) -> Rows:
        """Follow the pages; raises StepError (rate_limited, integration_auth_error, upstream_error)."""
        base_url = str(context.settings["base_url"]).rstrip("/")
        headers = _headers(context.secrets["token"])
        url: str | None = _first_page(base_url, input)
        rows: list[dict[str, Any]] = []
        pages = 0
        while url is not None and pages < input.pages_max:
            response, body = await self._upstream.get(url, headers)
            if response.status_code >= ERROR_STATUS:
                raise _error(response, body)
            rows += _rows(parsed(body, "GitHub"))
            pages += 1
            url = _next_page(response, base_url)
            context.log(f"page {pages}: {len(rows)} issues so far")
        source = f"{base_url}/repos/{input.owner}/{input.repo}/issues"
        context.source(source, complete=url is None, calls=pages, next_cursor=url)
        context.artifact("rows", self.name, len(rows))
        return Rows(rows=rows, source=source, fetched_at=self._upstream.now(), complete=url is None, next_cursor=url)


class GitHub:
    """The integration `github`; a connection brings the secret `token`."""

    name = NAME
    settings: type[BaseModel] = GitHubSettings
    secrets: tuple[str, ...] = ("token",)

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    def operations(self) -> list[Tool]:
        """Give its operations."""
        return [Issues(self._upstream)]


def _headers(token: str) -> dict[str, str]:
    return {
        "authorization": f"Bearer {token}",
        "accept": "application/vnd.github+json",
        "x-github-api-version": API_VERSION,
        "user-agent": "headrace",
    }


def _first_page(base_url: str, arguments: IssuesArguments) -> str:
    if arguments.cursor is not None:
        return _ours(arguments.cursor, base_url)
    query: dict[str, str | int] = {
        "state": arguments.state,
        "sort": arguments.sort,
        "direction": arguments.direction,
        "per_page": arguments.per_page,
    }
    if arguments.since:
        query["since"] = arguments.since
    if arguments.labels:
        query["labels"] = ",".join(arguments.labels)
    return str(httpx2.URL(f"{base_url}/repos/{arguments.owner}/{arguments.repo}/issues", params=query))


def _next_page(response: httpx2.Response, base_url: str) -> str | None:
    """Give the link `rel="next"` as the server wrote it; none is the last page."""
    link = response.links.get("next", {}).get("url")
    return None if link is None else _ours(link, base_url)


def _ours(url: str, base_url: str) -> str:
    """Let a page through only at the connection's own server: the token goes nowhere else."""
    try:
        page, base = httpx2.URL(url), httpx2.URL(base_url)
    except httpx2.InvalidURL as problem:
        message = "the next page has no readable address"
        raise ValidationError(message) from problem
    if (page.scheme, page.netloc) != (base.scheme, base.netloc) or page.userinfo:
        message = f"the next page is at {page.scheme}://{page.host}, not at {base.scheme}://{base.host}: not followed"
        raise StepError(message, type="upstream_error")
    return url


def _rows(page: Any) -> list[dict[str, Any]]:
    if not isinstance(page, list):
        message = "GitHub answered with something that is no list of issues"
        raise StepError(message, type="upstream_error")
    return [
        {
            "number": issue.get("number"),
            "title": issue.get("title"),
            "state": issue.get("state"),
            "user": (issue.get("user") or {}).get("login"),
            "labels": [label if isinstance(label, str) else label.get("name") for label in issue.get("labels") or []],
            "comments": issue.get("comments"),
            "created_at": issue.get("created_at"),
            "updated_at": issue.get("updated_at"),
            "closed_at": issue.get("closed_at"),
            "url": issue.get("html_url"),
        }
        for issue in page
        if "pull_request" not in issue
    ]


def _error(response: httpx2.Response, body: bytes) -> StepError:
    """Give GitHub's own error: its status, code, message and request id are kept as they came."""
    status = response.status_code
    said = _said(body)
    errors = said.get("errors") or []
    code = errors[0].get("code") if errors and isinstance(errors[0], dict) else None
    message = str(said.get("message") or body[:MESSAGE_CHARS_MAX].decode(errors="replace"))
    request_id = response.headers.get("x-github-request-id")
    details: dict[str, Any] = {
        "upstream": {"status": status, "code": code, "message": message[:MESSAGE_CHARS_MAX], "request_id": request_id}
    }
    kind = "upstream_error"
    if status in LIMIT_STATUSES and _is_limit(response, message):
        kind = "rate_limited"
        spent = response.headers.get("x-ratelimit-remaining") == "0"
        reset = response.headers.get("x-ratelimit-reset") if spent else None
        details["retry_after_s"] = wait_s(response.headers, reset=reset, least_s=LIMITED_WAIT_S)
    elif status == UNAUTHORIZED:
        kind = "integration_auth_error"
    return StepError(f"GitHub answered {status}: {message[:MESSAGE_CHARS_MAX]}", type=kind, details=details)


def _is_limit(response: httpx2.Response, message: str) -> bool:
    """Tell a limit from a refusal: both may be 403."""
    headers = response.headers
    return (
        response.status_code != 403  # noqa: PLR2004  (429 is nothing else)
        or headers.get("x-ratelimit-remaining") == "0"
        or "retry-after" in headers
        or "rate limit" in message.lower()
    )


def _said(body: bytes) -> dict[str, Any]:
    try:
        said = loads(body)
    except ValidationError:
        return {}
    return said if isinstance(said, dict) else {}
