"""A bundle as one file for another runtime (ONNX Runtime, OpenVINO, torch.export, timm, PEFT), checked first."""
