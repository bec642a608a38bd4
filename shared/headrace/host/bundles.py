"""Bundles: results of items of one map that wait together are decided together, so that they become one event.

One of them leads; the `others` share its fate until it is decided, and are decided by themselves where the room says
that they are not of one kind with it, or when anything goes wrong.
"""

from collections.abc import Iterable
from typing import Any, Final

from headrace.host.items import Item
from headrace.messages import ReportAttempt
from headrace.vocabulary import AttemptStatus

TOGETHER_MAX: Final = 250
"""Results in one event: half of what a stream may emit in a batch (BATCH_EVENTS_MAX), an order for each among it."""
TOGETHER_BYTES_MAX: Final = 256 * 1024
"""Bytes of messages in one event, which travels on the feed as a whole."""


def gathered(items: Iterable[Item]) -> list[Item]:
    """Give items to decide, in an order that is each stream's own, with results of a map behind the first of them."""
    found: list[Item] = []
    leading: dict[str, dict[tuple[str, str, str | None], tuple[Item, int]]] = {}
    for item in _apart(items):
        leads = leading.setdefault(item.stream_id, {})
        if not _fit(item):
            leads.clear()
            found.append(item)
            continue
        kind = (item.actor.id, item.command.step, item.traceparent)
        lead, size = leads.get(kind, (None, 0))
        size += len(item.body)
        if lead is not None and _belongs(lead, item) and size <= TOGETHER_BYTES_MAX:
            lead.others.append(item)
            leads[kind] = lead, size
        else:
            leads[kind] = item, len(item.body)
            found.append(item)
    return found


def _apart(items: Iterable[Item]) -> Iterable[Item]:
    """Give items one by one; what is decided already stays as it is."""
    for item in items:
        if item.decided or not item.others:
            yield item
        else:
            yield from released(item)


def released(lead: Item) -> list[Item]:
    """Give an item and those behind it, each by itself."""
    members = [lead, *lead.others]
    lead.others = []
    return members


def said(lead: Item) -> list[Any]:
    """Give the commands of an item and of those behind it."""
    return [lead.command, *(other.command for other in lead.others)]


def _fit(item: Item) -> bool:
    command = item.command
    return (
        type(command) is ReportAttempt
        and command.index is not None
        and command.status == AttemptStatus.SUCCEEDED
        and not command.then
        and not item.decided
        and item.refusal is None
        and item.reply is None
        and item.key is None
    )


def _belongs(lead: Item, item: Item) -> bool:
    return len(lead.others) + 1 < TOGETHER_MAX and lead.held is item.held and lead.workspace == item.workspace
