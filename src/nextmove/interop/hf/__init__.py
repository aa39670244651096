"""Models of Hugging Face transformers: folders of config.json and safetensors in the layout of a family."""

from nextmove.interop.hf.language import Language
from nextmove.interop.hf.opening import load
from nextmove.interop.hf.reading import Read

__all__ = ["Language", "Read", "load"]
