"""The console script; ``python -m repro`` is ``biasrepro`` too. Loads nothing before it can be interrupted in peace."""

import sys


def main() -> None:
    """Run the command line of this process and exit."""
    try:
        from repro.cli import main as run_command_line
    except KeyboardInterrupt:  # importing takes a moment
        print("error: interrupted", file=sys.stderr)
        sys.exit(130)
    run_command_line()


if __name__ == "__main__":
    main()
