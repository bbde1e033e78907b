"""The one check of everything that comes from outside: files, and arguments of public calls."""
