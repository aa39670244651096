"""Observations read by a language model: pictures, words and a state as one prefix, whose memory a decoder reads.

The prefix is computed once a plan. A recipe has it where others have an `Observation`:

    encoder: Reading = Reading(language=Gpt(...), towers=(VisionTower(...),), prompt=Prompt())
    decoder: Any = Flow(trunk=Expert(...))                            # reads the memory (pi0, pi0.5, SmolVLA)
    decoder: Any = Autoregressive(Continued(vocabulary=...), classes) # goes on in the language model (OpenVLA, RT-2)

`assemble` builds both and hands the encoder's language model to a `nn.continued.Continued`. What is not in `inputs` and
optional there is left out of the prefix. Shapes: B batch, T observation steps, N tokens of an image, L ids, P tokens of
the prefix, D width of the state, W width of the language model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nextmove.codecs.scaled import Mode, Scaled
from nextmove.contracts import TASK, Context, ContextSpec, Feature, Memory, MemorySpec, Numbers, Rng
from nextmove.encoders.framed import Framed
from nextmove.encoders.part import chosen, present
from nextmove.encoders.pictures import Values
from nextmove.encoders.prompt import Prompt
from nextmove.encoders.reading_networks import Beside, Reader, Sight
from nextmove.encoders.spoken import Spoken
from nextmove.nn.attention import as_heads
from nextmove.nn.gpt import Gpt, GptNet
from nextmove.nn.mask import extend_valid
from nextmove.nn.projector import Projector
from nextmove.nn.vit import VisionTower

MASK = "_padding_mask"
"""Behind a camera's name: (B,) bool, False for rows that have no such picture."""


@dataclass(frozen=True)
class Reading:
    """What a language model is shown, in which order, and who sees whom."""

    language: Gpt
    ids: int = 0
    """Rows of its table of embeddings; 0 = as many as the tokenizer has."""
    towers: tuple[VisionTower, ...] = (VisionTower(),)
    """What they tell of a patch stands side by side (OpenVLA: DINOv2's and SigLIP's)."""
    values: tuple[Values, ...] = ("symmetric",)
    """How each tower's pictures are scaled."""
    framed: Framed = Framed()
    projector: Projector = Projector(1)
    image_scale: float = 1.0
    """What an image's tokens are multiplied by (SmolVLA: sqrt(W))."""
    around: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
    """Ids in front of and behind each image, not scaled as words are (SmolVLA)."""
    cameras: tuple[str, ...] = ()
    """Names in order; none: all, in file order."""
    absent: Literal["masked", "black"] = "masked"
    """What an optional camera that is not there becomes: nothing, or a black picture (pi0-FAST of openpi)."""
    blanks: int = 0
    """Places for pictures that nobody has, behind those there are; only the ids around them are read (SmolVLA)."""
    prompt: Prompt = Prompt()
    front: int = 0
    """Ids of the words that stand in front of the images (OpenVLA: 1)."""
    state: Literal["none", "vector", "token", "words"] = "none"
    """How the robot's state is shown: not here, but to the decoder as a vector (pi0); as a token (SmolVLA); in words
    (pi0.5)."""
    states: tuple[str, ...] = ("observation.state",)
    state_scaling: Mode = "mean_std"
    state_clip: bool = False
    """Whether scaled states are cut to [-1, 1] (OpenVLA-OFT)."""
    state_width: int = 0
    """Width D that scaled states are padded to with zeros; 0 = as they are."""
    state_map: Projector = Projector(1)
    """What makes a token of a state."""
    state_place: Literal["last", "images"] = "last"
    """Where its token stands: behind all, seen by nothing in front of it; or behind the images, among the rest."""
    told: tuple[int, ...] = ()
    """Ids that count with the words' in their mean, by which towers with `film` are steered (OpenVLA-OFT: those between
    words and actions, and behind them)."""
    order: Literal["whole", "causal"] = "whole"
    """Whether all tokens but a last state see each other (PaliGemma), or each what is before it (OpenVLA)."""
    ahead: tuple[int, ...] = ()
    """Ids behind the prefix, the first of the decoder's `lead`, that the prefix sees too where a plan is made, though
    not in training (LeRobot's pi0-FAST)."""
    read: bool = True
    """Off: the language model is not called here; the context has the tokens, which `Continued` reads together with
    its own (OpenVLA-OFT)."""
    planner: Spoken | None = None
    """How it says its next sub-task in words before actions are planned; none: it does not."""

    def __post_init__(self) -> None:
        if len(self.values) != len(self.towers):
            raise ValueError(f"encoder.values: expected one for each of {len(self.towers)} towers, found {self.values}")
        if any(tower.film not in (0, self.language.width) for tower in self.towers):
            raise ValueError(f"encoder.towers.film: expected 0 or the words' width {self.language.width}, found others")
        if len({(tower.image, tower.side) for tower in self.towers}) > 1:
            raise ValueError("encoder.towers: expected one size of image and as many patches, found several")
        if self.language.positions != "rotary":
            raise ValueError(f"encoder.language.positions: expected rotary, found {self.language.positions!r}")
        if (self.state == "words") != self.prompt.tells_state:
            raise ValueError(
                f"encoder.prompt.template: expected {{state}} in it where state is 'words' and only there, found "
                f"{self.prompt.template!r} with state {self.state!r}"
            )

    @property
    def estimator(self) -> None:
        """States are measured."""
        return None

    def points(self, inputs: Mapping[str, Feature]) -> None:
        """No points are shown."""
        return None

    def build(self, inputs: Mapping[str, Feature], *, steps: int = 1, along: bool = False) -> ReadingEncoder:
        """The encoder of the latest observation; raises ValueError naming an input that is absent."""
        named: dict[str, Feature] = {}
        if self.towers:
            named |= chosen(inputs, self.cameras, "image", "camera")
        for name, feature in named.items():
            if feature.width != 3:
                raise ValueError(f"camera: {name}: expected (height, width, 3), found {feature.shape}")
        if self.state != "none":
            named |= chosen(inputs, self.states, "state", "state")
        named |= chosen(inputs, (TASK,), "text", "instruction")
        return ReadingEncoder(self, named)


