"""One vendor a file; the only files that import it."""
