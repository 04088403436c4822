"""Run exported models. Nothing here needs PyTorch or Detectron2 for ONNX and OpenVINO files."""
