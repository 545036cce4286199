"""Tests of the commands, run in this process and without any network."""
