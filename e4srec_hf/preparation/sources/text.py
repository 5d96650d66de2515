"""The reference text format: one user per line, the user id followed by item ids in time order."""

from ..source import Log, Owner, Source

TEXT = Source(
    name="text",
    about="<name>.txt: one user per line, 'user item item ...', oldest item first; no times",
    log=Log({"line": ()}, separator=None, quoted=False),
    owners={"user": Owner("user")},
    time=None,
)
