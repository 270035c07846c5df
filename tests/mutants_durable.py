"""Mistakes planted in what makes sweeps durable: checkpoints, the fence, scans that go on.

(name, file, old text, new text, tests): see ``mutants.Mutant``.
"""

from __future__ import annotations

from typing import Final

DURABLE_TESTS: Final = "tests/e2e/test_durable_sweep.py"
KILLED: Final = f"{DURABLE_TESTS}::test_killed_at_any_write_a_sweep_goes_on_without_asking_again"
ASKING: Final = "tests/coordinator/test_asking.py"
JOURNAL: Final = "tests/coordinator/test_asking_journal.py"
STORE: Final = "tests/coordinator/test_store.py"
DURABLE_STORE: Final = "tests/coordinator/test_store_durable.py"
KEEPING: Final = "tests/coordinator/test_keeping.py"
FENCES: Final = "tests/agent/test_fences.py"
RESUMPTION: Final = "tests/agent/test_resumption.py"
POSTGRESQL: Final = "tests/connectors/test_postgresql_resumption.py"


Planted = tuple[str, str, str, str, tuple[str, ...]]

CHECKPOINTS: Final[tuple[Planted, ...]] = (
    (
        "checkpoint: rounds are not stored",
        "coordinator/sweep.py",
        "            await self._commit()\n            raise\n        await self._commit()\n",
        "            await self._commit()\n            raise\n",
        (KILLED,),
    ),
    (
        "checkpoint: a lost region is not stored",
        "coordinator/asking.py",
        "            journal.note_lost(region, body, lost.message, failed=lost.failed)\n",
        "",
        (f"{JOURNAL}::test_a_lost_region_is_lost_again_for_the_same_reason",),
    ),
    (
        "checkpoint: what is stored is asked again",
        "coordinator/journal.py",
        "return answer if answer.lost is not None else [_decoded(part) for part in answer.parts]",
        "return None",
        (KILLED,),
    ),
    (
        "checkpoint: answers to other questions are believed",
        "coordinator/journal.py",
        "if answer.request != codec.fingerprint(body):",
        "if False:",
        (f"{JOURNAL}::test_other_questions_than_those_answered_are_noticed",),
    ),
    (
        "checkpoint: half a round is stored",
        "coordinator/store/answers.py",
        "        with self._writing() as connection:\n            own = sa.update(sweeps)",
        "        for answer in round_answers:\n"
        "            with self._writing() as connection:\n"
        "                connection.execute(sa.insert(answers), list(_rows(sweep_id, answer)))\n"
        "        round_answers = ()\n"
        "        with self._writing() as connection:\n            own = sa.update(sweeps)",
        (f"{DURABLE_STORE}::test_a_round_is_kept_whole_or_not_at_all",),
    ),
    (
        "checkpoint: an ended sweep takes answers",
        "coordinator/store/answers.py",
        "sweeps.c.id == sweep_id, sweeps.c.state.in_(OPEN))\n            if connection.execute(own.values(checkpoint",
        "sweeps.c.id == sweep_id)\n            if connection.execute(own.values(checkpoint",
        (f"{DURABLE_STORE}::test_a_sweep_that_has_ended_takes_no_answers",),
    ),
    (
        "checkpoint: answers outlive their sweep",
        "coordinator/store/sweeps.py",
        "        connection.execute(sa.delete(answers).where(answers.c.sweep_id == sweep_id))\n",
        "",
        (f"{DURABLE_STORE}::test_answers_come_back_as_they_were_until_the_sweep_ends",),
    ),
    (
        "checkpoint: digests of a silent region are stored",
        "coordinator/journal.py",
        'part.disclosure == "nothing"',
        "False",
        (f"{JOURNAL}::test_nothing_is_stored_of_a_region_that_discloses_nothing",),
    ),
    (
        "checkpoint: clear keys are stored",
        "coordinator/journal.py",
        "if self._keep is None or isinstance(body, End | AskReveal):",
        "if self._keep is None or isinstance(body, End):",
        (f"{JOURNAL}::test_ends_and_clear_keys_are_not_stored",),
    ),
    (
        "checkpoint: a full journal leaves gaps",
        "coordinator/journal.py",
        "        self._keep = None\n        self._round = []\n",
        "        self._bytes_left = 1 << 40\n",
        (f"{JOURNAL}::test_a_journal_that_is_full_keeps_a_beginning_without_gaps",),
    ),
    (
        "checkpoint: time stands still while answers are given again",
        "coordinator/journal.py",
        "self._now_s = max(self._now_s, answer.at_s)",
        "self._now_s = self._now_s",
        (f"{JOURNAL}::test_what_was_answered_is_given_again_and_nobody_is_asked",),
    ),
    (
        "restart: open sweeps are left lying",
        "coordinator/store/sweeps.py",
        "open_ones = sa.select(sweeps).where(sweeps.c.state.in_(OPEN), sweeps.c.paused_by.is_(None))",
        "open_ones = sa.select(sweeps).where(sweeps.c.state == SweepState.QUEUED, sweeps.c.paused_by.is_(None))",
        (f"{STORE}::test_a_restart_finds_what_was_open_and_disconnects_everybody",),
    ),
    (
        "restart: paused sweeps go on by themselves",
        "coordinator/store/sweeps.py",
        "open_ones = sa.select(sweeps).where(sweeps.c.state.in_(OPEN), sweeps.c.paused_by.is_(None))",
        "open_ones = sa.select(sweeps).where(sweeps.c.state.in_(OPEN))",
        (f"{DURABLE_STORE}::test_paused_a_sweep_keeps_its_answers_and_is_nobodys",),
    ),
    (
        "restart: a cancel is forgotten",
        "coordinator/jobs.py",
        "        if row.cancelled_by is not None:\n            running.halt.ask(_cancelled(row.cancelled_by))\n",
        "",
        (f"{DURABLE_TESTS}::test_a_cancel_survives_the_coordinator_that_took_it",),
    ),
    (
        "pause: the regions forget what they had read",
        "edge_agent/service.py",
        "await self._end(request.sweep_id, keep=body.keep)",
        "await self._end(request.sweep_id, keep=False)",
        (f"{DURABLE_TESTS}::test_paused_a_sweep_rests_over_restarts_and_is_resumed",),
    ),
)

