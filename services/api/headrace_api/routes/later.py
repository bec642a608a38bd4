"""Routes that are designed and not built yet: refused by name, so that nobody takes them for a typing error."""

from typing import Final

from fastapi import APIRouter, Response

from headrace.errors import NotFoundError

router = APIRouter()
LATER: Final = (
    "skills",
    "stage-recipes",
    "recipes",
    "subjects",
    "questions",
    "notifications",
    "evidence",
    "webhooks",
    "agents",
    "policies",
    "settings",
    "budgets",
    "schedules",
)
PREFIX: Final = "later_"
METHODS: Final = ["GET", "POST", "PUT", "PATCH", "DELETE"]


def _refuse(noun: str) -> None:
    async def refuse() -> Response:
        message = f"/api/{noun} is not built yet"
        raise NotFoundError(message, details={"built": False})

    for path in (f"/{noun}", f"/{noun}/{{rest:path}}"):
        router.add_api_route(path, refuse, methods=METHODS, include_in_schema=False, name=f"{PREFIX}{noun}")


for _noun in LATER:
    _refuse(_noun)
