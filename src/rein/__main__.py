"""`python -m rein`: the same as `rein`."""

from rein.cli import main

if __name__ == "__main__":
    main()
