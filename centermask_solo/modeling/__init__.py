"""The models. Importing :mod:`.models` registers them with Detectron2; this package itself imports nothing."""
