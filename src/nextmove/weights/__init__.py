"""Tensors in files: one writer, one reader, one check and one way to assign them to a model."""

from nextmove.weights.assign import assign, check_filled, without_storage
from nextmove.weights.check import check, digest
from nextmove.weights.files import check_whole, checksum, read, write
from nextmove.weights.gguf import read_gguf

__all__ = [
    "assign",
    "check",
    "check_filled",
    "check_whole",
    "checksum",
    "digest",
    "read",
    "read_gguf",
    "without_storage",
    "write",
]
