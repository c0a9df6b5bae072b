"""Rewind, replay, compare and promote stream processing, exactly once."""
