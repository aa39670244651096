"""x"""

from nextmove.models.vision_language.wording import Wording

VICUNA = Wording(
    before="A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
    "detailed, and polite answers to the user's questions. USER: ",
    image="<image>\n",
    behind=" ASSISTANT:",
    gap=" ",
    end="</s>",
)
