"""The library's part for PyTorch: only `torch_smddp`, not the older API (1.x)."""
