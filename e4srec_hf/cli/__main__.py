"""``python -m e4srec_hf.cli`` is ``e4srec``."""

from . import main

main()
