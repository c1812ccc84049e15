"""``python -m tests.unit.rehearse.exec_file FILE``: a child process for the tests."""

import runpy
import sys

if __name__ == "__main__":
    runpy.run_path(sys.argv[1])
