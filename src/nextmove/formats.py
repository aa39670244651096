"""Configs of saved models of earlier formats, in the words of today.

Up to format 2 a policy's recipe had a `representation`, of which the encoder and the action space are made now, and its
spec had widths by feature; how ids are drawn stood in the decoder, where it is one part now. Kinds and fields that were
called otherwise are in two tables. Until an action space had `keep`, a file said `auto` where it meant `shown`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TOKENS = ("LstmGmm", "DiffusionTransformer")
"""Recipes that showed each observed step as a token."""
SAMPLING = ("temperature", "top_k", "top_p", "min_p", "repetition", "no_repeat")
"""How ids are drawn."""
SHOWN = {"anchor": "reference", "fine": "near_scale"}
"""Fields of a representation -> those of the part that shows states."""
MASKED = ("Act",)
"""Recipes in whose loss padding did not count."""


KINDS = {
    "Dense": "DenseMlp",
    "Gated": "GatedMlp",
    "Guide": "PseudoInverseGuidance",
    "Posterior": "ActVaeEncoder",
    "Replace": "Replacement",
    "Resample": "RePaint",
    "Stretch": "RopeScaling",
}
"""The kind of a part before format 3 -> its kind now."""
FIELDS = {
    "Gpt": {"scale": "embed_scale"},
    "Heads": {"count": "n_heads", "shared": "n_kv_heads", "width": "head_dim"},
    "RopeScaling": {"trained": "original_length", "low": "low_freq", "high": "high_freq"},
    "Rotary": {"stretch": "scaling"},
    "Sampler": {"completion": "inpainting"},
}
"""The kind of a part now -> its fields before format 3 -> their names now."""


def up_to_date(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config.json of a saved model as format 3 has it; of another one it is left as it is."""
    made = dict(config)
    if config["format"] < 3:
        recipe, spec = _renamed(config["recipe"]), _renamed(config["spec"])
        made["recipe"], made["spec"] = _sampled(_recipe(recipe)), _spec(spec)
    actions = made["recipe"].get("actions")
    if isinstance(actions, dict) and "keep" not in actions:
        made["recipe"] = {**made["recipe"], "actions": _undecided(actions)}
    return made


def _undecided(actions: Mapping[str, Any]) -> dict[str, Any]:
    """An action space written when nothing was kept absolute and when names did not decide."""
    space = actions.get("space", "auto")
    return {**actions, "space": "shown" if space == "auto" else space, "keep": []}


def _renamed(value: Any) -> Any:
    """A config with the names of today, at any depth."""
    if isinstance(value, list):
        return [_renamed(part) for part in value]
    if not isinstance(value, dict):
        return value
    kind = value.get("kind")
    kind = KINDS.get(kind, kind) if isinstance(kind, str) else kind
    fields = FIELDS.get(kind, {}) if isinstance(kind, str) else {}
    made = {fields.get(name, name): _renamed(part) for name, part in value.items()}
    return made if kind is None else {**made, "kind": kind}


def _recipe(recipe: Mapping[str, Any]) -> dict[str, Any]:
    if "representation" not in recipe:
        return dict(recipe)
    made = {name: value for name, value in recipe.items() if name != "representation"}
    # What a config leaves out has its default, in both formats the same.
    shown = {name: value for name, value in recipe["representation"].items() if name != "kind"}
    actions = {**recipe.get("actions", {})}
    for old, new in (("actions", "space"), ("anchor", "reference"), ("frame", "frame")):
        if old in shown:
            actions[new] = shown[old]
    actions["mask_padding"] = recipe.get("kind") in MASKED
    part = {SHOWN.get(name, name): shown[name] for name in shown if name not in ("actions", "frame")}
    tokens = recipe.get("kind") in TOKENS
    made["encoder"] = {"kind": "Observation", "parts": [{"kind": "State", **part}], "tokens": tokens}
    return {**made, "actions": actions}


def _sampled(recipe: Mapping[str, Any]) -> dict[str, Any]:
    decoder = recipe.get("decoder", {})
    flat = {name: decoder[name] for name in SAMPLING if name in decoder}
    if decoder.get("kind") != "Autoregressive" or not flat:
        return dict(recipe)
    rest = {name: value for name, value in decoder.items() if name not in flat}
    return {**recipe, "decoder": {**rest, "sampling": {"kind": "Sampling", **flat}}}


def _spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    if "features" not in spec:
        return dict(spec)
    names = spec.get("names", {})
    inputs = {
        name: {"kind": "Feature", "type": "state", "shape": [width], "names": list(names.get(name, ()))}
        for name, width in spec["features"].items()
    }
    made = {name: value for name, value in spec.items() if name not in ("features", "ignored", "names")}
    return {**made, "inputs": inputs, "action_names": list(names.get("action", ()))}
