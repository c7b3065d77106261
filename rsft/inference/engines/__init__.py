"""Engines that compute a network's outputs: PyTorch, ONNX Runtime, OpenVINO."""
