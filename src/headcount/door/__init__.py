"""Checks of everything that comes from outside: files, and the arguments of public calls."""
