"""``python -m sockproto`` is ``sockproto``."""

from sockproto.cli import main

if __name__ == "__main__":
    main()
