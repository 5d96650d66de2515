"""A query against a database, read as a stream of Arrow batches through ADBC."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import pyarrow as pa

from .errors import PreparationError

#: Scheme of a URI to the database and the module of its driver.
DRIVERS = {"postgresql": "adbc_driver_postgresql", "postgres": "adbc_driver_postgresql", "sqlite": "adbc_driver_sqlite"}
#: Parameters of a URI that are secret.
SECRET = ("password", "sslpassword")
#: A URI in which no part of a password can stand where a message would show it.
_URI = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+]*)://"
    r"(([^@/?#\s%]|%[0-9A-Fa-f]{2})*@)?"  # user and password
    r"(?P<hosts>([\w.%-]*|\[[0-9A-Fa-f:.]+\])(:\d+)?(,([\w.%-]*|\[[0-9A-Fa-f:.]+\])(:\d+)?)*)"
    r"(?P<path>/[^@?#]*)?(\?[^@#]*)?"
)
_FORMS = "postgresql://user@host:5432/database or sqlite:///folder/file.db"


@dataclass(frozen=True)
class Query:
    """A query whose result is a log. It may change nothing: what it does is never committed.

    Attributes:
        uri: The database: ``postgresql://user@host:5432/database`` or ``sqlite:///folder/file.db``. PostgreSQL takes
            the password from the URI, from ``PGPASSWORD`` or from ``~/.pgpass``. It is never written or shown.
        query: The SQL. Its order of rows decides ties.
    """

    uri: str = field(repr=False)
    query: str

    def __post_init__(self) -> None:
        if not _URI.fullmatch(self.uri):
            raise PreparationError(
                "uri: this is no URI of a database, or letters such as @ / # % in its password are not "
                f"percent-encoded; expected {_FORMS}."
            )
        if self.scheme not in DRIVERS:
            raise PreparationError(f"uri: {self.scheme}:// is not supported; expected {_FORMS}.")
        if not self.query.strip().rstrip(";"):
            raise PreparationError("query: it is empty.")

    @property
    def scheme(self) -> str:
        """The kind of database."""
        return self.uri.partition(":")[0]

    @property
    def name(self) -> str:
        """The database without what is secret: its host and name, or the name of its file."""
        parts = urlsplit(self.uri)
        if self.scheme == "sqlite":
            return f"sqlite:///{Path(parts.path).name}"
        return f"{self.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    @contextmanager
    def open(self) -> Iterator[pa.RecordBatchReader]:
        """Run the query; the rows come as they are read.

        Raises:
            PreparationError: If the driver is not installed, or the database refuses the connection or the query.
        """
        try:
            driver: Any = import_module(f"{DRIVERS[self.scheme]}.dbapi")
        except ModuleNotFoundError as error:
            raise PreparationError(f"Reading from {self.scheme}:// needs: pip install 'e4srec-hf[sql]'") from error
        with self._explained(driver, "cannot be opened"):
            connection = driver.connect(self._driver_uri())
        with connection, connection.cursor() as cursor:
            with self._explained(driver, "refuses the query"):
                cursor.execute(self.query.strip().rstrip("; \n"))
                reader = cursor.fetch_record_batch()
            try:
                yield reader
            except PreparationError as error:
                raise PreparationError(self.without_secrets(str(error))) from None

    def _driver_uri(self) -> str:
        if self.scheme != "sqlite":
            return self.uri
        path = Path(unquote(urlsplit(self.uri).path.removeprefix("/")))
        if not path.is_file():
            raise PreparationError(f"uri: there is no database {path}; sqlite:////folder/file.db is an absolute path.")
        return f"file:{quote(str(path))}?mode=ro"

    @contextmanager
    def _explained(self, driver: Any, what: str) -> Iterator[None]:
        """Raise an error of the driver as one line without secrets, and without the error that has them."""
        try:
            yield
        except driver.Error as error:
            reason = self.without_secrets(" ".join(str(error).partition("\nquery:")[0].split()))
            raise PreparationError(f"{self.name} {what}: {reason}") from None

    def without_secrets(self, text: str) -> str:
        """The text with the name of the database for its URI, and without the passwords in it."""
        parts = urlsplit(self.uri)
        secrets = [parts.password, *(value for key, value in parse_qsl(parts.query) if key in SECRET)]
        secrets += [quote(value, safe="") for value in secrets if value]
        secrets += [unquote(value) for value in secrets if value]
        text = text.replace(self.uri, self.name)
        for secret in sorted(filter(None, set(secrets)), key=len, reverse=True):
            text = text.replace(secret, "***")
        return text
