"""Take out one guard after the other, and see that a test fails that names it.

`python tests/guards.py [WORD ...]`: all guards, or those whose name has one of the words in it. Nothing is changed
here: sources and tests are copied to a temporary folder, each mutant is a copy of that copy. First all the tests run
on the sources as they are, and must pass; then each mutant runs its own, and one of them must fail. A guard whose text
is no longer there, or is there twice, is an error: the guard moved, and this list has to follow it.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path("src/runware_provider")
AT_ONCE = 2
LONGEST = 100.0
"""Seconds that one run of pytest may take."""

WITNESS = "guards_witness"
"""A pytest plugin in each copy: it refuses any other copy of the package, and keeps what no guard holds on loopback."""

WITNESS_TEXT = """
import socket
from ipaddress import ip_address
from pathlib import Path

import pytest

import runware_provider

connect, getaddrinfo = socket.socket.connect, socket.getaddrinfo


def pytest_sessionstart():
    found, wanted = Path(runware_provider.__file__).resolve(), Path(__file__).resolve().parent
    if not found.is_relative_to(wanted):
        raise pytest.UsageError(f"{found} was imported, which is not below {wanted}")


def is_near(host):
    try:
        return host in (None, "", "localhost") or ip_address(host).is_loopback
    except ValueError:
        return False


def connect_near(self, address):
    if self.family in (socket.AF_INET, socket.AF_INET6) and not is_near(address[0]):
        raise OSError(f"{address} is not on this machine")
    return connect(self, address)


def getaddrinfo_near(host, *args, **more):
    if not is_near(host.decode() if isinstance(host, bytes) else host):
        raise socket.gaierror(socket.EAI_NONAME, f"{host} is not on this machine")
    return getaddrinfo(host, *args, **more)


