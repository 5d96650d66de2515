"""Running ``e4srec`` in this process."""

import io
from contextlib import redirect_stderr, redirect_stdout

from e4srec_hf.cli import main


def run(*arguments, status=0):
    """What a command prints to stdout."""
    return run_both(*arguments, status=status)[0]


def fail(*arguments, status=1):
    """What a user reads of a mistake: one line on stderr."""
    printed = run_both(*arguments, status=status)[1]
    lines = printed.splitlines()
    assert len(lines) == 1, printed
    return lines[0]


def run_both(*arguments, status=0, command=main):
    """What a command prints to stdout and to stderr."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            command([str(argument) for argument in arguments])
        except SystemExit as left:
            code = left.code or 0
    assert code == status, out.getvalue() + err.getvalue()
    return out.getvalue(), err.getvalue()
