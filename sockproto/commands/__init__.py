"""The commands of ``sockproto``, one a file: its name, its ``configure(parser)``, its ``run``."""
