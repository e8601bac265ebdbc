"""The formulas under everything, one file each. Every public op has a reference in plain PyTorch and native kernels."""
