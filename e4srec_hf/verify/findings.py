"""What was found in a repo, and the verdict on it."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["failed", "unchecked", "note"]


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Args:
        kind: ``"failed"``, ``"unchecked"`` (it could not be looked at, so there is no verdict), or ``"note"``.
        where: The file, or the name of the repo.
        what: What is there.
        why: Why it matters, or what to do.
    """

    kind: Kind
    where: str
    what: str
    why: str


def failed(where: str, what: str, why: str) -> Finding:
    """Something that no release writes."""
    return Finding("failed", where, what, why)


def unchecked(where: str, what: str, why: str) -> Finding:
    """Something that could not be looked at."""
    return Finding("unchecked", where, what, why)


def note(where: str, what: str, why: str) -> Finding:
    """Something to know."""
    return Finding("note", where, what, why)


@dataclass(frozen=True)
class Verification:
    """The verdict on a repo. As a string it is what a reader needs, with nothing in it that a terminal would obey.

    Args:
        source: The folder or Hub id that was looked at.
        revision: The commit that was looked at; ``None`` for a folder.
        release: The release of this package whose code the repo holds; ``None`` where it is no release's.
        findings: What was found, the failures first.
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
            lines.append(f"commit {self.revision} was looked at: load that one, with revision=")
        if self.release is not None:
            lines.append(f"its Python files are those of release {self.release}, byte for byte")
        for finding in self.findings:
            lines += [f"{finding.kind}: {finding.where}: {finding.what}", f"    {finding.why}"]
        return "\n".join(printable(" ".join(line.splitlines())) for line in lines)


def printable(text: str) -> str:
    """Control characters, and those that turn the direction of writing, spelt out."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
