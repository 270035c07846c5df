"""How loaded the server is: active backends other than paritree's own, and how far replicas are behind."""

from __future__ import annotations

from typing import Final

from edge_agent.connectors.postgresql.session import Session
from paritree.core.errors import ConfigError

_LOAD: Final = """
SELECT pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE'),
       (SELECT max(EXTRACT(EPOCH FROM replay_lag)) FROM pg_catalog.pg_stat_replication)::float8,
       CASE WHEN pg_catalog.pg_is_in_recovery()
                 AND pg_catalog.pg_last_wal_receive_lsn() IS DISTINCT FROM pg_catalog.pg_last_wal_replay_lsn()
            THEN EXTRACT(EPOCH FROM pg_catalog.now() - COALESCE(pg_catalog.pg_last_xact_replay_timestamp(),
                                                                pg_catalog.pg_postmaster_start_time())) END::float8,
       (SELECT count(*) FROM pg_catalog.pg_stat_activity
         WHERE state = 'active' AND backend_type = 'client backend' AND pid <> pg_catalog.pg_backend_pid()
           AND application_name <> pg_catalog.current_setting('application_name'))
"""


def reason(session: Session, replica_lag_max_s: float | None, backends_active_max: int | None) -> str:
    """Why to wait, "" if there is no reason. The lag is that of the slowest replica, on a replica its own
    (since its start where it has not replayed a transaction yet).

    Raises ConfigError where the role cannot see it: the views show nothing then, which would look like no load.
    """
    row = session.execute(_LOAD, doing="asking for the server's load").fetchone()
    sees, behind, own, active = row if row else (False, None, None, 0)
    if not sees:
        role = '"' + session.role.replace('"', '""') + '"'
        raise ConfigError(
            f"postgresql: role {session.role} cannot see replication and other sessions",
            next_step=f"GRANT pg_read_all_stats TO {role}, or remove replica_lag_max_s and backends_active_max",
        )
    lag_s = max(behind or 0.0, own or 0.0)
    if replica_lag_max_s is not None and lag_s > replica_lag_max_s:
        return f"replicas are {lag_s:.1f} s behind, more than {replica_lag_max_s:g} s"
    if backends_active_max is not None and active > backends_active_max:
        return f"{active} backends are active, more than {backends_active_max}"
    return ""
