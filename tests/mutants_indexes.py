"""Mistakes planted in what makes an index that stays: its first scan, its files, the slot that tells it of changes, and
what of files is not read again.

(name, file, old text, new text, tests): see ``mutants.Mutant``.
"""

from __future__ import annotations

from typing import Final

from mutants_durable import Planted

WHOLE: Final = "tests/agent/test_wholescan.py"
GROUPS: Final = "tests/agent/test_rescan_row_groups.py"
ENDED: Final = "tests/letters/test_ended.py"
TOPIC_CHECK: Final = "tests/topic/test_topic_check.py"
SELF_CHECK: Final = "tests/index/test_self_check.py"
CRASHES: Final = "tests/index/test_crashes.py"
VISIBILITY: Final = "tests/connectors/test_postgresql_visibility.py"
KILLED_FILES: Final = "tests/agent/test_rescan_killed.py"

WHOLE_SCANS: Final[tuple[Planted, ...]] = (
    (
        "whole scan: finished shards are read again",
        "edge_agent/wholescan.py",
        "kept.identity == self._identity and kept.done else None",
        "False else None",
        (f"{WHOLE}::test_rows_that_moved_to_a_finished_shard_and_back_are_there_once",),
    ),
    (
        "whole scan: what changed meanwhile is not waited for",
        "edge_agent/warm.py",
        "doubt = (INTERRUPTED, DOUBT) if built.resumed and self._following.proves else None",
        "doubt = None",
        (f"{WHOLE}::test_until_changes_are_taken_over_nothing_is_answered_from_it",),
    ),
    (
        "whole scan: an index in doubt is used if it is young",
        "edge_agent/warm.py",
        "as_it_is = not unfinished and not due",
        "as_it_is = not due",
        (f"{WHOLE}::test_until_changes_are_taken_over_nothing_is_answered_from_it",),
    ),
    (
        "whole scan: another index goes on with it",
        "edge_agent/wholescan.py",
        "kept.identity == self._identity and kept.done",
        "kept.done",
        (f"{WHOLE}::test_another_index_does_not_go_on_with_it",),
    ),
    (
        "whole scan: a rewritten table is gone on with",
        "edge_agent/connectors/postgresql/shards.py",
        'if any(memento["files"] != files for memento in mementos):',
        "if False:",
        (f"{WHOLE}::test_what_changes_do_not_tell_is_scanned_anew_and_said",),
    ),
    (
        "whole scan: runs go with an install that came to nothing",
        "edge_agent/index/installing.py",
        "is_scanned = one.run_path.parent == shelf.scan_folder",
        "is_scanned = False",
        (f"{WHOLE}::test_an_install_that_came_to_nothing_loses_no_shard",),
    ),
    (
        "whole scan: the version of a shard proves nothing",
        "edge_agent/resumption.py",
        "if self._lasts is Lasts.VERSIONED:",
        "if False:",
        (f"{KILLED_FILES}::test_a_shard_whose_file_was_written_unseen_is_read_again",),
    ),
    (
        "whole scan: a cancelled sweep leaves its slot",
        "edge_agent/warm.py",
        "if not self._whole.left(error) and mark_of(kept) is not None:",
        "if False:",
        (f"{WHOLE}::test_a_sweep_that_rests_is_gone_on_with_and_one_that_is_cancelled_leaves_no_slot",),
    ),
)

ROW_GROUPS: Final[tuple[Planted, ...]] = (
    (
        "row groups: the footer is believed",
        "edge_agent/connectors/files/fingerprint.py",
        "            digest.update(block)\n",
        "",
        (f"{GROUPS}::test_only_groups_of_other_bytes_are_read",),
    ),
    (
        "row groups: how the bytes are read does not count",
        "edge_agent/connectors/files/fingerprint.py",
        "hashlib.blake2b(self._types, digest_size=16)\n        _say(digest, self._about, found.num_rows)",
        "hashlib.blake2b(digest_size=16)",
        (f"{GROUPS}::test_how_bytes_are_read_counts",),
    ),
    (
        "row groups: one run stands for two groups of the same bytes",
        "edge_agent/connectors/files/recut.py",
        "        candidates[prints[at]].remove(found)\n",
        "",
        (f"{GROUPS}::test_duplicates_over_groups_come_and_go",),
    ),
    (
        "row groups: a piece is found by its first group",
        "edge_agent/connectors/files/recut.py",
        "return list(prints[at : at + len(content)]) == content",
        "return at + len(content) <= len(prints)",
        (f"{GROUPS}::test_a_piece_of_several_groups_is_found_as_a_whole",),
    ),
    (
        "row groups: what was read of a file that was just written proves something",
        "edge_agent/connectors/files/scan.py",
        '    if not shard.version:\n        return ""\n',
        "",
        (f"{GROUPS}::test_a_file_that_was_just_written_is_found_again_and_proves_nothing",),
    ),
    (
        "row groups: the self-check cuts another shard than the index",
        "edge_agent/connectors/files/shards.py",
        "sorted(shards, key=lambda shard: shard.number)",
        "self.shards",
        (f"{GROUPS}::test_a_damaged_run_of_a_file_that_was_cut_again_is_replaced",),
    ),
)

