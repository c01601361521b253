"""`python -m fastserve.cli`: the command where no script is on the PATH."""

from fastserve.cli import main

if __name__ == "__main__":
    main()
