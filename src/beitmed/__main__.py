"""`python -m beitmed COMMAND` is `beitmed COMMAND`."""

from beitmed.commands.front import main

if __name__ == "__main__":
    main()
