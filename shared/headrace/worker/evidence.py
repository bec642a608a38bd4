"""Evidence for gates: what an order names by digest is fetched before the gate judges, so that gates stay pure."""

from typing import Any, Final

from headrace import codec
from headrace.errors import TooLargeError
from headrace.worker.blobs import BlobClient

BODY_BYTES_MAX: Final = 64 * 1024 * 1024


async def with_bodies(evidence: dict[str, Any], blobs: BlobClient, token: str) -> dict[str, Any]:
    """Give evidence in which artifacts have their `text` and steps their `output`, also those kept as blobs.

    Raises TooLargeError over BODY_BYTES_MAX: a body that is not seen is never judged.
    """
    for artifact in evidence.get("artifacts") or []:
        blob = artifact.get("blob")
        if blob and artifact.get("text") is None:
            artifact["text"] = (await _body(blob, blobs, token)).decode(errors="replace")
    for step in (evidence.get("steps") or {}).values():
        blob = step.get("blob") if isinstance(step, dict) else None
        if blob and step.get("output") is None:
            step["output"] = codec.loads(await _body(blob, blobs, token))
    return evidence


async def _body(blob: dict[str, Any], blobs: BlobClient, token: str) -> bytes:
    if int(blob.get("size_bytes") or 0) > BODY_BYTES_MAX:
        message = f"evidence of {blob['size_bytes']} bytes is over {BODY_BYTES_MAX}"
        raise TooLargeError(message)
    return await blobs.get(str(blob["digest"]), token)
