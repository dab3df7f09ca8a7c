"""The library's part for PyTorch; only `torch_smddp` is played. Its older API (1.x) is not."""
