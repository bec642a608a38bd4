"""Permission to act, as a worker asks for it: of its run's owner alone, again under the same nonce, and no answer but a grant is one."""

import msgspec
import pytest

from headrace import codec, ids
from headrace.errors import ConflictError, UnavailableError
from headrace.keys import COMMANDS, POOL, Keys
from headrace.messages import ClaimWrite
from headrace.vocabulary import CLAIM_GRANT_S
from headrace.wire import ClaimGrant, WorkOrder
from headrace.worker.claims import BusClaimer, Permission
from headrace.worker.registry import Registry
from headrace.worker.twins import order_for
from tests.shared.test_worker_tool_runner import Gives

KEYS = Keys(master=b"m" * 32)
NOW = 1_790_000_000_000
ENTROPY = bytes(range(48))
NONCE = ENTROPY[:16].hex()
LABEL, OTHER = POOL + "runner", POOL + "gates"
WORKERS = Keys(single={label: KEYS.key(label) for label in (LABEL, OTHER)})
"""What a worker of two pools holds: no other key."""


class Time:
    """A clock that stands still, and says how long somebody slept."""

    def __init__(self) -> None:
        self.ms, self.s = NOW, 100.0
        self.slept: list[float] = []

    def now_ms(self) -> int:
        return self.ms

    def monotonic(self) -> float:
        return self.s

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def entropy(self) -> bytes:
        return ENTROPY


class Owner:
    """A bus at whose other end is one owner, that answers as it is told; None: nobody answers."""

    def __init__(self, *answers: bytes | None) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int, bytes]] = []

    async def claim(self, log: str, partition: int, packed: bytes, *, timeout_s: float) -> bytes:
        self.asked.append((log, partition, packed))
        answer = self.answers.pop(0)
        if answer is None:
            message = "nobody answers"
            raise UnavailableError(message)
        return answer


def grant(label: str = LABEL, keys: Keys = KEYS, **changes: object) -> bytes:
    given = {"granted": True, "nonce": NONCE, "expires_at": NOW + 5_000} | changes
    return keys.pack(label, codec.encode(ClaimGrant(**given)))  # type: ignore[arg-type]  # fields of a grant


def order() -> WorkOrder:
    return order_for(Registry([Gives({}, effect="write", access="gated")]), "gives", {"to": "ada"}, index=3)


async def claimed(*answers: bytes | None) -> tuple[Owner, Time, Permission]:
    owner, time = Owner(*answers), Time()
    return owner, time, await BusClaimer(owner, WORKERS, time, "wrk_1").claim(order())  # type: ignore[arg-type]  # the part of a bus that is used


async def test_the_runs_own_owner_is_asked_under_the_pools_seal_for_exactly_what_the_order_says() -> None:
    owner, time, permission = await claimed(grant())
    ((log, partition, packed),) = owner.asked
    assert (log, partition) == ("runs", ids.partition_of(order().run_id))
    label, body = KEYS.unpack(packed)
    request = msgspec.json.decode(body, type=ClaimWrite)
    assert (label, request.nonce, request.worker) == (LABEL, NONCE, "wrk_1")
    asked = order()
    for name in ("run_id", "step", "index", "attempt", "attempt_id", "arguments_digest"):
        assert getattr(request, name) == getattr(asked, name)
    assert permission == Permission(NOW + 5_000, time.s)


async def test_while_nobody_answers_it_asks_again_ever_later_under_the_same_nonce() -> None:
    owner, time, _ = await claimed(*[None] * 6, grant())
    assert len({packed for _, _, packed in owner.asked}) == 1
    assert (len(owner.asked), time.slept) == (7, [0.1, 0.2, 0.4, 0.8, 1.6, 2.0])


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (grant(granted=False, reason="w is already claimed by wrk_2"), "w is already claimed by wrk_2"),
        (grant(granted=False), "another attempt holds it"),
        (grant(nonce="another"), "gave no permission to act"),
        (grant(OTHER), "sealed for 'pool:gates'"),
        (grant(COMMANDS), "carries no seal of its owner's"),
        (grant(keys=Keys(master=b"o" * 32)), "carries no seal of its owner's"),
        (KEYS.pack(LABEL, b"yes"), "carries no seal of its owner's"),
        (b"", "carries no seal of its owner's"),
    ],
)
async def test_no_other_answer_is_a_permission(answer: bytes, says: str) -> None:
    with pytest.raises(ConflictError) as caught:
        await claimed(answer)
    assert says in caught.value.message
    assert caught.value.details["retryable"] is False


def test_a_permission_ends_by_the_owners_clock_and_by_the_workers_own() -> None:
    time = Time()
    permission = Permission(NOW + 5_000, time.s)
    permission.check(time)
    for ms, seconds in ((NOW + 5_000, time.s), (NOW, time.s + CLAIM_GRANT_S)):
        later = Time()
        later.ms, later.s = ms, seconds
        with pytest.raises(ConflictError, match="ran out before it was used"):
            permission.check(later)
