"""Language models of Hugging Face transformers: folders of config.json and safetensors in the layout of a family."""

from nextmove.interop.hf.language import Language, load

__all__ = ["Language", "load"]