socket.socket.connect, socket.getaddrinfo = connect_near, getaddrinfo_near
"""


@dataclass(frozen=True, slots=True)
class Guard:
    """`edits`: what is taken out of `file`, and what stands there instead. `tests`: those that hold it."""

    name: str
    file: str
    edits: tuple[tuple[str, str], ...]
    tests: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """How a run of pytest ended: its exit code, the tests that failed, what it said."""

    code: int
    failed: tuple[str, ...]
    said: str
    seconds: float


class GuardMoved(Exception):
    """The text of a guard is not in its file exactly once."""


def a_guard(name: str, file: str, old: str, new: str, *tests: str) -> Guard:
    """A guard that is one piece of text."""
    return Guard(name, file, ((old, new),), tests)


REGISTER = "tests/test_generation.py::"
HELD = "tests/test_guards_held.py::"
WEBHOOK = "tests/test_webhook.py::"
CALLS = "tests/conformance/test_calls.py::"
COMMITS = "tests/durable/test_commits.py::"
FETCHING = "tests/artifacts/test_fetching.py::"
KEEPING = "tests/artifacts/test_keeping.py::"
KEEPER = "tests/artifacts/test_keeper_process.py::"
ADDRESSES = "tests/artifacts/test_addresses.py::"
VERSIONS = "tests/projection/test_versions.py::"
RUNWARE = "tests/test_runware.py::"
NODES = "tests/durable/test_many_nodes.py::"
DEATH = "tests/conformance/test_death.py::"
BATCH = "tests/cli/test_batch.py::"
DOORS = "tests/web/test_doors.py::"
THUMBNAILS = "tests/web/test_thumbnails.py::"

MONEY = (
    a_guard(
        "init before dispatch: a task is given after its commit",
        "durable/sqlite.py",
        "        batch.write(self._store)\n        return True\n",
        "        batch.write(self._store)\n"
        "        for assignment in batch.tasks:\n"
        "            self._handout.give(assignment)\n"
        "        batch.tasks.clear()\n"
        "        return True\n",
        COMMITS + "test_nothing_is_seen_before_its_commit",
    ),
    a_guard(
        "init before dispatch: the lease is committed first",
        "processing.py",
        "task_uuid = await stub.record_dispatching(attempt)",
        "task_uuid = (await stub.get_state()).task_uuid",
        HELD + "test_runware_hears_of_a_task_after_its_generation_and_its_lease_are_committed",
    ),
    a_guard(
        "lease: an attempt under way is not granted again",
        "generation.py",
        'if dispatch.attempt == attempt and dispatch.status == "sending":',
        "if attempt < 0:",
        REGISTER + "test_a_lease_is_given_once",
    ),
    a_guard(
        "patience before resend",
        "generation.py",
        "if answer.asked_at >= register.dispatch.since + self.policy.patience:",
        "if answer.asked_at >= register.dispatch.since:",
        REGISTER + "test_an_unknown_outcome_is_sent_again_only_after_patience_and_both_answers",
    ),
    a_guard(
        "resend needs both answers",
        "generation.py",
        'if register.dispatch.status == "unknown" and answer.details is not None and now',
        'if register.dispatch.status == "unknown" and now',
        REGISTER + "test_an_unknown_outcome_is_sent_again_only_after_patience_and_both_answers",
    ),
    a_guard(
        "unknown outcome: a 5xx is no refusal",
        "runware.py",
        "if status < 500 or (status == 503 and _is_runwares(body)):",
        "if status:",
        RUNWARE + "test_a_server_error_proves_nothing",
    ),
    a_guard(
        "unknown outcome: a broken connection is no refusal",
        "runware.py",
        "            return Unknown(_reason(error))\n",
        "            return Refused(network_error(_reason(error), attempts=attempt), retryable=True)\n",
        RUNWARE + "test_a_connection_that_breaks_after_the_request_was_read_proves_nothing",
    ),
    a_guard(
        "conflictTaskUUID is acceptance",
        "runware.py",
        '_CONFLICT = "conflicttaskuuid"',
        '_CONFLICT = "none"',
        RUNWARE + "test_a_conflict_is_acceptance",
    ),
    a_guard(
        "forward-only: what was accepted is not sent again",
        "generation.py",
        'current = dispatch.attempt == attempt and dispatch.status in {"sending", "unknown"}',
        "current = dispatch.attempt == attempt",
        HELD + "test_what_runware_accepted_is_not_sent_again",
    ),
    a_guard(
        "late refusal: of an earlier attempt, it does not count",
        "generation.py",
        'current = dispatch.attempt == attempt and dispatch.status in {"sending", "unknown"}',
        'current = dispatch.status in {"queued", "sending", "unknown"}',
        REGISTER + "test_an_attempt_that_answers_late_still_counts_when_it_was_accepted",
    ),
    a_guard(
        "nothing is sent after its deadline",
        "generation.py",
        "            if now >= self.register.deadline:\n                self._refuse_unsent(turn)\n",
        "            if attempt < 0:\n                self._refuse_unsent(turn)\n",
        HELD + "test_what_its_worker_finds_after_the_deadline_is_not_sent",
    ),
    a_guard(
        "idempotency key: one already kept",
        "durable/sqlite.py",
        "known = batch.keys.get(key) or self._store.idempotent(key)",
        "known = batch.keys.get(key)",
        CALLS + "test_the_same_key_and_input_make_one_generation",
    ),
    a_guard(
        "idempotency key: another input is a conflict",
        "durable/admission.py",
        "if birth.idempotency is not None and kept[1] != birth.idempotency[1]:",
        "if birth.idempotency is None:",
        CALLS + "test_a_key_with_another_input_is_a_conflict",
    ),
    a_guard(
        "budget",
        "durable/admission.py",
        "if birth.daily_budget_micros is not None and spent + wanted > birth.daily_budget_micros:",
        "if birth.daily_budget_micros is not None and spent + wanted < 0:",
        HELD + "test_the_budget_refuses_before_money_is_spent",
    ),
    a_guard(
        "budget: an unknown price is not nothing",
        "durable/admission.py",
        "return of_model or highest or UNHEARD_PRICE_MICROS",
        "return of_model or 0",
        HELD + "test_the_budget_refuses_before_money_is_spent",
    ),
    a_guard(
        "one owner of a state",
        "durable/owner.py",
        "fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)",
        HELD + "test_a_state_has_one_owner",
    ),
)

RESULTS = (
    a_guard(
        "dedupe: a result is heard of once",
        "generation.py",
        "        record = self.register.outputs.get(output_id)\n"
        "        if record is None:\n"
        "            if filled(self.register) >=",
        "        record = None\n        if record is None:\n            if filled(self.register) >=",
        REGISTER + "test_a_repeated_delivery_asks_for_nothing",
        WEBHOOK + "test_a_repeated_delivery_changes_nothing",
    ),
    a_guard(
        "dedupe: an unclaimed delivery is kept once",
        "durable/records.py",
        'return sha256(b"%b/%b" % (generation_id.bytes if generation_id else b"", body)).digest()',
        'return __import__("os").urandom(32)',
        "tests/conformance/test_keeping.py::test_a_repeat_is_kept_once",
    ),
    a_guard(
        "forward-only: a stored image is not fetched again",
        "generation.py",
        'elif record.status != "success" and fact.url is not None and',
        "elif fact.url is not None and",
        HELD + "test_a_stored_image_is_not_fetched_again",
    ),
    a_guard(
        "first success wins",
        "generation.py",
        'if record is None or record.status == "success" or self.register.deleted_at is not None:',
        "if record is None or self.register.deleted_at is not None:",
        REGISTER + "test_the_first_success_wins",
    ),
    a_guard(
        "expected-count by imageUUID: images of one task are told apart",
        "generation.py",
        "output_id = self._output_id(fact.image_uuid)\n",
        'output_id = self._output_id("image")\n',
        REGISTER + "test_a_generation_is_complete_when_its_slots_are_filled",
    ),
    a_guard(
        "expected-count by imageUUID: an error without an image fills no slot",
        "reading.py",
        "        if record.image_uuid is not None:\n            number += 1\n    return number\n",
        "        number += 1\n    return number\n",
        HELD + "test_an_error_without_an_image_does_not_stand_for_one",
    ),
    a_guard(
        "reconcile: the alarm asks Runware",
        "generation.py",
        "elif self._awaits_answer():\n            turn.orders.append(Ask(",
        "elif now < register.created_at:\n            turn.orders.append(Ask(",
        REGISTER + "test_a_timeout_needs_an_answer_asked_for_after_the_deadline",
    ),
    a_guard(
        "reconcile: a generation that waits has an alarm",
        "generation.py",
        "        if self._awaits_answer():\n            ask_at = next_ask(",
        "        if now < register.created_at:\n            ask_at = next_ask(",
        "tests/properties/test_any_order.py::test_asking_goes_on_for_a_day_and_then_ends",
    ),
    a_guard(
        "reconcile: asking goes on after the verdict",
        "schedule.py",
        "LATE_ASKS = (timedelta(0), timedelta(hours=1), timedelta(hours=6), timedelta(hours=24))",
        "LATE_ASKS = (timedelta(0),)",
        "tests/properties/test_any_order.py::test_asking_goes_on_for_a_day_and_then_ends",
    ),
    a_guard(
        "timeout needs an answer",
        "generation.py",
        "register.over is None and answer.asked_at >= register.deadline:",
        "register.over is None and now >= register.deadline:",
        REGISTER + "test_a_timeout_needs_an_answer_asked_for_after_the_deadline",
    ),
    a_guard(
        "the verdict waits for what is being stored",
        "generation.py",
        ") and not self._is_trying()",
        ")",
        REGISTER + "test_a_timeout_waits_for_what_is_being_stored",
    ),
    a_guard(
        "unclaimed kept: of an unknown generation",
        "webhook.py",
        "await self._ctx.runtime.keep_unclaimed(generation_id, reason, body, self._ctx.clock())",
        "log.warning(reason)",
        WEBHOOK + "test_a_delivery_for_an_unknown_generation_is_kept_as_unclaimed",
        WEBHOOK + "test_a_delivery_that_cannot_be_recorded_is_kept_as_unclaimed",
    ),
    a_guard(
        "unclaimed kept: of a foreign task",
        "generation.py",
        'turn.orders.append(KeepUnclaimed("foreign_task", json.dumps({"data": foreign}).encode()))',
        "foreign.clear()",
        REGISTER + "test_items_of_another_task_are_unclaimed",
    ),
    a_guard(
        "delete wall: late deliveries",
        "generation.py",
        "        if self.register.deleted_at is None:\n            if delivery.facts",
        "        if delivery is not None:\n            if delivery.facts",
        REGISTER + "test_nothing_comes_back_after_a_delete",
    ),
    a_guard(
        "delete wall: late answers",
        "generation.py",
        "        if register.deleted_at is not None:\n            return self._end(turn)\n        facts =",
        "        facts =",
        REGISTER + "test_nothing_comes_back_after_a_delete",
    ),
    a_guard(
        "delete wall: late images",
        "generation.py",
        'record.status == "success" or self.register.deleted_at is not None:',
        'record.status == "success":',
        REGISTER + "test_nothing_comes_back_after_a_delete",
    ),
    a_guard(
        "delete wall: bytes that nobody keeps are removed",
        "processing.py",
        "            await self._remove(stored.key)\n",
        "",
        HELD + "test_an_image_that_is_stored_after_the_delete_does_not_stay",
    ),
)

KEPT = (
    a_guard(
        "200 before commit: the answer waits for it",
        "connections.py",
        "recorded.add_done_callback(self._recorded)",
        "self._answer(200)",
        WEBHOOK + "test_while_nothing_can_be_committed_runware_is_asked_to_deliver_again",
        WEBHOOK + "test_200_means_that_the_delivery_survives_the_process",
    ),
    a_guard(
        "200 before commit: the answer waits for it in any ASGI application",
        "webhook.py",
        "                await recorded\n",
        "                pass\n",
        WEBHOOK + "test_while_nothing_can_be_committed_runware_is_asked_to_deliver_again",
    ),
    a_guard(
        "200 before commit: callers are told after it",
        "durable/group_commit.py",
        "                await self._thread.run(self._store.commit)\n",
        "                self._thread.run(self._store.commit)\n",
        COMMITS + "test_nothing_is_seen_before_its_commit",
    ),
    a_guard(
        "done and state in one commit",
        "durable/sqlite.py",
        "            if done is not None:\n"
        "                batch.done.append(done.number)\n"
        "            return reply(generation)\n"
        "\n"
        "        return self._commits.submit(job)\n",
        "            return reply(generation)\n"
        "\n"
        "        told = self._commits.submit(job)\n"
        "        if done is not None:\n"
        "            end = lambda batch: batch.done.append(done.number)\n"
        "            told.add_done_callback(lambda _: self._commits.submit(end))\n"
        "        return told\n",
        HELD + "test_a_call_and_the_end_of_its_task_are_one_commit",
    ),
    a_guard(
        "poison isolation: a call that raises fails alone",
        "durable/group_commit.py",
        "            if len(jobs) > 1:\n"
        "                return False\n"
        "            self.failed = self.failed or type(error) is sqlite3.DatabaseError  # a page that is not one\n"
        "            replies = [Refused(unavailable(error) if isinstance(error, sqlite3.Error) else error)]\n",
        "            replies = [Refused(error) for _ in jobs]\n",
        CALLS + "test_a_step_that_raises_harms_none_of_the_hundred_beside_it",
    ),
    a_guard(
        "poison isolation: what raised leaves no trace in memory",
        "durable/sqlite.py",
        "        for key in batch.touched:\n            self._registers.forget(key)\n",
        "",
        CALLS + "test_a_step_that_changed_something_and_raised_leaves_no_trace",
    ),
    a_guard(
        "poison isolation: a task that kills its process is parked",
        "durable/handout.py",
        "if assignment.attempts >= MAX_ATTEMPTS:",
        "if assignment.attempts < 0:",
        "tests/durable/test_bounds.py::test_a_task_that_was_at_the_scene_too_often_is_parked_unseen",
    ),
    a_guard(
        "poison isolation: a start is counted before its task runs",
        "durable/handout.py",
        "                await self._ledger.pick_up(assignment)\n",
        "",
        "tests/durable/test_trouble.py::test_what_earlier_starts_left_is_counted_before_it_runs_even_in_trouble",
    ),
    a_guard(
        "poison isolation: a state without rows fails alone",
        "projection/batches.py",
        "        try:\n            rows.append(rows_of(state))\n        except Exception as error:  # noqa: BLE001",
        "        try:\n"
        "            rows.append(rows_of(state))\n"
        "        except ZeroDivisionError as error:  # noqa: BLE001",
        "tests/projection/test_failures.py::test_a_state_whose_rows_cannot_be_made_fails_alone",
    ),
    a_guard(
        "left-over tasks are given again",
        "durable/sqlite.py",
        "                    self._handout.give(assignment, left_over=True)\n",
        "                    pass\n",
        "tests/conformance/test_tasks.py::test_a_task_survives_the_end_of_its_worker",
    ),
    a_guard(
        "version check: of a generation's row",
        "projection/upserts.py",
        "where=insert.excluded.version >= generations.c.version,",
        "where=true(),",
        VERSIONS + "test_an_older_version_is_success_and_changes_nothing",
    ),
    a_guard(
        "version check: of what belongs to it",
        "projection/upserts.py",
        "rows.select().where(~outdated)",
        "rows.select()",
        HELD + "test_what_a_newer_version_deleted_is_not_written_by_an_older_one",
    ),
    a_guard(
        "version check: a newer state is left alone",
        "durable/sqlite_store.py",
        "if version > SCHEMA_VERSION:",
        "if version < 0:",
        "tests/durable/test_file.py::test_a_newer_state_is_refused_untouched",
    ),
    a_guard(
        "sync: of a commit",
        "durable/sqlite_store.py",
        '"PRAGMA synchronous=FULL"',
        '"PRAGMA synchronous=NORMAL"',
        "tests/durable/test_file.py::test_a_commit_waits_for_the_disk",
    ),
    a_guard(
        "sync: of an image's bytes",
        "artifacts/file_store.py",
        "            os.fsync(file)\n",
        "",
        KEEPING + "test_an_image_is_on_disk_before_it_is_called_stored",
    ),
    a_guard(
        "sync: of an image's name in its folder",
        "artifacts/file_store.py",
        "                self._sync(folder)\n",
        "                pass\n",
        KEEPING + "test_an_image_is_on_disk_before_it_is_called_stored",
    ),
    a_guard(
        "sync: of the folder's own name",
        "artifacts/file_store.py",
        "        self._sync(self._top)\n        self._synced[folder.name] = None\n",
        "        self._synced[folder.name] = None\n",
        KEEPING + "test_an_image_is_on_disk_before_it_is_called_stored",
        KEEPING + "test_a_folder_found_is_synced_once_more",
    ),
    a_guard(
        "truncated check: the image's own end",
        "artifacts/formats.py",
        "            if len(block) < 2:\n                raise reader.truncated()\n",
        "            if len(block) < 2:\n                return\n",
        FETCHING + "test_an_image_that_ends_early_in_a_whole_body_is_truncated",
        "tests/artifacts/test_inspection.py::test_no_beginning_of_an_image_is_an_image",
    ),
    a_guard(
        "truncated check: a closed connection is not the image's fault",
        "artifacts/keeper.py",
        'if framed or not (isinstance(error, ContentRejected) and error.reason == "truncated"):',
        "if error:",
        FETCHING + "test_a_body_cut_short_is_the_networks_fault",
    ),
    a_guard(
        "sync: a failure is told to all who shared it",
        "artifacts/syncs.py",
        "                self._failed, self._error = covered, error\n",
        "                self._synced = covered\n",
        "tests/artifacts/test_syncs.py::test_a_failure_is_told_to_all_who_shared_it",
    ),
    a_guard(
        "sync: one that began before does not count",
        "artifacts/syncs.py",
        "            covered = self._asked\n            try:\n                sync_folder(self._path)\n",
        "            try:\n                sync_folder(self._path)\n                covered = self._asked\n",
        "tests/artifacts/test_syncs.py::test_who_asks_while_one_runs_shares_the_next",
    ),
    a_guard(
        "keeper: it holds its service's lock",
        "artifacts/keeper_process.py",
        "*([self._lock] if self._lock is not None else [])",
        "*([self._lock] if self._lock is None else [])",
        KEEPER + "test_the_folder_is_its_owners_until_both_are_gone",
    ),
    a_guard(
        "keeper: it ends with its service",
        "artifacts/keeper_child.py",
        "        os._exit(0)\n",
        "        os.getpid()\n",
        KEEPER + "test_it_does_not_outlive_a_service_that_was_killed",
    ),
    a_guard(
        "keeper: an image is to blame when it died of it alone",
        "artifacts/keeper_process.py",
        "            async with self._alone:\n",
        "            if self._alone:\n",
        KEEPER + "test_the_image_that_kills_it_is_found_and_harms_no_other",
    ),
    a_guard(
        "never early: a register in memory is not read before its commit",
        "durable/sqlite.py",
        "            entry.committed = False\n",
        "            entry.committed = True\n",
        COMMITS + "test_nobody_reads_what_waits_for_its_commit",
    ),
    a_guard(
        "an alarm that has moved is in the file",
        "durable/sqlite_batch.py",
        "write.flags == entry.flags and write.alarm_at == entry.kept_alarm_ms",
        "True",
        COMMITS + "test_what_moves_neither_alarm_nor_flags_leaves_the_indexes_alone",
    ),
    a_guard(
        "a state is its reader's own",
        "reading.py",
        "item=_copied(record.item),",
        "item=record.item,",
        CALLS + "test_who_changes_what_he_read_changes_nothing_that_is_kept",
    ),
)

NOBODY_IN = (
    a_guard(
        "token check: at the webhook",
        "tokens.py",
        'return generation_id if self.accepts(generation_id, fields.get("token", "")) else None',
        'return generation_id if fields.get("token", "") else None',
        WEBHOOK + "test_without_its_own_token_nothing_is_taken",
    ),
    a_guard(
        "token check: for one generation only",
        "tokens.py",
        "hmac.digest(secret, generation_id.bytes, sha256)",
        'hmac.digest(secret, b"", sha256)',
        "tests/test_tokens.py::test_a_token_opens_its_own_generation_and_no_other",
    ),
    a_guard(
        "token check: no log shows it",
        "webhook.py",
        '        scope["query_string"] = b""\n',
        "",
        WEBHOOK + "test_not_even_a_foreign_servers_access_log_shows_a_token",
    ),
    a_guard(
        "memory: images that were written make way in the page cache",
        "artifacts/file_store.py",
        "            self._written.add(path, spool.size)\n",
        "",
        "tests/artifacts/test_page_cache.py::test_a_folder_of_images_does_not_fill_the_memory",
    ),
    a_guard(
        "size limit: of a delivery",
        "connections.py",
        "        if len(self._body) > self._deliveries.limit:\n",
        "        if not self:\n",
        WEBHOOK + "test_a_body_over_the_limit_is_refused_when_nobody_announced_it",
    ),
    a_guard(
        "size limit: of a delivery to any ASGI application",
        "webhook.py",
        "            if len(pieces) > limit:\n",
        "            if not scope:\n",
        WEBHOOK + "test_a_body_over_the_limit_is_refused_when_nobody_announced_it",
    ),
    a_guard(
        "wait: a delivery's body arrives in time",
        "connections.py",
        "            self._delivery.waits()\n",
        "            pass\n",
        WEBHOOK + "test_a_body_that_does_not_arrive_is_not_waited_for",
    ),
    a_guard(
        "address check: at connect time",
        "artifacts/addresses.py",
        "if not is_public(address):",
        "if address is None:",
        ADDRESSES + "test_a_listed_name_with_a_private_address_is_not_connected_to",
        ADDRESSES + "test_no_socket_is_made_for_a_special_address",
    ),
    a_guard(
        "address check: special ranges that Python calls global",
        "artifacts/addresses.py",
        "return not any(address in net for net in _REFUSED_V4)",
        "return True",
        ADDRESSES + "test_a_special_address_is_not_public",
    ),
    a_guard(
        "address check: an inner one is listed itself",
        "artifacts/addresses.py",
        'raise AddressRefused(f"{address} is not in IMAGE_HOSTS")',
        "return _socket(target)",
        ADDRESSES + "test_a_name_that_moves_between_two_fetches_is_caught",
        ADDRESSES + "test_an_inner_address_must_be_listed_itself",
    ),
    a_guard(
        "host allow list",
        "artifacts/addresses.py",
        'return host == self.host or host.endswith(f".{self.host}")',
        "return True",
        ADDRESSES + "test_another_host_is_not_asked",
    ),
    a_guard(
        "host allow list: a name's end is not its beginning",
        "artifacts/addresses.py",
        'host.endswith(f".{self.host}")',
        "host.endswith(self.host)",
        ADDRESSES + "test_another_host_is_not_asked",
    ),
    a_guard(
        "HTTPS only",
        "artifacts/addresses.py",
        'if parsed.scheme == "http" and not entry.inner:',
        'if parsed.scheme == "ftp":',
        ADDRESSES + "test_another_host_is_not_asked",
    ),
    a_guard(
        "redirects re-checked",
        "artifacts/fetch.py",
        "        return self._hosts.check(target)\n",
        "        return URL(target), True\n",
        FETCHING + "test_a_redirect_off_the_list_is_refused",
    ),
    a_guard(
        "size limit: of an image that comes",
        "artifacts/fetch.py",
        "if received > self._max_bytes:",
        "if received < 0:",
        FETCHING + "test_an_image_at_the_limit_is_kept_and_one_above_is_not",
    ),
    a_guard(
        "size limit: of an image that is announced",
        "artifacts/fetch.py",
        "if announced is not None and announced > self._max_bytes:",
        "if announced is not None and announced < 0:",
        FETCHING + "test_a_length_over_the_limit_is_believed",
    ),
    a_guard(
        "size limit: in pixels",
        "artifacts/inspect.py",
        "if width * height > MAX_PIXELS:",
        "if width * height < 0:",
        FETCHING + "test_a_decompression_bomb_is_known_by_its_header",
    ),
    a_guard(
        "no path from a key",
        "artifacts/store.py",
        "if not _KEY.fullmatch(key):",
        "if not key:",
        "tests/artifacts/test_reading.py::test_a_key_that_is_none_of_ours_is_not_found",
    ),
)

SHARED = (
    a_guard(
        "many nodes: a generation is locked while it changes",
        "durable/postgres_store.py",
        "WHERE id = ANY($1) ORDER BY id FOR UPDATE",
        "WHERE id = ANY($1) ORDER BY id",
        NODES + "test_what_two_nodes_record_of_one_generation_is_all_there",
    ),
    a_guard(
        "many nodes: who counts against a limit counts alone",
        "durable/postgres_creation.py",
        'await connection.execute("SELECT pg_advisory_xact_lock($1)", store.CREATION_LOCK)',
        "pass",
        NODES + "test_limits_hold_over_all_nodes",
    ),
    a_guard(
        "many nodes: a key that another node took is its generation's",
        "durable/postgres_creation.py",
        "    if lost:\n",
        "    if not lost:\n",
        NODES + "test_a_key_that_two_nodes_see_at_once_makes_one_generation",
    ),
    a_guard(
        "many nodes: a dead process's tasks are taken over",
        "durable/postgres_jobs.py",
        "(self._reclaim, seconds / 5), ",
        "",
        DEATH + "test_what_was_acknowledged_survives_kill_9",
    ),
    a_guard(
        "many nodes: a death is counted against what ran",
        "durable/postgres_jobs.py",
        "queue_manager_id = NULL, attempts = attempts + 1, ",
        "queue_manager_id = NULL, ",
        DEATH + "test_a_task_that_kills_its_process_is_parked",
    ),
)

COMMANDS = (
    a_guard(
        "batch: a request that is sent again has its key",
        "cli/batch.py",
        'name = f"{self._journal.batch}-{key}-{attempt}"',
        'name = f"{self._journal.batch}-{key}-{attempt}-{id(line)}"',
        BATCH + "test_what_the_journal_lost_is_not_paid_for_again",
    ),
    a_guard(
        "batch: what a model's name meant is kept",
        "cli/batch.py",
        "await self._journal.note(models={name: air})",
        "pass",
        BATCH + "test_a_csv_with_names_of_models_is_searched_once_a_name_and_for_ever",
    ),
    a_guard(
        "batch: what failed is not bought anew unasked",
        "cli/batch.py",
        'again = entry.status == "failed" and self._retry_failed',
        'again = entry.status == "failed"',
        BATCH + "test_what_fails_is_told_by_its_line_and_bought_anew_only_when_told_to",
    ),
    a_guard(
        "batch: the whole file is right before money is spent",
        "cli/batch_plan.py",
        "    if mistakes:\n        raise BadLines",
        "    if mistakes and not count:\n        raise BadLines",
        BATCH + "test_nothing_is_spent_before_the_whole_file_is_right",
    ),
    a_guard(
        "batch: no file is written over",
        "cli/batch.py",
        "while stem in self._stems:",
        "while not stem:",
        BATCH + "test_files_that_were_there_before_are_left_alone",
    ),
    a_guard(
        "export: other bytes than were stored",
        "cli/client.py",
        "if sha256 is not None and found != sha256:",
        "if found is None:",
        "tests/cli/test_export.py::test_what_the_store_has_damaged_is_told_and_not_exported",
    ),
)

LOOKED_AT = (
    a_guard(
        "gallery: another site's page changes nothing",
        "api/guard.py",
        'return site not in {"same-origin", "none"}',
        "return False",
        DOORS + "test_another_sites_page_may_change_nothing",
    ),
    a_guard(
        "gallery: where a browser says no site, its origin counts",
        "api/guard.py",
        'return origin is not None and urlsplit(origin).netloc != headers.get("host")',
        "return False",
        DOORS + "test_another_sites_page_may_change_nothing",
    ),
    a_guard(
        "gallery: a session is signed",
        "sessions.py",
        'not hmac.compare_digest(self._sign(f"{match[1]}.{match[2]}"), match[3])',
        "len(match[3]) < 43",
        DOORS + "test_a_session_ends_with_its_time_and_with_its_token",
    ),
    a_guard(
        "gallery: a session ends with its token",
        "sessions.py",
        " and self._tokens.has(match[2])",
        "",
        DOORS + "test_a_session_ends_with_its_time_and_with_its_token",
    ),
    a_guard(
        "gallery: signing in leads to no other site",
        "web/paths.py",
        "return wanted if ours and wanted is not None else GRID",
        "return wanted or GRID",
        DOORS + "test_signing_in_leads_to_no_other_site",
    ),
    a_guard(
        "gallery: a form sent twice is paid for once",
        "web/asking.py",
        'idempotency_key=f"form {form.key}"',
        "idempotency_key=None",
        "tests/web/test_forms.py::test_a_form_that_is_sent_twice_is_paid_for_once",
    ),
    a_guard(
        "size limit: thumbnails on the disk",
        "web/thumbnails.py",
        "while self._total > MAX_CACHE_BYTES:",
        "while self._total < 0:",
        THUMBNAILS + "test_the_cache_has_a_limit",
    ),
    a_guard(
        "deleted: no thumbnail stays",
        "web/thumbnails.py",
        "if await self._is_gone(generation_id):\n                        for path in",
        "if generation_id is None:\n                        for path in",
        THUMBNAILS + "test_a_deleted_generation_has_no_thumbnails_left",
    ),
    a_guard(
        "news: who lags behind is told so",
        "durable/watchers.py",
        "if len(self._versions) > FEED_LIMIT:",
        "if len(self._versions) < 0:",
        "tests/conformance/test_news.py::test_who_is_far_too_slow_is_told_to_look_for_himself",
    ),
    a_guard(
        "size limit: event streams",
        "api/events.py",
        "if self._open >= MAX_STREAMS:",
        "if self._open < 0:",
        "tests/api/test_all_events.py::test_streams_have_a_limit",
    ),
    a_guard(
        "size limit: what a search looks at",
        "projection/queries.py",
        "window.order_by(at.desc(), id_.desc()).limit(literal_column(str(WINDOW)))",
        'window.order_by(at.desc(), id_.desc()).limit(literal_column("1000000"))',
        "tests/projection/test_list.py::test_looking_for_what_is_rare_goes_on_page_by_page",
    ),
)

GUARDS = MONEY + RESULTS + KEPT + NOBODY_IN + SHARED + COMMANDS + LOOKED_AT


def main() -> int:
    """Run it, print the table; 1 when a mutant survived or broke, or when the tests fail without one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("words", nargs="*", metavar="WORD", help="only guards with one of these words in their name")
    parser.add_argument("--why", action="store_true", help="also show what each failing test said")
    options = parser.parse_args()
    words = options.words
    guards = [guard for guard in GUARDS if not words or any(word in guard.name for word in words)]
    if not guards:
        parser.error("no guard has such a name")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="guards-") as folder:
        base = Path(folder) / "base"
        copy_checkout(base)
        moved, mutated = [], []
        for guard in guards:
            try:
                mutated.append(mutate(base, guard))
            except GuardMoved as error:
                moved.append(str(error))
        if moved:
            print("\n\n".join(moved))
            return 1
        if not intact(base, guards):
            return 1
        with ThreadPoolExecutor(AT_ONCE) as threads:
            runs = list(threads.map(lambda each: try_mutant(base, *each), zip(guards, mutated, strict=True)))
    held = show(guards, runs)
    if options.why:
        for guard, each in zip(guards, runs, strict=True):
            print(f"\n{guard.name}", *re.findall(r"^E .*", each.said, re.MULTILINE)[:4], sep="\n    ")
    print(f"\n{held} of {len(guards)} guards held, in {time.monotonic() - began:.0f} s")
    return 0 if held == len(guards) else 1


