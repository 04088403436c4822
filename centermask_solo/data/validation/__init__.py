"""Validation of datasets by one set of rules: ``checks`` before training and evaluation, ``report`` for a full account."""
