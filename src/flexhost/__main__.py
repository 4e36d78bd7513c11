import sys

from flexhost.cli import main

if __name__ == "__main__":
    sys.exit(main())