def copy_checkout(base: Path) -> None:
    """What the tests need of this checkout, as it is now."""
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("src", "tests"):
        shutil.copytree(ROOT / name, base / name, ignore=ignored)
    shutil.copy2(ROOT / "pyproject.toml", base)
    (base / f"{WITNESS}.py").write_text(WITNESS_TEXT)


def mutate(base: Path, guard: Guard) -> str:
    """The text of the guard's file without the guard. Raises GuardMoved."""
    text = (base / PACKAGE / guard.file).read_text()
    for old, new in guard.edits:
        if (times := text.count(old)) != 1:
            raise GuardMoved(f"the guard moved: {guard.name!r} is {times} times in {guard.file}:\n{old}")
        text = text.replace(old, new)
    compile(text, guard.file, "exec")
    return text


def intact(base: Path, guards: Sequence[Guard]) -> bool:
    """Whether all the tests pass while nothing is taken out. They also leave compiled sources for the mutants."""
    tests = sorted({test for guard in guards for test in guard.tests})
    with ThreadPoolExecutor(AT_ONCE) as threads:
        runs = list(threads.map(lambda half: run(base, half), (half for half in (tests[::2], tests[1::2]) if half)))
    for each in runs:
        if each.code:
            print(f"the tests fail while every guard is in its place:\n{each.said}")
    return not any(each.code for each in runs)


