"""How often the owner host does what it does by time; the test kit and slow machines bring their own numbers."""

from typing import Final

import msgspec

from headrace.vocabulary import LEASE_RENEW_S, LEASE_S, PRESENCE_FORGOTTEN_S, PRESENCE_INTERVAL_S, PRESENCE_LOST_S


class Cadence(msgspec.Struct, frozen=True, kw_only=True):
    """Durations in seconds. `wake_window_s` is how far ahead wake-ups are kept in memory.

    It is longer than `refill_s`, after which the database is asked again for what comes near. A state that nothing
    happens to for `rest_s` to twice that leaves memory. What was answered under a key stays there for `answers_kept_s`; for
    `wary_s` after an append that met a kept one, keys are read before they are decided.
    """

    lease_s: float = LEASE_S
    renew_s: float = LEASE_RENEW_S
    probe_s: float = 1.0
    judge_s: float = 1.0
    lost_s: float = PRESENCE_LOST_S
    forgotten_s: float = PRESENCE_FORGOTTEN_S
    refill_s: float = 20.0
    rest_s: float = 15.0
    wake_window_s: float = 30.0
    drain_s: float = 10.0
    retry_s: float = 1.0
    answers_kept_s: float = 60.0
    wary_s: float = 20.0


QUICK: Final = Cadence()
APPEND_TIMEOUT_S: Final = 15.0
READ_TIMEOUT_S: Final = 15.0
BUS_TIMEOUT_S: Final = 10.0
BEATS_MISSED_MAX: Final = 3
UNHELD_GRACE_S: Final = BEATS_MISSED_MAX * PRESENCE_INTERVAL_S
"""How long, of proven listening, nobody says that they hold a published attempt before it is published again."""
SUSPECT_GRACE_S: Final = 1.0
"""The same for attempts of a new tenure that only read, whose holders were asked to speak at once."""
SUSPECT_WRITE_GRACE_S: Final = 2.0
"""The same for those that may have acted: of these a person may be asked, so they are not given up in a hurry."""
HASTE_S: Final = 5.0
"""How long, after a tenure began, it is probed and judged at HASTE_FACTOR times the pace: many runs wait for that."""
HASTE_FACTOR: Final = 4
