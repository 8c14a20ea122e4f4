"""python -m connr, and the command `connr`."""

import sys


def main() -> None:
    """Runs the command; Ctrl-C while it is being loaded ends it without a traceback."""
    try:
        from connr.cli import app

        app()
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
