"""Datasets, their files, and the loaders that feed them to the models.

Reading images needs neither PyTorch nor Detectron2, so importing this package alone loads neither.
"""
