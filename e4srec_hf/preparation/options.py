"""What can be chosen when a data set is prepared."""

import codecs
import math
import re
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta, timezone
from typing import Any

import duckdb

from .errors import PreparationError
from .source import Source

CHOICES = {
    "repeats": ("keep", "first", "last", "first-row"),
    "ties": ("file", "item", "shuffle"),
    "split": ("leave_one_out", "time", "ratio"),
    "targets": ("last", "first", "all"),
    "time_unit": ("auto", "s", "ms", "us", "ns"),
    "negative_times": ("reject", "keep"),
}


@dataclass(frozen=True)
class PreparationOptions:
    """What is made of raw interactions. All of it is recorded in ``preparation.json``.

    Attributes:
        owner: Whose the sequences are, where a source offers a choice; by default its first.
        min_rating: Interactions with a lower rating are dropped, and those without one are bad records.
        start: The first moment that is kept: ISO 8601, UTC where it does not say; a date alone is its midnight.
        end: The last moment that is kept.
        repeats: Of one user's interactions with one item: ``"keep"`` all, the ``"first"`` or ``"last"`` in time, or
            the ``"first-row"`` in the order of the files, whatever its time.
        user_core: A user with fewer interactions is dropped, an item with fewer than ``item_core`` too, over and over
            until nothing changes.
        item_core: See ``user_core``.
        ties: What comes first among interactions of a user at the same time: what does in the ``"file"``, the
            smaller ``"item"`` id as text, or what ``"shuffle"`` with ``ties_seed`` says.
        ties_seed: Of the shuffle.
        split: ``"leave_one_out"``; by a global point in ``"time"``; or by a ``"ratio"`` of each user's interactions.
        validation_share: For ``"ratio"``, of each user's interactions; for ``"time"``, of all interactions.
        test_share: As ``validation_share``.
        validation_from: For ``"time"``, when validation begins, instead of a share. ISO 8601 as ``start``.
        test_from: When test begins.
        targets: For ``"time"`` and ``"ratio"``: a user's ``"last"`` or ``"first"`` interaction of a period is the
            target, or ``"all"`` are, each in a row of its own.
        time_unit: Of times that are numbers; ``"auto"`` tells it by the size of each: s, ms, µs or ns.
        time_format: How times are written (``strptime``), where they are neither numbers nor ISO 8601.
        negative_times: Whether a time before 1970 is a bad record.
        now: A later moment, by more than a day, is a bad record. By default the moment of the run.
        encoding: Of text; by default UTF-8, or UTF-16 where a byte-order mark says so.
        max_rejected: Above this share of bad records nothing is written.
    """

    owner: str | None = None
    min_rating: float | None = None
    start: str | None = None
    end: str | None = None
    repeats: str = "keep"
    user_core: int = 5
    item_core: int = 5
    ties: str = "file"
    ties_seed: int = 0
    split: str = "leave_one_out"
    validation_share: float = 0.1
    test_share: float = 0.1
    validation_from: str | None = None
    test_from: str | None = None
    targets: str = "last"
    time_unit: str = "auto"
    time_format: str | None = None
    negative_times: str = "reject"
    now: str | None = None
    encoding: str | None = None
    max_rejected: float = 0.01

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise PreparationError(f"{name} must be one of {', '.join(choices)}, not {getattr(self, name)!r}")
        if self.user_core < 0 or self.item_core < 0:
            raise PreparationError("user_core and item_core must not be negative; 0 keeps everything.")
        if not 0 <= self.max_rejected <= 1:
            raise PreparationError(f"max_rejected is a share, from 0 to 1, not {self.max_rejected}")
        self._check_split()
        for name in ("start", "end", "validation_from", "test_from", "now"):
            if getattr(self, name) is not None:
                microseconds(getattr(self, name), name)
        if self.start and self.end and microseconds(self.start) > microseconds(self.end):
            raise PreparationError(f"start {self.start} is after end {self.end}.")
        if self.min_rating is not None and not math.isfinite(self.min_rating):
            raise PreparationError(f"min_rating must be a number, not {self.min_rating}")
        self._check_encoding()

    def _check_encoding(self) -> None:
        if self.encoding is None:
            return
        try:
            found = codecs.lookup(self.encoding)
            "a".encode(self.encoding)
        except (LookupError, UnicodeError) as error:
            raise PreparationError(f"encoding: {error}") from error
        if found.name in ("idna", "punycode", "unicode-escape", "raw-unicode-escape"):
            raise PreparationError(f"encoding: {self.encoding} is no encoding of files.")

    def _check_split(self) -> None:
        dates = (self.validation_from, self.test_from)
        if any(dates):
            if self.split != "time":
                raise PreparationError("validation_from and test_from belong to split='time'.")
            if not all(dates):
                raise PreparationError("Give validation_from and test_from together, or neither.")
            if microseconds(str(dates[0])) >= microseconds(str(dates[1])):
                raise PreparationError(f"validation_from {dates[0]} must be before test_from {dates[1]}.")
        shares = (self.validation_share, self.test_share)
        if min(shares) <= 0 or sum(shares) >= 1:
            raise PreparationError(f"validation_share and test_share must be above 0 and leave something: {shares}")

    def to_dict(self) -> dict[str, Any]:
        """Every option with its value."""
        return asdict(self)


