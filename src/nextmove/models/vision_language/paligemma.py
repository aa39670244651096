"""x"""

from nextmove.models.vision_language.wording import Wording

WORDING = Wording(question="<bos>{}", caption="<bos>", behind="\n", end="<eos>", special=False)
