"""Where things lie in the checkout, and the programs that its virtual environment has."""

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "examples"
CAPTURES = ROOT / "tests" / "captures"
CASES = ROOT / "tests" / "cases"
GOLDEN = ROOT / "tests" / "golden"
BIN = Path(sys.executable).parent
PROGRAM = str(BIN / "cablectl")
SHELLCHECK = str(BIN / "shellcheck")
