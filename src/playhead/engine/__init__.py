"""Runs batches. Uses ports, never adapters."""
