"""What AWS has published about SMDDP's speed. None of it came with repeats or intervals, and none is measured here."""

from __future__ import annotations

from typing import NamedTuple


class Claim(NamedTuple):
    """One published statement."""

    claim: str
    where: str
    source: str


NOT_OURS = "we have not measured this"

_GUIDE = "awsdocs/amazon-sagemaker-developer-guide@57945bf, doc_source/data-parallel-intro.md (since removed)"

CLAIMS = (
    Claim("BERT 41 % / 52 % / 13 % faster than PyTorch DDP", "PyTorch 1.6, p3dn.24xlarge, 2 / 4 / 8 hosts", _GUIDE),
    Claim("Mask R-CNN 4 % / 19 % / 15 % faster than PyTorch DDP", "the same, 2 / 4 / 8 hosts", _GUIDE),
    Claim("up to 25 % faster", "the same page", _GUIDE),
    Claim(
        "complete distributed training up to 40 % faster",
        "not said",
        "amazonaws.cn/en/sagemaker/distributed-training",
    ),
    Claim(
        "Herring: twice as fast as methods based on all-reduce; 85 % scaling efficiency",
        "up to 2048 NVIDIA V100 GPUs",
        "SC20, paper 487; amazon.science",
    ),
    Claim(
        "ALBERT: up to 35 % faster training than PyTorch's DDP",
        "not recorded",
        'AWS Machine Learning Blog, "Achieve 35% faster training with Hugging Face DLCs"',
    ),
    Claim(
        "AllGather in FSDP up to 20 % faster than NCCL",
        "not recorded",
        "awsome-distributed-training@36501b78^, 3.test_cases/12.SM-dataparallel-FSDP/README.md (deleted)",
    ),
    Claim(
        "GPT-NeoX with 100 billion parameters: about 30.58 % over NCCL",
        "32 p4d hosts",
        "community.aws/content/2tn0yCybOa1qDjJdTgixhhEbGci",
    ),
    Claim(
        "NCCL takes up to 24 streaming multiprocessors, SMDDP fewer than 9",
        "of the 108 of an A100",
        "SageMaker developer guide, data-parallel-intro.html",
    ),
    Claim(
        "faster with several hosts only; on one host slower than NCCL in earlier versions",
        "any",
        "SMDDP FAQ; known issues of the SageMaker SDK v2.48",
    ),
)
