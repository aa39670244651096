"""x"""
from nextmove.models.vision_language.wording import Wording
WORDING = Wording(question="Question:{} Short answer:", caption="Output:", end="<|endofchunk|>", special=False)