class ReadingEncoder(Beside):
    """Observations (B, T, ...) by name -> Context with the memory of the prefix, and the state as a vector if asked."""

    NETWORKS: ClassVar[dict[str, str | None]] = {"sight": "vision", "reader": "prefix"}
    BESIDE = tuple(NETWORKS)
    sight: Sight | None
    reader: Reader | None

    def __init__(self, config: Reading, inputs: Mapping[str, Feature]) -> None:
        super().__init__()
        self.config, self.inputs = config, dict(inputs)
        self.tokenizer, width = config.prompt.tokenizer(), config.language.width
        rows = config.ids or self.tokenizer.classes
        if self.tokenizer.classes > rows:
            raise ValueError(f"encoder.ids: expected at least the tokenizer's {self.tokenizer.classes}, found {rows}")
        self.language: GptNet = config.language.build_tokens(length=0, classes=rows, context=ContextSpec(), start=False)
        self.towers = nn.ModuleList(tower.build() for tower in config.towers)
        source = sum(tower.width for tower in config.towers)
        self.bridge = config.projector.build(source, width) if config.towers else None
        own = sum(feature.width for feature in inputs.values() if feature.type == "state")
        if config.state_width and own > config.state_width:
            raise ValueError(f"encoder.state_width: expected at least the states' {own}, found {config.state_width}")
        self.state_width = (config.state_width or own) if own else 0
        self.scale = (
            Scaled(own, mode=config.state_scaling, name="encoder.state", clip=config.state_clip) if own else None
        )
        self.state = config.state_map.build(self.state_width, width) if config.state == "token" else None
        bridge = self.bridge
        self.sight = None if bridge is None else Sight(self.towers, bridge, config.values, config.image_scale)
        self.reader = Reader(self.language, config.order == "causal") if config.read else None

    @property
    def cameras(self) -> list[str]:
        """Names of the cameras in order."""
        return [name for name, feature in self.inputs.items() if feature.type == "image"]

    @property
    def spec(self) -> ContextSpec:
        """What networks built on this encoder may rely on."""
        config, vector = self.config, self.state_width if self.config.state == "vector" else 0
        if not config.read:
            return ContextSpec(vector, token=config.language.width)
        heads = as_heads(config.language.heads).resolved(config.language.width)
        return ContextSpec(vector, memory=MemorySpec(config.language.layers, heads.n_kv_heads, heads.head_dim))

    def fit(self, numbers: Numbers) -> None:
        """Fits the scale of the states."""
        if self.scale is not None:
            names = [name for name, feature in self.inputs.items() if feature.type == "state"]
            self.scale.take(*numbers.observed(names, 1, self.scale.levels))

    def forward(self, inputs: Mapping[str, Any], *, batch: int, rng: Rng | None = None) -> Context:
        """The context of the latest step; raises ValueError naming what is absent, and a text that is too long."""
        return self._read(inputs, batch, False)

    def acting(self, inputs: Mapping[str, Any], *, batch: int) -> Context:
        """The context that a plan is made with: as `forward`, and with `ahead`."""
        return self._read(inputs, batch, True)

    def _read(self, inputs: Mapping[str, Any], batch: int, ahead: bool) -> Context:
        if "prefix" in inputs:
            from nextmove.encoders.kept_prefix import resumed

            return resumed(self, inputs)
        present(inputs, self.inputs)
        return self.context_of(inputs, self.pictures(inputs, batch), ahead=ahead)

    def context_of(
        self,
        inputs: Mapping[str, Any],
        pictures: Sequence[tuple[Tensor, Tensor | None]],
        prompt: Prompt | None = None,
        *,
        ahead: bool = False,
    ) -> Context:
        """The context of pictures, as `prefix` has them, with the instruction and the state of `inputs`.

        prompt: the words around these; none: the encoder's own.
        """
        state, prompt = self.shown(inputs), prompt or self.config.prompt
        words = self.config.state == "words"
        ids, mask = prompt.ids(self.tokenizer, prompt.texts(inputs[TASK], state if words else None))
        return self.prefix(pictures, ids, mask, None if words else state, ahead=ahead)

    def pictures(self, inputs: Mapping[str, Any], batch: int) -> list[tuple[Tensor, Tensor | None]]:
        """The pictures that there are, as `seen`."""
        found = [self.seen(inputs, name, batch) for name in self.cameras]
        return [one for one in found if one is not None]

    def seen(self, inputs: Mapping[str, Any], name: str, batch: int) -> tuple[Tensor, Tensor | None] | None:
        """A camera's picture (B, 3, S, S) in [0, 1] and whose rows have it; None where nobody has it."""
        side = self.config.towers[0].image
        if name in inputs:
            return self.config.framed(inputs[name][:, -1], side), inputs.get(name + MASK)
        return None if self.config.absent == "masked" else (torch.zeros(batch, 3, side, side), None)

    def shown(self, inputs: Mapping[str, Any]) -> Tensor | None:
        """The scaled state (B, D), in words not padded; None where none is read."""
        if self.scale is None:
            return None
        names = [name for name, feature in self.inputs.items() if feature.type == "state"]
        x = self.scale.encode(torch.cat([inputs[name][:, -1] for name in names], -1))
        return x if self.config.state == "words" else F.pad(x, (0, self.state_width - x.shape[-1]))

    def prefix(
        self,
        pictures: Sequence[tuple[Tensor, Tensor | None]],
        ids: Tensor,
        mask: Tensor | None,
        state: Tensor | None = None,
        *,
        ahead: bool = False,
    ) -> Context:
        """The context of pictures (B, 3, S, S) in [0, 1] with masks (B,), ids (B, L) with theirs, a state (B, D).

        ahead: whether the prefix sees the ids of `Reading.ahead`, which are no part of it.
        """
        x, valid, block = self.embedded(pictures, ids, mask, state)
        beyond = len(self.config.ahead) if ahead else 0
        if beyond:
            more = self.language.embed(torch.tensor(self.config.ahead, device=x.device)).expand(len(x), -1, -1)
            x, valid = torch.cat([x, more], 1), extend_valid(valid, after=beyond)
        vector = state if self.config.state == "vector" else None
        if not self.config.read:
            behind = ids.shape[1] - self.config.front + (self.state is not None and self.config.state_place == "last")
            return Context(len(x), vector, x, valid, place=x.shape[1] - beyond - behind)
        assert self.reader is not None
        memory: Memory = self.reader(x, None if bool(valid.all()) else valid, block)
        return Context(len(x), vector, memory=memory.first(memory.length - beyond) if beyond else memory)

    def embedded(
        self,
        pictures: Sequence[tuple[Tensor, Tensor | None]],
        ids: Tensor,
        mask: Tensor | None,
        state: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """What the language model is shown: (B, P, W), what of it is no padding (B, P), and blocks (P,) of sight, None
        where there is one."""
        config, like = self.config, self.language.embedding.weight
        ids = ids.to(like.device)
        words = self.language.embed(ids)
        heard = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.to(like.device).bool()
        parts = [(words[:, : config.front], heard[:, : config.front])]
        seen = self.looked(pictures, self._steering(words, heard))
        parts += [part for picture, own in seen for part in self._framed(picture, own)]
        parts += [mark for around in config.around for mark in self._marks(around, len(ids))] * config.blanks
        token = None
        if self.state is not None:
            if state is None:
                raise ValueError("state: expected the numbers of a token, found none")
            token = self.state(state.to(next(self.state.parameters())))[:, None].to(like)
        last = (words[:, config.front :], heard[:, config.front :])
        if token is None:
            parts.append(last)
        else:
            own = (token, heard.new_ones(len(token), 1))
            parts += [last, own] if config.state_place == "last" else [own, last]
        x, valid = torch.cat([part for part, _ in parts], 1), torch.cat([part for _, part in parts], 1)
        if token is None or config.state_place != "last":
            return x, valid, None
        return x, valid, torch.arange(x.shape[1], device=x.device) == x.shape[1] - 1

    def _steering(self, words: Tensor, heard: Tensor) -> Tensor | None:
        """The mean word (B, W) of a text (B, L, W), where towers are steered by it."""
        if not any(tower.film for tower in self.config.towers):
            return None
        beside = [part for part, _ in self._marks(self.config.told, len(words))]
        weight = heard[..., None].to(words)
        whole = torch.cat([words * weight, *beside], 1).sum(1)
        return whole / (weight.sum(1) + len(self.config.told))

    def looked(
        self, pictures: Sequence[tuple[Tensor, Tensor | None]], steering: Tensor | None = None
    ) -> list[tuple[Tensor, Tensor | None]]:
        """The tokens (B, N, W) of each picture, a picture a call, and whose rows have it.

        Pictures are (B, 3, S, S) in [0, 1], or all of them tokens already. steering: (B, W), of towers with `film`.
        """
        if not pictures or pictures[0][0].dim() == 3:
            return list(pictures)
        assert self.sight is not None
        like = self.language.embedding.weight
        return [(self.sight(picture, steering).to(like), mask) for picture, mask in pictures]

    def _framed(self, tokens: Tensor, mask: Tensor | None) -> list[tuple[Tensor, Tensor]]:
        """An image's tokens between the ids around it, with what of them counts."""
        heard = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        heard = heard if mask is None else heard & mask.to(tokens.device).bool()[:, None]
        before, after = (self._marks(ids, len(tokens)) for ids in self.config.around)
        return [*before, (tokens, heard), *after]

    def _marks(self, ids: tuple[int, ...], batch: int) -> list[tuple[Tensor, Tensor]]:
        if not ids:
            return []
        x = self.language.embedding(torch.tensor(ids, device=self.language.embedding.weight.device))
        return [(x.expand(batch, -1, -1), torch.ones(batch, len(ids), dtype=torch.bool, device=x.device))]
