"""`python -m beitmed.audit` is `beitmed audit`."""

from beitmed.commands.audit import main

if __name__ == "__main__":
    main()
