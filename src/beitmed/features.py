"""`python -m beitmed.features` is `beitmed cache`."""

from beitmed.commands.cache import main

if __name__ == "__main__":
    main()
