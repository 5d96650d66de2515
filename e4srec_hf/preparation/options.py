"""The options of preparing a data set."""

import codecs
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timedelta, timezone
from typing import Any

import duckdb

from .errors import PreparationError
from .keeping import as_texts
from .source import Source

CHOICES = {
    "repeats": ("keep", "distinct", "first", "last", "first-row"),
    "ties": ("file", "item", "shuffle"),
    "split": ("leave_one_out", "time", "ratio"),
    "targets": ("last", "first", "all"),
    "time_unit": ("auto", "s", "ms", "us", "ns"),
    "negative_times": ("reject", "keep"),
}
#: Options that need times.
NEED_TIMES = ("ties", "time_unit", "time_format", "negative_times")
#: Marks of missing values that programs write.
MISSING = (
    *(
        "NA",
        "N/A",
        "n.a.",
        "#N/A",
        "#NA",
        "#N/A N/A",
        "<NA>",
        "NaN",
        "-NaN",
        "1.#QNAN",
        "-1.#QNAN",
        "1.#IND",
        "-1.#IND",
    ),
    *(
        "NaT",
        "null",
        "(null)",
        "<null>",
        "[null]",
        "None",
        "(none)",
        "<none>",
        "nil",
        "undefined",
        "\\N",
        "\\\\N",
        '""',
        "''",
    ),
    *("#VALUE!", "#REF!", "#DIV/0!", "#NULL!", "#NAME?", "#NUM!", "(not set)"),
)


