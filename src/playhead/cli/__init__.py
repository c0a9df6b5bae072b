"""The command line: parse, call an op, render. No logic."""
