"""OpenVLA: a vision-language model whose last words are moves (Kim et al. 2024).

What changed over RT-2: an open model, of seven billion parameters; two image towers see one picture, one trained by
itself (DINOv2) and one beside texts (SigLIP), and their patches stand side by side.

How it is composed: `Reading` (two `VisionTower`s, a `Projector` of three maps, `Gpt` with Llama's parts; one image
behind the first id, then the prompt, read in order) -> `Continued`, which writes `EdgeBins` as the last 256 ids of the
vocabulary -> `Autoregressive`, greedy.

Deviations: a CPU size over bytes by default, and only ids that stand for an action are drawn, where the published code
draws any id and clips it to the nearest bin. The id that ends a text is not trained behind an action, whose length is
known. `published()` has the sizes of the 7B model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from nextmove.contracts import Feature, Optim
from nextmove.decoders import Autoregressive
from nextmove.decoders.sampling import Sampling
from nextmove.encoders.framed import Framed
from nextmove.encoders.prompt import Prompt
from nextmove.encoders.reading import Reading
from nextmove.encoders.spoken import Spoken
from nextmove.models.policy.action_space import ActionSpace
from nextmove.models.policy.assemble import assemble
from nextmove.models.policy.policy import Policy
from nextmove.models.policy.sight import cameras
from nextmove.models.policy.spec import PolicySpec, Timing
from nextmove.models.policy.wording import SPOKEN, asked
from nextmove.models.vision_language.llava import llama
from nextmove.nn import Gpt
from nextmove.nn.continued import Continued
from nextmove.nn.feedforward import DenseMlp
from nextmove.nn.norm import LayerNorm, RmsNorm
from nextmove.nn.projector import Projector
from nextmove.nn.vit import VisionTower

BINS = 256
BYTES = 259
"""Ids of the tokenizer over bytes."""
TEMPLATE = "In: What action should the robot take to {task}?\nOut:"
STRETCHED = Framed("stretch", "bicubic")
GREEDY = Sampling(temperature=0.0)
NORM = LayerNorm(1e-6)
TOKENIZER, PADDED, SPACE, END = 32000, 64, 29871, 2
"""Ids of Llama 2's tokenizer, rows that the table of embeddings is padded by, and the ids of an empty piece and of the
end of a text."""


def sight(side: int = 64, patch: int = 8, width: int = 96, layers: int = 2) -> tuple[VisionTower, VisionTower]:
    """A pair of small towers of their published kinds, for images of `side` px."""
    units = DenseMlp(activation="gelu")
    first = VisionTower(
        side, patch, width, layers, width // 32, units, NORM, registers=4, class_position=False, pool="none"
    )
    return replace(first, layer_scale=1.0), replace(first, class_token=False, registers=0)


def words(vocabulary: int, *lead: int, bins: int = BINS) -> Autoregressive:
    """A decoder that writes bins as the last ids of a vocabulary, backwards, behind the ids `lead`."""
    trunk = Continued(vocabulary=((vocabulary - 1, bins, -1),), lead=lead, others=True)
    return Autoregressive(trunk, classes=bins + 1, sampling=GREEDY)


def small(**parts: Any) -> Reading:
    """What a model of a CPU's size reads: bytes, and a word of its own for each bin."""
    return Reading(
        llama(192, 4, 6, 512), ids=BYTES + BINS + 1, towers=sight(), values=("imagenet", "symmetric"),
        framed=STRETCHED, projector=Projector(3, widen=2), prompt=Prompt(TEMPLATE, 160, lower=True, special=False),
        order="causal", **parts,
    )  # fmt: skip


def large(**parts: Any) -> Reading:
    """What the 7B model reads."""
    units = DenseMlp(4096, "gelu")
    dinov2 = VisionTower(
        224, 14, 1024, 24, 16, units, NORM, class_position=False, registers=4, layer=-2, pool="none", layer_scale=1.0
    )
    siglip = VisionTower(
        224, 14, 1152, 27, 16, DenseMlp(4304, "gelu"), NORM, class_token=False, layer=-2, pool="attention"
    )
    trunk: Gpt = replace(llama(4096, 32, 32, 11008), norm=RmsNorm(1e-6))
    prompt = Prompt(TEMPLATE, 512, lower=True, classes=TOKENIZER + 1)
    return Reading(
        trunk, TOKENIZER + PADDED, (dinov2, siglip), ("imagenet-bf16", "symmetric"), STRETCHED, Projector(3, widen=4),
        prompt=prompt, front=1, order="causal", **parts,
    )  # fmt: skip


def fitted(reading: Reading, inputs: Mapping[str, Feature], most: int = 64) -> Reading:
    """The same for the robot's cameras in colour, at the smallest one's size, `most` px at most."""
    names = cameras(inputs)
    others = any(feature.type == "image" and name not in names for name, feature in inputs.items())
    patch = reading.towers[0].patch
    side = min([most, *(min(inputs[name].shape[:2]) for name in names)]) // patch * patch
    towers = tuple(replace(tower, image=side) for tower in reading.towers)
    return replace(reading, towers=towers, cameras=names if others else ())


@dataclass(frozen=True)
class OpenVla:
    """One image and an instruction to one action, word by word."""

    timing: Timing = Timing(n_obs_steps=1, horizon=1, n_action_steps=1)
    encoder: Reading = field(default_factory=small)
    actions: ActionSpace = ActionSpace("quantiles", per_step=False, bins=BINS, edges=True, clip=True, space="absolute")
    decoder: Any = field(default_factory=lambda: words(BYTES + BINS, BYTES + BINS))
    optim: Optim = Optim(lr=5e-4, betas=(0.9, 0.98), weight_decay=0.01, warmup=100, batch=32, ema=0.999)

    @classmethod
    def published(cls, inputs: Mapping[str, Feature] | None = None) -> OpenVla:
        """The 7B model: 7,541,237,184 weights."""
        optim = Optim(lr=2e-5, weight_decay=0.0, warmup=0, batch=2048, ema=0.0)
        return cls(encoder=large(), decoder=words(TOKENIZER, SPACE), optim=optim)

    def seeing(self, inputs: Mapping[str, Feature]) -> OpenVla:
        """The same at a size that a CPU trains on."""
        return replace(self, encoder=fitted(self.encoder, inputs))

    def planning(self, planner: Spoken = SPOKEN) -> Self:
        """The same that is asked for its next sub-task first, which is then read behind the instruction."""
        return asked(self, planner, END)

    def build(self, spec: PolicySpec) -> Policy:
        """The untrained policy for a robot; raises ValueError where it has no camera or no instruction."""
        return assemble(spec, self)
