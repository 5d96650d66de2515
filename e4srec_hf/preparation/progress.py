"""A bar for an SQL statement that takes long."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
from tqdm.auto import tqdm

#: Seconds between two looks.
INTERVAL = 0.2


@contextmanager
def bar_of(connection: duckdb.DuckDBPyConnection, name: str) -> Iterator[None]:
    """Show how far the statements of the block are, as DuckDB estimates it; nothing where no terminal is there."""
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
