"""Validation of datasets: ``checks`` before training, ``report`` for a full account of every fault."""
