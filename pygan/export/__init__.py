"""One file of a trained network that runs without pygan: ONNX, TorchScript, PT2, safetensors, a Hugging Face folder."""