FENCE: Final[tuple[Planted, ...]] = (
    (
        "fence: writes are not checked",
        "coordinator/store/fence.py",
        "    if row is None or row[0] != token:\n        raise Fenced\n",
        "",
        (f"{DURABLE_STORE}::test_a_coordinator_that_was_overtaken_writes_nothing_any_more",),
    ),
    (
        "fence: the token is read without a lock",
        "coordinator/store/fence.py",
        "where(leases.c.id == _ONLY).with_for_update(read=True)",
        "where(leases.c.id == _ONLY)",
        (f"{DURABLE_STORE}::test_a_write_under_way_is_committed_before_the_store_is_taken",),
    ),
    (
        "fence: the token does not grow",
        "coordinator/store/fence.py",
        "token = int(row[0]) + 1",
        "token = int(row[0])",
        (f"{DURABLE_STORE}::test_every_coordinator_has_a_higher_token",),
    ),
    (
        "fence: whoever was overtaken renews all the same",
        "coordinator/store/fence.py",
        "sa.update(leases).where(leases.c.id == _ONLY, leases.c.token == token)",
        "sa.update(leases).where(leases.c.id == _ONLY)",
        (f"{DURABLE_STORE}::test_a_coordinator_that_was_overtaken_writes_nothing_any_more",),
    ),
    (
        "fence: a holder that hangs keeps the store",
        "coordinator/store/lease.py",
        "        if fence.stale(connection, lease_s):\n",
        "        if False:\n",
        (f"{DURABLE_STORE}::test_a_holder_that_hangs_loses_a_postgresql_store",),
    ),
    (
        "fence: the keeper does not mind",
        "coordinator/keeping.py",
        "            except Fenced:\n                raise\n",
        "",
        (f"{KEEPING}::test_whoever_was_overtaken_stops_at_once",),
    ),
    (
        "fence: a store that is away for ever is one's own for ever",
        "coordinator/keeping.py",
        "if self._clock() - renewed_at >= self._lease_s:",
        "if False:",
        (f"{KEEPING}::test_a_store_that_is_away_for_longer_may_be_somebody_elses",),
    ),
    (
        "fence: agents answer everybody",
        "edge_agent/opened.py",
        "return fence >= highest",
        "return True",
        (f"{FENCES}::test_a_lower_token_is_refused_whatever_it_asks",),
    ),
    (
        "fence: agents forget the token with a restart",
        "edge_agent/service.py",
        "                await asyncio.to_thread(sweep.kept.note_fence, fence)\n",
        "                pass\n",
        (f"{FENCES}::test_a_restarted_agent_knows_the_token_still",),
    ),
    (
        "fence: requests carry no token",
        "coordinator/link.py",
        "request = Request(exchange, sweep_id, request_body, timeout_s, self._fence)",
        "request = Request(exchange, sweep_id, request_body, timeout_s)",
        ("tests/coordinator/test_transport.py::test_a_whole_conversation_and_its_bytes",),
    ),
    (
        "fence: a refusal for its sake loses a region only",
        "coordinator/asking.py",
        "                        await self.course.held()\n",
        "                        pass\n",
        (f"{ASKING}::test_agents_that_know_a_newer_coordinator_stop_this_one",),
    ),
    (
        "fence: an agent's word is enough to stop",
        "coordinator/setting.py",
        "            held=partial(self.stored, self.store.prove),\n",
        "            held=partial(self.stored, lambda: (_ for _ in ()).throw(Fenced())),\n",
        (f"{DURABLE_TESTS}::test_an_agent_that_only_says_that_there_is_a_newer_coordinator_ends_nothing",),
    ),
)