def make_options(source: Source, preset: str | None, given: dict[str, Any]) -> PreparationOptions:
    """Defaults, then what the source says, then the preset, then what is given.

    Raises:
        PreparationError: If the source has no such preset or owner, or an option cannot be.
    """
    if preset is not None and preset not in source.presets:
        known = f"has {', '.join(source.presets)}" if source.presets else "has none"
        raise PreparationError(f"{source.name} has no preset {preset!r}; it {known}.")
    if unknown := set(given) - {field.name for field in fields(PreparationOptions)}:
        raise PreparationError(f"There is no option {', '.join(sorted(unknown))}.")
    _check_effect(given)
    options = PreparationOptions(
        **{"time_unit": source.time_unit, "owner": next(iter(source.owners))}
        | (dict(source.presets[preset]) if preset else {})
        | given
    )
    if options.owner not in source.owners:
        raise PreparationError(f"owner must be one of {', '.join(source.owners)}, not {options.owner!r}")
    if source.time is None:
        timed = ("start", "end", "validation_from", "test_from")
        if options.split == "time" or any(getattr(options, name) for name in timed):
            raise PreparationError(f"{source.name} has no times: it cannot be filtered or split by them.")
    if source.rating is None and options.min_rating is not None:
        raise PreparationError(
            f"{source.name} has no ratings, so there is no min_rating; of a table, name rating_column."
        )
    for form in (options.time_format, *source.time_formats):
        try:
            duckdb.execute("SELECT try_strptime('', ?)", [form])
        except duckdb.Error as error:
            raise PreparationError(f"time_format {form!r}: {error}") from error
    return options


def _check_effect(given: dict[str, Any]) -> None:
    """Refuse an option that would change nothing, for something else was meant."""
    periods = [name for name in ("targets", "validation_share", "test_share") if name in given]
    if periods and given.get("split", "leave_one_out") == "leave_one_out":
        raise PreparationError(f"{', '.join(periods)}: only with split='time' or split='ratio'.")
    if "ties_seed" in given and given.get("ties") != "shuffle":
        raise PreparationError("ties_seed: only with ties='shuffle'.")


def microseconds(moment: str, name: str = "time") -> int:
    """Microseconds since 1970 of an ISO 8601 text; UTC where it does not say.

    Raises:
        PreparationError: If it is none.
    """
    try:
        parsed = datetime.fromisoformat(re.sub(r"[Zz]$", "+00:00", moment.strip()))
    except ValueError as error:
        raise PreparationError(f"{name}: {moment!r} is no date and time like 2019-12-31 or 2019-12-31T08:00") from error
    if parsed.tzinfo is None:
        parsed = parsed.replace(tzinfo=timezone.utc)
    since = parsed - datetime(1970, 1, 1, tzinfo=timezone.utc)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def moment(time: int) -> str:
    """Microseconds since 1970 as ISO 8601 in UTC."""
    try:
        return f"{(datetime(1970, 1, 1) + timedelta(microseconds=time)).isoformat()}Z"
    except OverflowError:  # before the year 1
        return f"{time / 1e6} s"