def try_mutant(base: Path, guard: Guard, text: str) -> Run:
    """Run the guard's tests without it."""
    with tempfile.TemporaryDirectory(dir=base.parent) as folder:
        copy = Path(folder) / "copy"
        shutil.copytree(base, copy)
        file = copy / PACKAGE / guard.file
        file.write_text(text)
        for compiled in (file.parent / "__pycache__").glob(f"{file.stem}.*"):
            compiled.unlink()
        return run(copy, guard.tests, "-x")


def run(copy: Path, tests: Sequence[str], *options: str) -> Run:
    """Run `tests` in `copy`, with the package of that copy."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", WITNESS, "-q", "--tb=short", *options]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(copy / "src"), str(copy)])}
    began = time.monotonic()
    try:
        ended = subprocess.run(
            [*command, "--timeout=30", *tests],
            cwd=copy,
            env=environment,
            capture_output=True,
            text=True,
            timeout=LONGEST,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Run(-1, (), f"not done after {LONGEST:g} s", LONGEST)
    failed = re.findall(r"^FAILED \S+?::(\w+)", ended.stdout, re.MULTILINE)
    return Run(ended.returncode, tuple(failed), ended.stdout + ended.stderr, time.monotonic() - began)


def show(guards: Sequence[Guard], runs: Sequence[Run]) -> int:
    """Print the table, then what went wrong; how many guards are held."""
    rows = [("guard", "taken out of", "test that failed", "s")]
    wrong: list[str] = []
    for guard, each in zip(guards, runs, strict=True):
        # 1: tests ran and some failed. Anything else (nothing collected, not imported) proves nothing.
        if each.code == 1 and each.failed:
            verdict = each.failed[0]
        else:
            verdict = "SURVIVED" if each.code == 0 else f"BROKEN (pytest ended with {each.code})"
            wrong.append(f"\n{guard.name}: {verdict}\n" + "\n".join(each.said.splitlines()[-30:]))
        rows.append((guard.name, guard.file, verdict, f"{each.seconds:.1f}"))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in (rows[0], ("-" * widths[0], "-" * widths[1], "-" * widths[2], "---"), *rows[1:]):
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row[:3], widths, strict=True)), row[3].rjust(4)]))
    for each_wrong in wrong:
        print(each_wrong)
    return len(guards) - len(wrong)


if __name__ == "__main__":
    raise SystemExit(main())
