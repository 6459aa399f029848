"""`python -m beitmed.explain` is `beitmed explain`."""

from beitmed.commands.explain import main

if __name__ == "__main__":
    main()
