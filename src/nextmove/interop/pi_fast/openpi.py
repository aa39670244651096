"""Reads pi0-FAST of openpi's, which releases it as JAX's tree alone, or in the names of its conversion to PyTorch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from nextmove.codecs.fast import Fast
from nextmove.config import ConfigError, decode
from nextmove.interop.pi import layout, statistics, words
from nextmove.interop.pi.composed import robot
from nextmove.interop.pi.config import Sizes
from nextmove.interop.pi.filling import fill
from nextmove.interop.pi.opening import FPS, assumed
from nextmove.interop.pi.openpi import opened, shared
from nextmove.interop.pi_fast.composed import Places, recipe
from nextmove.interop.pi_fast.config import KIND, PiFastConfig
from nextmove.interop.pi_fast.loading import codec_of, give, table
from nextmove.interop.report import Loaded, Report
from nextmove.interop.weights import building, naming
from nextmove.models.model import Card
from nextmove.models.policy.pi0_fast import Pi0Fast

CAMERAS = ("base_0_rgb", "base_1_rgb", "wrist_0_rgb")
"""openpi's, in order; those that a robot has not are black pictures."""
HORIZON, LENGTH = 32, 250
"""Actions of a chunk, and ids of words, where nothing says it, as of openpi's config."""


def load_openpi(
    folder: Path | str,
    *,
    fps: float | None = None,
    dtype: torch.dtype | None = None,
    asset: str | None = None,
    sizes: Sizes | None = None,
    horizon: int = 0,
    fast: Fast | Path | str | None = None,
) -> Loaded:
    """The policy of a folder with `params` and `assets`, whose statistics say how wide states and actions are.

    horizon: actions of a chunk, which trees do not say (32 if not given); fast: as of `pi_fast.load`; the rest and
    errors as of `pi.load_openpi`. Plans begin behind "Action: "; positions are those of training, from which openpi's
    own decoding is one off.
    """
    folder = Path(folder)
    with naming(folder):
        found = opened(folder, dtype, sizes, horizon, HORIZON)
        norms, which = statistics.of_assets(folder, asset)
        if not norms:
            raise ConfigError(
                "assets: expected a folder with norm_stats.json, which says how wide states and actions are, found none"
            )
        data = shared(found.plain, KIND, norms, CAMERAS)
        data |= {
            "tokenizer_max_length": LENGTH, "max_action_tokens": LENGTH, "max_decoding_steps": LENGTH,
            "normalization_mapping": {"VISUAL": "IDENTITY", "STATE": "QUANTILES", "ACTION": "QUANTILES"},
        }  # fmt: skip
        config = decode(PiFastConfig, data, where="config.json")
        ids, codec = words.tokenizer(folder, found.sizes.ids), codec_of(folder, config, fast)
        spec = robot(config, [f"observation.images.{name}" for name in CAMERAS[1:]], {}, FPS if fps is None else fps)
        plain, ignored = layout.tidied(found.tensors, where=str(folder))
        places = Places.of(config, found.sizes.ids, ids)
        made = openpis(recipe(config, found.sizes, spec, places, codec, tied=True, hash=ids.hash))
        with building():
            policy = made.build(spec)
        policy.card = Card("pi0-fast", policy.recipe, spec)
        pieces = table(policy)
        fill(policy, pieces, plain, where=str(folder), dtype=dtype)
        names = {piece.name: ours for ours, parts in pieces.items() for piece in parts}
        notes = [f"statistics of {which}", *assumed(fps)]
        notes += give(policy, codec, ids) + statistics.give(policy, *statistics.scales(norms, config))
        report = Report(KIND, found.version, tuple(names), ignored, (), (*found.notes, *notes))
        return Loaded(policy.eval(), report, config, names)


def openpis(own: Pi0Fast) -> Pi0Fast:
    """LeRobot's recipe as openpi has it: small letters, black pictures for absent cameras, one beginning of a text."""
    encoder = replace(own.encoder, absent="black", ahead=(), prompt=replace(own.encoder.prompt, lower=True))
    trunk: Any = own.decoder.trunk
    decoder = replace(own.decoder, trunk=replace(trunk, lead=trunk.lead[1:]))
    return replace(own, encoder=encoder, decoder=decoder)
