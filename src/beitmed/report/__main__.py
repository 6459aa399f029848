"""`python -m beitmed.report` is `beitmed report`."""

from beitmed.commands.report import main

if __name__ == "__main__":
    main()
