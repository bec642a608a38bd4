"""What the runner's tools share."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from headrace.vocabulary import POOL_RUNNER, Access, Effect


class Arguments(BaseModel):
    """Arguments of a tool: an unknown one is refused."""

    model_config = ConfigDict(extra="forbid")


def _no_nul(text: str) -> str:
    if "\x00" in text:
        message = "a path holds no NUL"
        raise ValueError(message)
    return text


FilePath = Annotated[str, Field(min_length=1, max_length=4_096), AfterValidator(_no_nul)]
"""A path below the file root."""


class ReadTool:
    """A tool that only reads."""

    version: str = "1"
    effect: str = Effect.READ
    access: str = Access.AUTO
    idempotent: bool = True
    pool: str = POOL_RUNNER


class WriteTool:
    """A tool that changes something."""

    version: str = "1"
    effect: str = Effect.WRITE
    access: str = Access.GATED
    idempotent: bool = True
    pool: str = POOL_RUNNER
