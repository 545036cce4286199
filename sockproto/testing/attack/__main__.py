"""``python -m sockproto.testing.attack``."""

from sockproto.testing.attack.line import main

if __name__ == "__main__":
    main()
