#!/usr/bin/python3 -I
"""cablectl, with the libraries that came with it."""

import sys

sys.path.insert(0, "/usr/lib/cablectl")

from cablectl.__main__ import main

main()
