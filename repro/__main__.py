"""``python -m repro`` is ``biasrepro``."""

from repro.cli import main

if __name__ == "__main__":
    main()