KEPT: Final[tuple[Planted, ...]] = (
    (
        "kept index: letters that ended change nothing",
        "edge_agent/warm.py",
        "due = self._ended.due(letters)",
        "due: frozenset[str] = frozenset()",
        (f"{ENDED}::test_replay_after_the_cause_is_fixed_clears_the_letters_and_the_verdict",),
    ),
    (
        "kept index: an index with newer rows is at its old position",
        "edge_agent/letters/ended.py",
        "replace(reached.position, point=False)",
        "reached.position",
        (f"{ENDED}::test_an_index_that_nobody_tells_changes_is_of_no_one_position_afterwards",),
    ),
    (
        "kept index: a row that is bad gets no letter again",
        "edge_agent/letters/ended.py",
        "        kept.done(locators)\n",
        "",
        (f"{ENDED}::test_a_letter_that_is_lost_while_its_row_is_bad_comes_back",),
    ),
    (
        "topic check: what differs is lost at once",
        "edge_agent/untold.py",
        "proven is not None and proven >= held.at + CLOCKS_S",
        "True",
        (f"{TOPIC_CHECK}::test_a_topic_that_is_late_is_no_fault_however_late",),
    ),
    (
        "topic check: clocks are one",
        "edge_agent/untold.py",
        "held.at + CLOCKS_S",
        "held.at",
        (f"{TOPIC_CHECK}::test_proof_has_to_be_past_the_reading_by_what_clocks_differ",),
    ),
    (
        "topic check: what was told meanwhile is lost",
        "edge_agent/untold.py",
        "            self._now = keys\n            self._take(keys)\n",
        "            pass\n",
        (f"{TOPIC_CHECK}::test_a_row_that_comes_back_is_no_fault_while_its_last_change_is_late",),
    ),
    (
        "topic check: another index is judged by what was seen before",
        "edge_agent/untold.py",
        "held.built_at != built_at or held.at > now",
        "held.at > now",
        (f"{TOPIC_CHECK}::test_an_index_that_was_scanned_meanwhile_is_not_judged_by_what_was_seen_before",),
    ),
    (
        "self-check: a newer row is overwritten by the one that was read before",
        "edge_agent/checking.py",
        "            keys = {key: keys[key] for key in odd}\n",
        "            keys = {}\n",
        (f"{SELF_CHECK}::test_a_row_that_changes_while_it_is_repaired_is_right_afterwards",),
    ),
    (
        "self-check: dead rows are faults",
        "edge_agent/checking.py",
        "return odd - (_dead(read) & {row.key for row in dead_rows(view)} if read.dead else set())",
        "return odd",
        (f"{SELF_CHECK}::test_a_row_that_was_spoilt_unseen_is_found_once",),
    ),
)

SHELVES: Final[tuple[Planted, ...]] = (
    (
        "shelf: runs are named before they are on the disk",
        "edge_agent/index/shelf.py",
        "                for held in fresh:\n                    self.disk.sync(held.file)\n",
        "",
        (f"{CRASHES}::test_without_power_at_every_step_it_is_the_old_index_or_the_new_one",),
    ),
    (
        "shelf: old files go before the new manifest lasts",
        "edge_agent/index/shelf.py",
        "            self.disk.sync_folder()  # only after this can no crash bring the old manifest back\n",
        "",
        (f"{CRASHES}::test_without_power_at_every_step_it_is_the_old_index_or_the_new_one",),
    ),
    (
        "shelf: old files go before the new manifest is there",
        "edge_agent/index/shelf.py",
        "                manifest.store(self.disk, state)\n",
        "                for left in sorted(old - state.files):\n"
        "                    self.disk.remove(left)\n"
        "                old = set()\n"
        "                manifest.store(self.disk, state)\n",
        (f"{CRASHES}::test_without_power_at_every_step_it_is_the_old_index_or_the_new_one",),
    ),
)

SLOTS: Final[tuple[Planted, ...]] = (
    (
        "slot: the source may forget what the index does not have yet",
        "edge_agent/refresh.py",
        "                    moved += self._take_over(batch, found, as_of)\n",
        "                    if batch.mark is not None:\n"
        "                        telling.submit(self._source.acknowledge, batch.mark).result()\n"
        "                    moved += self._take_over(batch, found, as_of)\n",
        ("tests/agent/test_warm.py::test_an_agent_that_ends_before_it_acknowledges_is_told_again",),
    ),
    (
        "slot: the first scan does not wait for what the slot does not tell",
        "edge_agent/connectors/postgresql/changes.py",
        "                slot.await_older(session)\n",
        "",
        (f"{VISIBILITY}::test_a_transaction_that_is_over_when_the_slot_begins_but_not_seen_yet_is_scanned",),
    ),
    (
        "slot: keys are read before their transaction is seen",
        "edge_agent/connectors/postgresql/changes.py",
        "        slot.await_visible(session, np.concatenate([np.zeros(0, np.uint32), *xids]))\n",
        "",
        (f"{VISIBILITY}::test_a_change_that_is_logged_but_not_seen_is_waited_for",),
    ),
)

INDEXES: Final = (*WHOLE_SCANS, *ROW_GROUPS, *KEPT, *SHELVES, *SLOTS)
