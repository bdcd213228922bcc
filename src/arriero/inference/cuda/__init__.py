"""One NVIDIA device: kernels in Triton, captured steps, low-bit and float8 products."""
