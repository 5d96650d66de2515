"""Read a workbook within bounds: the script that `workbooks` runs. It imports nothing of the package."""

import csv
import json
import sys
from typing import Any

#: Bytes of memory and seconds of computing that a workbook gets.
MEMORY, SECONDS = 4 << 30, 600
#: Exit status if the workbook is not readable.
UNREADABLE = 65
#: Stands before the text of a cell that is a time, a truth value or a fraction; a code that no text has.
TYPED = "\ufdd0"


def limit_resources() -> None:
    """Bound memory and computing, as far as the system does."""
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return
    for kind, most in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_CPU, SECONDS), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(kind)[1]
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        try:
            resource.setrlimit(kind, (bound, bound))
        except (ValueError, OSError):  # macOS has no bound of the address space
            continue


def _text(cell: Any) -> str:
    """A cell as text, behind ``TYPED`` if it can be no id; a sheet has all its numbers as floating-point ones."""
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 1 << 53:
        return str(int(cell))
    if isinstance(cell, str) or type(cell) is int:
        return str(cell)
    return TYPED + (str(cell).lower() if isinstance(cell, bool) else str(cell))


def main(library: str, workbook: str, *sheet: str) -> None:
    """Write the names of the sheets as JSON, or a sheet as CSV.

    Args:
        library: Folder in which python_calamine is installed; last in the search, for it may hold anything else.
        workbook: The file.
        sheet: Name of the sheet.
    """
    sys.path.append(library)
    from python_calamine import CalamineError, CalamineWorkbook, SheetTypeEnum

    limit_resources()
    sys.stdout.reconfigure(encoding="utf-8", newline="")  # type: ignore[union-attr]
    try:
        with open(workbook, "rb") as file:
            book = CalamineWorkbook.from_filelike(file)
        if not sheet:
            sheets = [each.name for each in book.sheets_metadata if each.typ == SheetTypeEnum.WorkSheet]
            json.dump(sheets, sys.stdout)
            return
        writer = csv.writer(sys.stdout, lineterminator="\n")
        for row in book.get_sheet_by_name(sheet[0]).iter_rows():
            writer.writerow(map(_text, row))
    except CalamineError as error:
        sys.stderr.write(str(error))
        sys.exit(UNREADABLE)


if __name__ == "__main__":
    main(*sys.argv[1:])
