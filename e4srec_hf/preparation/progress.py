"""A progress bar for a long SQL statement."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
from tqdm.auto import tqdm

#: Seconds between two updates.
INTERVAL = 0.2


@contextmanager
def sql_progress(connection: duckdb.DuckDBPyConnection, name: str) -> Iterator[None]:
    """Show the progress of the statements in the block, as DuckDB estimates it. Without a terminal nothing is shown."""
    with tqdm(desc=name, total=100, unit="%", disable=None, leave=False) as bar:
        done = threading.Event()

        def watch() -> None:
            while not done.wait(INTERVAL):
                bar.update(max(min(connection.query_progress(), 100) - bar.n, 0))

        if bar.disable:
            yield
            return
        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
