"""``python -m e4srec_hf.hub.verify --record FILE`` records the current Python files as those of this version."""

import argparse
from pathlib import Path

from .released_code import record

parser = argparse.ArgumentParser(prog="python -m e4srec_hf.hub.verify", description=__doc__)
parser.add_argument("--record", type=Path, required=True, metavar="FILE", help="released_code.json of the source tree")
record(parser.parse_args().record)
