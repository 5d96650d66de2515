"""``python -P -m e4srec_hf.verify --record FILE`` records the present Python files as those of the present version."""

import argparse
from pathlib import Path

from .released_code import record

parser = argparse.ArgumentParser(prog="python -P -m e4srec_hf.verify", description=__doc__)
parser.add_argument("--record", type=Path, required=True, metavar="FILE", help="released_code.json of the source tree")
record(parser.parse_args().record)
