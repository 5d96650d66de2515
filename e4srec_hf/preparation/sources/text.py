"""The reference text format: a line a user, the user id, then item ids in time order, blank-separated."""

from ..source import Log, Owner, Source

TEXT = Source(
    name="text",
    about="<name>.txt: a line a user, 'user item item …', the oldest item first; no times",
    log=Log({"line": ()}, separator=None, quoted=False),
    owners={"user": Owner("user")},
    time=None,
)
