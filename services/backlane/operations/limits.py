"""Every limit of an operation, in one place. The registry refuses or drops what is beyond one."""

LABELS_MAX = 64
"""Labels of one operation."""

LABEL_CHARACTERS_MAX = 128
"""Characters of a label's key, and of its value."""

KINDS_MAX = 64
"""Kinds that one worker, or one filter, may name."""

NAMES_PER_WATCH_MAX = 1_000
"""Operations that one watch may name."""

ATTEMPTS_MAX = 100
"""The most attempts that a client may allow."""

RELEASES_MAX = 100
"""Times that workers may give an operation back; one more counts as an attempt that failed."""

FAILURES_KEPT_MAX = 10
"""Failed attempts that an operation tells of: the newest ones."""

FAILURE_MESSAGE_CHARACTERS_MAX = 512
"""Characters kept of the message of each."""

PRIORITY_MAX = 100
"""The highest priority, and with a minus the lowest."""

TIMEOUT_S_MAX = 30 * 86_400.0
"""The longest queue or attempt timeout: 30 days."""

CHECKPOINTS_KEPT = 2
"""Checkpoints kept of each operation: the newest, and one in case that is damaged."""

CHECKPOINT_URI_CHARACTERS_MAX = 2_048
"""Characters of a checkpoint's URI."""

CHECKPOINT_FORMAT_CHARACTERS_MAX = 64
"""Characters of a checkpoint's format."""

SERIES_PER_OPERATION_MAX = 64
"""Metric series of one operation; points of further ones are dropped, and a note says so."""

PRUNED_PER_CALL_MAX = 10_000
"""Operations that one call removes."""

PAYLOAD_BYTES_MAX = 1 << 20
"""Bytes of a spec, and of a result: each travels in one message with room to spare below 4 MiB."""

CANCEL_REASON_CHARACTERS_MAX = 512
"""Characters of the reason given with a cancel."""

NOTE_CHARACTERS_MAX = 4_096
"""Characters of one note."""

ERROR_MESSAGE_CHARACTERS_MAX = 4_096
"""Characters of an error's message, as a worker reports it."""

POINTS_PER_BATCH_MAX = 10_000
"""Metric points in one batch of telemetry."""

TRADES_PER_BATCH_MAX = 10_000
"""Trades in one batch of telemetry."""

NOTES_PER_BATCH_MAX = 100
"""Notes in one batch of telemetry."""

TRADE_BYTES_MAX = 1_024
"""Bytes of one serialized trade."""

SERIES_CHARACTERS_MAX = 128
"""Characters of the name of a metric series."""

METRIC_POINTS_PER_OPERATION_MAX = 100_000
"""Metric points kept for one operation; later ones are dropped, and a note says so."""

TRADES_PER_OPERATION_MAX = 10_000
"""Trades kept in the log of one operation; the full list is in the result of the run."""

NOTES_PER_OPERATION_MAX = 1_000
"""Notes kept for one operation."""

POINTS_PER_EVENT_MAX = 1_000
"""Metric points in one event: a batch is cut, so that no event outgrows a page of a watch."""

TRADES_PER_EVENT_MAX = 500
"""Trades in one event, for the same reason."""

RENEWALS_PER_CALL_MAX = 256
"""Leases renewed by one call."""
