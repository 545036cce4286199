"""Tests of the Twisted shell, in memory and in virtual time."""
