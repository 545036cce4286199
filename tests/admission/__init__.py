"""Tests of who may start, in virtual time; and a simulation, by which penalties were chosen."""
