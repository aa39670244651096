"""OpenVLA's folders and those of its fine-tuned form, in transformers' layout and in Prismatic's own."""

from nextmove.interop.openvla.exporting import export
from nextmove.interop.openvla.loading import Asked, load

__all__ = ["Asked", "export", "load"]
