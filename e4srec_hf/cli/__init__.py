"""The command ``e4srec``: one file a command, and each imports what it needs only when it runs."""
