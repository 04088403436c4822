"""Validation of datasets by one set of rules: ``checks`` before training, ``report`` for a full account."""
