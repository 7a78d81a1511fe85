"""`python -m nextword.lm` is `nextword`."""
import sys

from nextword.lm.command import main

if __name__ == "__main__":
    sys.exit(main())
