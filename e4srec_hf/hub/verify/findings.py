"""The findings about a repo and the verdict on it."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from .limits import LONGEST_LINE, MOST_FINDINGS, MOST_IN_ALL

Kind = Literal["failed", "unchecked", "note"]


@dataclass(frozen=True)
class Finding:
    """One finding.

    Args:
        kind: ``"failed"``, ``"unchecked"`` (it could not be checked, so there is no verdict), or ``"note"``.
        where: The file, or the name of the repo.
        what: What was found.
        why: Why it matters, or what to do.
    """

    kind: Kind
    where: str
    what: str
    why: str


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Findings in the order of their kinds, failures first; of many on one file, the first ones and their number."""
    by_file: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        by_file[finding.kind, finding.where].append(finding)
    kept = []
    for (kind, where), of_file in by_file.items():
        kept += of_file[:MOST_FINDINGS]
        if (more := len(of_file) - MOST_FINDINGS) > 0:
            kept.append(Finding(kind, where, f"and {more} more", of_file[-1].why))  # type: ignore[arg-type]
    if (more := len(kept) - MOST_IN_ALL) > 0:
        kept = [*sorted(kept, key=lambda finding: finding.kind != "failed")[:MOST_IN_ALL]]
        kept.append(Finding(kept[0].kind, "all files", f"and {more} more", "They are not listed."))
    return tuple(sorted(kept, key=lambda finding: ("failed", "unchecked", "note").index(finding.kind)))


def failed(where: str, what: str, why: str) -> Finding:
    """Something that no release writes."""
    return Finding("failed", where, what, why)


def unchecked(where: str, what: str, why: str) -> Finding:
    """Something that could not be checked."""
    return Finding("unchecked", where, what, why)


def note(where: str, what: str, why: str) -> Finding:
    """Information that does not affect the verdict."""
    return Finding("note", where, what, why)


@dataclass(frozen=True)
class Verification:
    """The verdict on a repo. ``str()`` gives a report in which control characters are escaped.

    Args:
        source: The folder or Hub id that was checked.
        revision: The commit that was checked; ``None`` for a folder.
        release: The release of this package whose code the repo has; ``None`` if it is not the code of a release.
        findings: The findings, failures first.
    """

    source: str
    revision: str | None
    release: str | None
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether everything was checked and nothing failed."""
        return self.exit_status == 0

    @property
    def exit_status(self) -> int:
        """0: passed; 1: failed; 2: nothing failed, but something could not be checked."""
        kinds = {finding.kind for finding in self.findings}
        return 1 if "failed" in kinds else 2 if "unchecked" in kinds else 0

    def __str__(self) -> str:
        verdict = ("passed", "FAILED", "could not be checked")[self.exit_status]
        lines = [f"{self.source}: {verdict}"]
        if self.revision is not None:
            lines.append(f"checked commit {self.revision}: load this one, with revision=")
        if self.release is not None:
            lines.append(f"its Python files are those of release {self.release}, byte for byte")
        for finding in self.findings:
            lines += [f"{finding.kind}: {finding.where}: {finding.what}", f"    {finding.why}"]
        return "\n".join(printable(" ".join(_shortened(line).splitlines())) for line in lines)


def _shortened(line: str) -> str:
    return line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE - 2]} …"


def printable(text: str) -> str:
    """Escape control characters and characters that change the writing direction."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
