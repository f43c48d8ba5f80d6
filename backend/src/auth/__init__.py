"""Whose request it is: bearer tokens and the keys that they are checked with."""
