"""Approvals: what people are asked to decide, and their decisions."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from headrace.errors import ValidationError
from headrace.messages import DecideApproval
from headrace.vocabulary import LOG_APPROVALS, ApprovalStatus
from headrace_api import shapes, views
from headrace_api.answers import answer
from headrace_api.asking import Asked, Asking, Paged, says
from headrace_api.bodies import DecisionBody

router = APIRouter(tags=["approvals"])


async def approval_row(asked: Asking, approval_id: str) -> dict[str, Any]:
    """Read an approval; raises NotFoundError, which says when it was archived."""
    return await asked.approval(approval_id)


@router.get("/approvals", name="list_approvals", responses=says(shapes.Page[shapes.Approval]))
async def list_approvals(
    asked: Asked,
    paged: Paged,
    status: Annotated[list[str] | None, Query(description="pending, approved, rejected, expired, superseded")] = None,
    run_id: str | None = None,
    subject: str | None = None,
    plan_digest: str | None = None,
) -> Response:
    """List approvals, the newest first."""
    words = [word.strip().lower() for each in status or [] for word in each.split(",")]
    for word in words:
        if word not in set(ApprovalStatus):
            message = f"unknown status {word!r}; known are: {', '.join(ApprovalStatus)}"
            raise ValidationError(message, details={"field": "status"})
    where: dict[str, Any] = {"status": words, "subject": run_id or subject, "plan_digest": plan_digest}
    return await asked.page("approvals", {key: value for key, value in where.items() if value}, paged, views.approval)


@router.get("/approvals/{approval_id}", name="get_approval", responses=says(shapes.Approval))
async def get_approval(asked: Asked, approval_id: str) -> Response:
    """Show an approval: `shown` is exactly what is decided on, `digest` its digest."""
    return answer(views.approval(await approval_row(asked, approval_id)))


@router.post("/approvals/{approval_id}", name="decide_approval", responses=says(shapes.Approval))
async def decide_approval(asked: Asked, approval_id: str, body: DecisionBody) -> Response:
    """Approve or reject what `digest` names. Another digest is refused with both named; so is the requester."""
    await approval_row(asked, approval_id)
    command = DecideApproval(action=body.action, digest=body.digest, reason=body.reason)
    await asked.send(LOG_APPROVALS, command, stream_id=approval_id)
    return answer(views.approval(await approval_row(asked, approval_id)))