GOING_ON: Final[tuple[Planted, ...]] = (
    (
        "resumption: rows that moved behind the scan are not read",
        "edge_agent/connectors/postgresql/shards.py",
        "        return earlier\n\n    def changed_since",
        "        return ()\n\n    def changed_since",
        (f"{POSTGRESQL}::test_rows_that_moved_to_finished_shards_are_found",),
    ),
    (
        "resumption: a rewritten table is taken for the same",
        "edge_agent/connectors/postgresql/shards.py",
        'if any(memento["files"] != files for memento in mementos):',
        "if False:",
        (f"{POSTGRESQL}::test_a_rewritten_table_is_read_anew",),
    ),
    (
        "resumption: identifiers of another history are compared",
        "edge_agent/connectors/postgresql/shards.py",
        "if any(not past.horizon[0] <= low <= high < past.horizon[0] + TRANSACTIONS_MAX for past in earlier):",
        "if False:",
        (f"{POSTGRESQL}::test_identifiers_of_another_history_are_not_compared",),
    ),
    (
        "resumption: a written file is taken for the same",
        "edge_agent/connectors/contract.py",
        "return () if own is not None and all(memento == own for memento in mementos) else None",
        "return () if own is not None else None",
        (f"{RESUMPTION}::test_a_written_file_is_read_anew",),
    ),
    (
        "resumption: damaged runs are used",
        "edge_agent/resumption.py",
        "        run.verify()\n",
        "",
        (f"{RESUMPTION}::test_a_damaged_run_is_read_again_and_no_other",),
    ),
    (
        "resumption: runs that another task has written are used",
        "edge_agent/resumption.py",
        "if (run.rows, run.checksum) != (done.rows, done.checksum):",
        "if False:",
        (f"{RESUMPTION}::test_a_damaged_run_is_read_again_and_no_other",),
    ),
    (
        "resumption: torn records are believed",
        "edge_agent/kept.py",
        "if len(content) != length or hashlib.blake2b(content, digest_size=8).digest() != digest:",
        "if len(content) < length - 30:",
        (f"{RESUMPTION}::test_a_damaged_record_is_as_if_it_had_not_been_written",),
    ),
    (
        "resumption: another scan's progress is used",
        "edge_agent/kept.py",
        "if found is not None and found.identity == identity:",
        "if found is not None:",
        (f"{RESUMPTION}::test_another_scan_does_not_go_on_with_it",),
    ),
    (
        "resumption: finished shards are read again",
        "edge_agent/resumption.py",
        "        if kept is None or not kept.done:\n            return None\n",
        "        if True:\n            return None\n",
        (f"{RESUMPTION}::test_interrupted_after_any_shard_it_reads_the_others_only",),
    ),
    (
        "resumption: a restarted agent has no index of the sweep",
        "edge_agent/service.py",
        "begin = None if kept is None or kept.built is None else begun_with(kept)",
        "begin = None",
        (f"{DURABLE_TESTS}::test_an_agent_that_is_restarted_goes_on_or_begins_anew",),
    ),
    (
        "resumption: a region that lost its index is lost",
        "coordinator/sweep.py",
        "                await self._begin_anew(lost)\n",
        "                self._exclude(lost)\n",
        (f"{DURABLE_TESTS}::test_an_agent_that_is_restarted_goes_on_or_begins_anew",),
    ),
)

DURABLE: Final = (*CHECKPOINTS, *FENCE, *GOING_ON)
