"""The models; importing this package registers them with Detectron2."""
