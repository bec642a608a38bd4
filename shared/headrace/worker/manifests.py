"""What a worker says about a tool: its manifest, whose digest plans pin (pure)."""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from headrace import ids
from headrace.codec import Raw, encode
from headrace.errors import TooLargeError, ValidationError
from headrace.events.catalogue import ToolManifest
from headrace.messages import AnnounceTool, Told
from headrace.plans.model import manifest_digest
from headrace.ports.tool import Tool
from headrace.specs.rates import parse
from headrace.vocabulary import BAD_POOL, MESSAGE_BYTES_MAX, POOL_NAME, Access, Effect

MANIFEST_BYTES_MAX: Final = MESSAGE_BYTES_MAX - 64 * 1024
"""A manifest travels to the catalogue in one message, with who announces it and a seal."""
TEXT_FIELDS = ("name", "version", "description", "effect", "access", "pool")


def manifest_of(tool: Tool) -> ToolManifest:
    """Give a tool's manifest; raises ValidationError when the tool does not keep the Tool port, TooLargeError."""
    for field in TEXT_FIELDS:
        if not isinstance(getattr(tool, field, None), str):
            message = f"tool {getattr(tool, 'name', tool)!r} has no text {field!r}"
            raise ValidationError(message)
    if tool.effect not in set(Effect) or tool.access not in set(Access):
        message = f"tool {tool.name!r}: effect {tool.effect!r} or access {tool.access!r} is not a known word"
        raise ValidationError(message)
    if not POOL_NAME.fullmatch(tool.pool):
        message = f"tool {tool.name!r}: {BAD_POOL.format(tool.pool)}"
        raise ValidationError(message)
    limit = getattr(tool, "rate_limit", None)
    manifest = ToolManifest(
        name=tool.name,
        version=tool.version,
        effect=str(tool.effect),
        access=str(tool.access),
        idempotent=bool(tool.idempotent),
        pool=tool.pool,
        input_schema=tool.input.model_json_schema(mode="validation"),
        output_schema=tool.output.model_json_schema(mode="serialization"),
        description=tool.description,
        kind=str(getattr(tool, "kind", "tool")),
        requires_connection=getattr(tool, "requires_connection", None),
        rate_limit=msgspec.UNSET if limit is None else parse(limit),
    )
    size = len(encode(manifest))
    if size > MANIFEST_BYTES_MAX:
        message = (
            f"the manifest of tool {tool.name!r} takes {size} bytes, and may take {MANIFEST_BYTES_MAX}: "
            "its schemas and its description are too long"
        )
        raise TooLargeError(message, details={"size_bytes": size})
    return manifest


def announcement(manifest: ToolManifest, worker: str, workspace: str) -> Told:
    """Give the message that tells the catalogue of a tool."""
    body = AnnounceTool(manifest=manifest, worker=worker)
    return Told(
        stream_id=ids.definition(ids.TOOL, workspace, manifest.name), body=Raw(encode(body)), workspace=workspace
    )


def digests(tools: Iterable[Tool]) -> dict[str, str]:
    """Give the digest of each tool's manifest, by name."""
    return {tool.name: manifest_digest(manifest_of(tool)) for tool in tools}


def describe(manifest: ToolManifest) -> dict[str, Any]:
    """Give what `/api/tools` shows of a manifest without its schemas."""
    return {
        "name": manifest.name,
        "version": manifest.version,
        "pool": manifest.pool,
        "effect": manifest.effect,
        "access": manifest.access,
        "kind": manifest.kind,
    }
