"""Backbones, which :mod:`..models` registers with Detectron2."""
