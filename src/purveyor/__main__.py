"""``python -m purveyor`` is the same as the console script ``app``."""

from purveyor.cli import main

if __name__ == "__main__":
    main()
