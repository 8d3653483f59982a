"""Prefect's settings as environment variables. They must stand before prefect is imported, in clients too."""

from __future__ import annotations

from pathlib import Path

KEEP_RUNS_DAYS, KEEP_EVENTS_DAYS = 30, 7
"""How long the private server keeps ended flow runs, with logs and artifacts, and events; the ledger keeps all."""

HEARTBEAT_SECONDS = 30  # the least that Prefect takes; who misses four of them is called crashed


def environment(home: Path, api: str) -> dict[str, str]:
    """Prefect's settings for a server or client below `home`; they must be set before prefect is imported.

    `PREFECT_HOME` alone is not enough in 3.7.7: results, memo store and logging config would stay in ``~/.prefect``.
    """
    return {
        "PREFECT_HOME": str(home),
        "PREFECT_PROFILES_PATH": str(home / "profiles.toml"),
        "PREFECT_LOCAL_STORAGE_PATH": str(home / "storage"),
        "PREFECT_MEMO_STORE_PATH": str(home / "memo_store.toml"),
        "PREFECT_LOGGING_SETTINGS_PATH": str(home / "logging.yml"),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{home}/prefect.db",
        "PREFECT_API_URL": api,
        "PREFECT_UI_API_URL": api,
        "PREFECT_SERVER_UI_V2_ENABLED": "false",  # the v2 form of 3.7.7 cannot resubmit after a refused value
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_SERVER_DATABASE_TIMEOUT": "60",  # a busy disk is no reason to refuse a form
        # A slot that was held when the server died must come free again: leases in memory would be lost with it.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "PREFECT_SERVER_CONCURRENCY_MAXIMUM_CONCURRENCY_SLOT_WAIT_SECONDS": "5",
        "PREFECT_CLIENT_MAX_RETRIES": "10",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(KEEP_RUNS_DAYS * 86400),
        "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": f"P{KEEP_EVENTS_DAYS}D",
        **quiet(),
    }


def quiet() -> dict[str, str]:
    """Settings that hold with any server: no telemetry, never a cached or stored result, and the console is ours."""
    return {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
        "PREFECT_TASKS_DEFAULT_NO_CACHE": "true",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # what Prefect says goes to the run's log file
    }
