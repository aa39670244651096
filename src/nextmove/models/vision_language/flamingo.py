"""Flamingo: a language model that sees (Alayrac et al. 2022)."""

from nextmove.models.vision_language.wording import Wording

WORDING = Wording(question="Question:{} Short answer:", caption="Output:", end="<|endofchunk|>", special=False)
"""OpenFlamingo's."""
