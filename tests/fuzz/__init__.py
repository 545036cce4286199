"""
Bytes that nobody would send, for every parser.

``python -m tests.fuzz NAME`` has atheris look for them; ``test_corpus.py`` replays, in every test
run, those that it has found and those that one could think of.
"""
