"""The list of encoders as plain data, which is read without torch and timm."""
