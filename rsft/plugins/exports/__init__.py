"""Export formats but ONNX, and the engine OpenVINO."""
