"""The bus's limits and times, one name each (pure)."""

from typing import Final

INBOX_UNSETTLED_MAX: Final = 2_048
"""Messages of one partition that its owner may hold and has not settled yet."""
INBOX_BYTES_MAX: Final = 32 * 1024 * 1024
"""A full inbox refuses, so that workers stop taking work. Settled messages are purged and do not count."""
WORK_BYTES_MAX: Final = 64 * 1024 * 1024
LINES_BYTES_MAX: Final = 64 * 1024 * 1024
FEED_BYTES_MAX: Final = 64 * 1024 * 1024
TRIGGER_BYTES_MAX: Final = 256 * 1024 * 1024
INBOX_AGE_MAX_S: Final = 24 * 3_600
WORK_AGE_MAX_S: Final = 24 * 3_600
LINES_AGE_MAX_S: Final = 3_600
FEED_AGE_MAX_S: Final = 3_600
TRIGGER_AGE_MAX_S: Final = 7 * 86_400
"""As long as the answer to a trigger's create is kept, so that a trigger that comes again meets the same run."""
TRIGGER_DUPLICATES_S: Final = 120

TELLS_MAX: Final = 1_024
"""Messages that one process has on their way to inboxes and whose ack is still to come."""
TELL_TIMEOUT_S: Final = 5.0
TRIGGER_TIMEOUT_S: Final = 10.0
REQUEST_TIMEOUT_S: Final = 5.0
HANDLED_AT_ONCE_MAX: Final = 64
"""Trigger events, or batches of lines, that one process handles at the same time."""
REDELIVER_AFTER_S: Final = 2.0
"""How soon a message comes again whose handling raised."""
ACK_WAIT_S: Final = 15.0
"""How soon a message comes again whose handler said nothing at all: it died. A repeat of one that is slow is harmless."""
NOBODY_GRACE_S: Final = (0.002, 0.01, 0.04)
"""Pauses before a request that found nobody is sent again: a subscription just made is not known everywhere at once."""
FLUSH_TIMEOUT_S: Final = 5
UNSENT_BYTES_MAX: Final = 64 * 1024 * 1024
"""What may wait to be written to a server that takes nothing; beyond it what is published without waiting is dropped."""
