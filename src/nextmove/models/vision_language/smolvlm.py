"""x"""

from nextmove.models.vision_language.wording import Wording

WORDING = Wording(
    before="<|im_start|>User:",
    image="<fake_token_around_image><global-img><image><fake_token_around_image>",
    behind="<end_of_utterance>\nAssistant:",
    gap=" ",
    end="<end_of_utterance>",
    special=False,
)
