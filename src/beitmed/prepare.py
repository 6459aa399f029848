"""`python -m beitmed.prepare` is `beitmed prepare`."""

from beitmed.commands.prepare import main

if __name__ == "__main__":
    main()
