"""`python -m beitmed.train` is `beitmed train`."""

from beitmed.commands.train import main

if __name__ == "__main__":
    main()
