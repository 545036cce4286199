"""The silent core: bytes in, decisions out. Imports the standard library only."""