@dataclass(frozen=True)
class PreparationOptions:
    """How raw interactions become a data set. All options are recorded in ``preparation.json``.

    Attributes:
        owner: The sequence key, if the source offers a choice (such as customer or invoice); by default its first.
        min_rating: Drop interactions with a lower rating; records without a rating are then invalid.
        start: Earliest time to keep: ISO 8601, UTC if it has no zone; a date alone means its midnight.
        end: Latest time to keep.
        repeats: Which of a user's interactions with the same item to keep: all (``"keep"``), one of those at the same
            time (``"distinct"``), the ``"first"`` or ``"last"`` in time, or the ``"first-row"`` in the order of the
            files, whatever its time.
        user_core: Drop users with fewer interactions, and items with fewer than ``item_core``, repeatedly until nothing
            changes.
        item_core: See ``user_core``.
        ties: Order of a user's interactions at the same time: as in the ``"file"``, by ``"item"`` id as text, or
            ``"shuffle"`` with ``ties_seed``.
        ties_seed: Seed of the shuffle.
        split: ``"leave_one_out"``; ``"time"``, at global points in time; or ``"ratio"``, by shares of each user's
            interactions.
        validation_share: Share of each user's interactions (``"ratio"``) or of all interactions (``"time"``).
        test_share: As ``validation_share``.
        validation_from: For ``"time"``, start of validation, instead of a share. ISO 8601 as ``start``.
        test_from: For ``"time"``, start of test.
        targets: For ``"time"`` and ``"ratio"``, which of a user's interactions in a period are targets: the ``"last"``,
            the ``"first"`` or ``"all"``, with one row per target.
        time_unit: Unit of numeric times; ``"auto"`` detects s, ms, µs or ns from the size of each.
        time_format: Format of times (``strptime``) that are neither numbers nor ISO 8601.
        oldest: The log is refused if most of its times are earlier, for they are probably something else: ratings,
            counts, years, or another unit. Dates that are written out are refused only in January 1970.
        negative_times: Whether a record with a time before 1970 is invalid (``"reject"``) or kept (``"keep"``).
        now: Records more than a day later are invalid. By default the time of the run.
        keep: Column to the values to keep, such as ``{"event": ["buy", "cart"]}``; other rows are left out. ``""`` is
            an empty value.
        missing: Marks of missing values, in any case of letters. A user, item or time of this text is missing.
        encoding: Encoding of text files; by default UTF-8, or UTF-16 or UTF-32 if there is a byte-order mark.
        max_rejected: Abort if more than this fraction of the records is invalid.
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
    oldest: str = "1995-01-01"
    negative_times: str = "reject"
    now: str | None = None
    keep: Mapping[str, Any] = field(default_factory=dict)
    missing: Sequence[str] = MISSING
    encoding: str | None = None
    max_rejected: float = 0.01

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise PreparationError(f"{name} must be one of {', '.join(choices)}, not {getattr(self, name)!r}")
        if self.user_core < 0 or self.item_core < 0:
            raise PreparationError("user_core and item_core must not be negative; 0 keeps everything.")
        if not 0 <= self.max_rejected <= 1:
            raise PreparationError(f"max_rejected must be between 0 and 1, not {self.max_rejected}")
        self._check_split()
        if isinstance(self.missing, str):
            raise PreparationError(f"missing must be a list of marks, not the text {self.missing!r}")
        object.__setattr__(self, "keep", as_texts(self.keep))
        object.__setattr__(self, "missing", list(self.missing))
        for name in ("start", "end", "validation_from", "test_from", "now", "oldest"):
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
            raise PreparationError(f"encoding: {self.encoding} is not an encoding of files.")

    def _check_split(self) -> None:
        dates = (self.validation_from, self.test_from)
        if any(dates):
            if self.split != "time":
                raise PreparationError("validation_from and test_from require split='time'.")
            if not all(dates):
                raise PreparationError("Give validation_from and test_from together, or neither.")
            if microseconds(str(dates[0])) >= microseconds(str(dates[1])):
                raise PreparationError(f"validation_from {dates[0]} must be before test_from {dates[1]}.")
        shares = (self.validation_share, self.test_share)
        if min(shares) <= 0 or sum(shares) >= 1:
            raise PreparationError(f"validation_share and test_share must be positive with a sum below 1; got {shares}")

    def to_dict(self) -> dict[str, Any]:
        """Every option with its value."""
        return asdict(self)


def make_options(source: Source, preset: str | None, given: dict[str, Any]) -> PreparationOptions:
    """Combine the options; the given ones override the preset, which overrides the source and the defaults.

    Raises:
        PreparationError: If the source has no such preset or owner, or an option is invalid or has no effect.
    """
    if preset is not None and preset not in source.presets:
        known = ", ".join(source.presets) or "none"
        raise PreparationError(f"{source.name} has no preset {preset!r}; its presets: {known}.")
    if unknown := set(given) - {field.name for field in fields(PreparationOptions)}:
        raise PreparationError(f"Unknown options: {', '.join(sorted(unknown))}.")
    _check_effect(given)
    options = PreparationOptions(
        **{"time_unit": source.time_unit, "repeats": source.repeats, "owner": next(iter(source.owners))}
        | (dict(source.presets[preset]) if preset else {})
        | given
    )
    if options.owner not in source.owners:
        raise PreparationError(f"owner must be one of {', '.join(source.owners)}, not {options.owner!r}")
    if source.time is None:
        timed = ("start", "end", "validation_from", "test_from")
        if options.split == "time" or any(getattr(options, name) for name in timed):
            raise PreparationError(f"{source.name} has no times: it cannot be filtered or split by time.")
        if idle := [name for name in NEED_TIMES if getattr(options, name) != getattr(PreparationOptions, name)]:
            raise PreparationError(f"{', '.join(idle)}: without times, the order of the rows is the order of time.")
        if options.repeats == "distinct":
            raise PreparationError("repeats: without times, none of them are at the same time.")
    if source.rating is None and options.min_rating is not None:
        raise PreparationError(f"{source.name} has no ratings for min_rating; for a table, give rating_column.")
    for form in (options.time_format, *source.time_formats):
        try:
            duckdb.execute("SELECT try_strptime('', ?)", [form])
        except duckdb.Error as error:
            raise PreparationError(f"time_format {form!r}: {error}") from error
    return options


def _check_effect(given: dict[str, Any]) -> None:
    """Refuse options that would have no effect."""
    periods = [name for name in ("targets", "validation_share", "test_share") if name in given]
    if periods and given.get("split", "leave_one_out") == "leave_one_out":
        raise PreparationError(f"{', '.join(periods)}: requires split='time' or split='ratio'.")
    if "ties_seed" in given and given.get("ties") != "shuffle":
        raise PreparationError("ties_seed: requires ties='shuffle'.")


def microseconds(moment: str, name: str = "time") -> int:
    """Microseconds since 1970 of an ISO 8601 text; UTC if it has no zone.

    Raises:
        PreparationError: If the text is not ISO 8601.
    """
    try:
        parsed = datetime.fromisoformat(re.sub(r"[Zz]$", "+00:00", moment.strip()))
    except ValueError as error:
        raise PreparationError(f"{name}: {moment!r} is not a date like 2019-12-31 or 2019-12-31T08:00") from error
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
