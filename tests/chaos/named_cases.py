"""The named cases F-01 to F-26: which tests keep each, and which mutant these must find.

A test is named by its file and function, as `path::function`. `mutant` names an entry of
`tests.chaos.mutants.MUTANTS`, under which the first of the tests must fail; where it is empty,
`why_none` says why none is applied, and what it would be.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Case:
    """One way in which systems like this one have failed."""

    what: str
    tests: tuple[str, ...]
    mutant: str = ""
    why_none: str = ""


_CONTRACT = "tests/contract/test_operation_store.py"
_SQLITE, _OUTAGES = "tests/contract/test_sqlite_store.py", "tests/contract/test_sqlite_outages.py"
_POSTGRES = "tests/contract/test_postgres_store.py"
_WATCH, _PITFALLS = (
    "tests/integration/test_operations_watch.py",
    "tests/integration/test_grpc_pitfalls.py",
)
_SERVICE, _RECOVERY = (
    "tests/integration/test_operations_service.py",
    "tests/integration/test_run_recovery.py",
)
_INTERRUPTIONS, _WORKERS = "tests/e2e/test_interruptions.py", "tests/e2e/test_workers.py"
_FAILPOINTS, _HERE = "tests/chaos/test_failpoints.py", "tests/chaos/test_watch_cases.py"

IN_CHILDREN = "the code runs in processes of its own, which a patch does not reach: "

CASES = {
    "F-01": Case(
        "progress or a bookmark is ahead of events",
        (f"{_HERE}::test_no_message_says_more_than_it_brings",),
        mutant="bookmark_is_ahead",
    ),
    "F-02": Case(
        "time travel after a reconnect to a restarted server",
        (
            f"{_WATCH}::test_a_drain_tells_open_watches_where_to_go_on",
            f"{_WATCH}::test_a_watch_goes_on_over_a_restart_of_the_server",
        ),
        mutant="token_is_behind",
    ),
    "F-03": Case(
        "a starved watcher loses events",
        (f"{_HERE}::test_a_starved_watcher_gets_everything",),
        mutant="page_skips_its_edge",
    ),
    "F-04": Case(
        "compaction while a watcher sits on the edge",
        (
            f"{_SQLITE}::test_a_reader_on_the_edge_of_compaction_is_told_and_skips_nothing",
            f"{_POSTGRES}::test_compaction_at_one_replica_moves_the_log_of_all",
        ),
        mutant="compacted_log_reads_on",
    ),
    "F-05": Case(
        "a token from the future: a backup was restored",
        (
            f"{_WATCH}::test_a_token_of_a_registry_that_went_back_in_time_is_refused",
            f"{_OUTAGES}::test_a_backup_is_made_while_it_is_written_and_can_be_restored",
        ),
        mutant="token_is_not_checked",
    ),
    "F-06": Case(
        "a cold watcher reads more than a page while others write",
        (f"{_WATCH}::test_a_cold_reader_gets_every_page_while_writers_run",),
        mutant="page_skips_its_edge",
    ),
    "F-07": Case(
        "the client is gone in mid-infer, and the result comes late",
        ("tests/integration/test_model_service.py::test_a_caller_that_goes_away_stops_the_work",),
        mutant="prediction_goes_on_alone",
    ),
    "F-08": Case(
        "submit: the answer is lost, and it is retried",
        (
            f"{_SERVICE}::test_eight_callers_with_one_request_id_make_one_operation",
            f"{_PITFALLS}::test_a_submission_cut_off_at_its_deadline_is_made_once",
            f"{_FAILPOINTS}::test_a_failure_there_loses_and_doubles_nothing",
        ),
        mutant="request_is_forgotten",
    ),
    "F-09": Case(
        "acquire: the answer is lost",
        (f"{_OUTAGES}::test_an_answer_that_is_lost_is_given_again",),
        mutant="claim_is_forgotten",
    ),
    "F-10": Case(
        "a zombie writes a checkpoint and a result after SIGSTOP",
        (
            f"{_CONTRACT}::test_with_attempts_left_another_worker_takes_over",
            f"{_WORKERS}::test_a_worker_that_slept_past_its_lease_spoils_nothing",
            f"{_RECOVERY}::test_a_late_worker_can_spoil_nothing",
        ),
        mutant="fence_ignores_epoch",
    ),
    "F-11": Case(
        "the host reboots with runs in RUNNING",
        (
            f"{_CONTRACT}::test_a_restart_gives_live_leases_their_full_time",
            "tests/chaos/test_chaos.py::test_a_storm_on_sqlite",
        ),
        mutant="nothing_is_overdue",
    ),
    "F-12": Case(
        "a child is alive and stuck",
        (f"{_INTERRUPTIONS}::test_a_hung_worker_is_ended_as_stalled",),
        why_none=f"{IN_CHILDREN}no stall timeout",
    ),
    "F-13": Case(
        "a child that holds its interpreter costs no lease",
        (f"{_WORKERS}::test_a_process_that_stands_still_costs_no_lease",),
        why_none=f"{IN_CHILDREN}renewals sent by the child",
    ),
    "F-14": Case(
        "cancel races with complete, 10,000 times",
        (f"{_HERE}::test_cancel_races_with_complete_10_000_times",),
        mutant="terminal_state_reopens_by_cancel",
    ),
    "F-15": Case(
        "cancel of a dead worker",
        (f"{_CONTRACT}::test_cancel_of_a_dead_worker_ends_with_its_lease",),
        mutant="cancelled_one_is_queued_again",
    ),
    "F-16": Case(
        "a drain with 500 watches",
        (f"{_PITFALLS}::test_a_drain_of_500_watches_loses_nothing",),
        mutant="token_is_ahead",
    ),
    "F-17": Case(
        "a slow reader: bounded memory, then SLOW_CONSUMER",
        (
            f"{_WATCH}::test_a_reader_that_stops_reading_is_ended_and_can_resume",
            f"{_PITFALLS}::test_readers_that_stand_still_cost_little_memory",
        ),
        mutant="reader_is_waited_for_ever",
    ),
    "F-18": Case(
        "a kill between the file of a checkpoint and its commit, and between commit and answer",
        (
            f"{_OUTAGES}::test_an_answer_that_is_lost_is_given_again",
            f"{_RECOVERY}::test_a_kill_between_the_file_and_its_commit_loses_only_that_checkpoint",
            f"{_FAILPOINTS}::test_a_failure_there_loses_and_doubles_nothing",
        ),
        mutant="checkpoint_is_forgotten",
    ),
    "F-19": Case(
        "a checkpoint is changed or cut off",
        (
            "tests/unit/sources/test_checkpoints.py::test_damage_is_found",
            f"{_RECOVERY}::test_a_damaged_checkpoint_is_said_and_the_one_before_is_used",
        ),
        mutant="checkpoint_is_not_checked",
    ),
    "F-20": Case(
        "a second server on the same folder",
        (
            f"{_SQLITE}::test_a_second_store_on_the_same_folder_is_refused",
            f"{_SERVICE}::test_a_second_server_on_the_same_folder_does_not_start",
        ),
        mutant="folder_is_not_locked",
    ),
    "F-21": Case(
        "the tokens of two registries are swapped",
        (
            "tests/unit/operations/test_tokens.py::test_a_resume_token_is_refused_where_it_does_not_belong",
            f"{_WATCH}::test_resume_tokens_that_lead_nowhere_are_told_apart",
        ),
        mutant="token_is_not_checked",
    ),
    "F-22": Case(
        "a wake-up is lost: NOTIFY is dropped",
        (f"{_POSTGRES}::test_a_change_is_seen_elsewhere_though_its_notification_is_lost",),
        mutant="nobody_looks_by_himself",
    ),
    "F-23": Case(
        "commits out of order on PostgreSQL",
        (f"{_POSTGRES}::test_revisions_are_in_the_order_of_commit_for_every_reader",),
        mutant="registry_row_is_not_locked",
    ),
    "F-24": Case(
        "details beyond 8 KiB",
        ("tests/integration/test_rpc.py::test_the_largest_error_arrives_every_time",),
        mutant="details_have_no_limit",
    ),
    "F-25": Case(
        "http_proxy is set",
        (
            "tests/integration/test_rpc.py::test_a_proxy_in_the_environment_does_not_stand_before_loopback",
            "tests/unit/rpc/test_channel.py::test_no_proxy_is_asked_for_loopback",
        ),
        mutant="proxy_is_asked",
    ),
    "F-26": Case(
        "a fork in a plug-in",
        ("tests/unit/backtest_service/test_link.py::test_a_fork_is_refused_with_a_clear_error",),
        why_none=f"{IN_CHILDREN}no audit hook",
    ),
}
