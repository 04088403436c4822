"""Compact forms of instance masks."""
