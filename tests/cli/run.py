#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the tests of the command `onehop` that are in the file NAME.py, or some of them.

usage: run.py ONEHOP FAULT_LIBRARY NAME [TEST ...]
"""

import os
import sys
import unittest


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    os.environ["ONEHOP"], os.environ["ONEHOP_FAULT_LIBRARY"] = map(os.path.abspath, sys.argv[1:3])
    unittest.main(module=sys.argv[3], argv=sys.argv[:1] + sys.argv[4:], verbosity=2)


if __name__ == "__main__":
    main()
