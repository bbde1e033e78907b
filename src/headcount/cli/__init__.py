"""The command line: thin over the functions of the library."""
