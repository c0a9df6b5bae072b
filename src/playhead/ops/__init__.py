"""One verb a file: a function with a result value. No printing here."""
