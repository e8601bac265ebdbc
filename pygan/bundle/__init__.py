"""A trained network as a folder in the layout of the Hugging Face Hub: model card, config, safetensors, samples."""
