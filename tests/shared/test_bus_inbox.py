"""An inbox whose messages were delivered a second time while the first was still being worked on."""

from types import SimpleNamespace
from typing import Any

from headrace.bus.inbox import JetStreamInbox
from headrace.bus.port import Delivery


def test_a_message_that_was_delivered_again_takes_back_nothing_of_what_is_settled() -> None:
    acks: list[str] = []
    lane: Any = SimpleNamespace(credit=0)
    connection: Any = SimpleNamespace(send=lambda subject, _data: acks.append(subject))
    hub: Any = SimpleNamespace(lane=lambda *_given, **_named: lane)
    heard: list[int] = []
    guardian: Any = None
    inbox = JetStreamInbox(connection, guardian, hub, "s", 1, lambda delivery: heard.append(delivery.sequence))
    for sequence in (5, 6, 7, 5, 6):  # 7 is not yet late enough to come again
        inbox._on_message(Delivery(b"", sequence), SimpleNamespace(reply=f"ack.{sequence}"))  # type: ignore[arg-type]  # all it reads of a message
    inbox.settle(7)
    inbox._on_message(Delivery(b"", 7), SimpleNamespace(reply="ack.7"))  # type: ignore[arg-type]  # as above
    assert acks == ["ack.7"]
    assert heard == [5, 6, 7, 5, 6], "7 is settled"
