"""Whose model a folder or file holds, decided here alone: ours, LeRobot's, FlowPolicy's, a Hugging Face one by their
config.json; llama.cpp's by its ending, or by the name of a package that brings one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nextmove.config import ConfigError, read_object
from nextmove.host.found import found
from nextmove.systems import Family, find

Kind = Literal["nextmove", "lerobot", "flowpolicy", "hf", "openvla", "openpi", "gguf"]
Holds = Literal["policy", "generator", "encoder", "vision-language"]

PLACES = ("model", ".", "pretrained_model", "checkpoints/last/pretrained_model")
"""Where a model lies in a folder: in a run of ours, as it is, in a training step or a run of LeRobot."""
FLOWPOLICY = ("agent_pos_dim", "action_dim")
"""Keys without which FlowPolicy's policy cannot be built."""
OPENPI = ("action_dim", "action_horizon", "paligemma_variant")
"""Keys that openpi's conversion to PyTorch writes."""
TREE, METADATA = "params", "_METADATA"
"""Where openpi's checkpoints of JAX have their weights, and what describes such a tree."""
HOLDS: Mapping[Kind, Holds] = {
    "lerobot": "policy",
    "flowpolicy": "policy",
    "hf": "generator",
    "openvla": "policy",
    "openpi": "policy",
    "gguf": "generator",
}
FAMILIES: Mapping[Family, Holds] = {
    "policy": "policy",
    "text": "generator",
    "image": "generator",
    "vision-language": "vision-language",
    "vision-language-action": "policy",
}
WHAT: Mapping[Holds, str] = {
    "policy": "a policy",
    "generator": "a generator of text or images",
    "encoder": "an encoder of images or texts",
    "vision-language": "a model of images and texts",
}
SIGHTED = ("clip", "siglip", "blip", "llava", "paligemma", "smolvlm", "idefics3", "idefics", "flamingo")
"""Beginnings of the model_type of transformers' models that read images."""
ENCODERS = ("vit", "dinov2", "bert", "t5")
"""Likewise of those that make vectors of images or texts and nothing else."""
COMPARING = ("clip", "siglip", "blip")
"""Beginnings of the names of those that put images and texts side by side."""
USED_BY: Mapping[Holds, str] = {
    "policy": "`nextmove evaluate` and `nextmove compare --runs` judge it, `nextmove inspect` describes it",
    "generator": "`nextmove evaluate` judges it, `nextmove generate` draws from it, `nextmove inspect` describes it",
    "encoder": "`nextmove inspect` describes it",
    "vision-language": "`nextmove evaluate` judges it, `nextmove ask` asks it, `nextmove inspect` describes it",
}
"""What the commands do with it."""


@dataclass(frozen=True)
class Saved:
    """A folder (or file) with a model in it: whose it is, the folder of its config.json, and what that says."""

    kind: Kind
    folder: Path
    config: Mapping[str, Any]
    notice: str = ""
    """What a package's model is and under which licence it may be used, to be shown."""

    @property
    def whose(self) -> str:
        """The kind as text, with the name that the model has there."""
        names = {
            "nextmove": f"nextmove ({self.config.get('system')})",
            "lerobot": f"LeRobot ({self.config.get('type')})",
            "flowpolicy": "FlowPolicy",
            "hf": f"transformers ({self.config.get('model_type')})",
            "openvla": "OpenVLA",
            "openpi": "openpi",
            "gguf": "llama.cpp (GGUF)",
        }
        return names[self.kind]

    @property
    def holds(self) -> Holds:
        """What kind of model it is; raises ConfigError for a system of ours that there is not."""
        if self.kind == "hf" and str(self.config["model_type"]).startswith(SIGHTED):
            return "vision-language"
        if self.kind == "hf" and str(self.config["model_type"]).startswith(ENCODERS):
            return "encoder"
        if self.kind != "nextmove":
            return HOLDS[self.kind]
        if "system" not in self.config:
            raise ConfigError(f"{self.folder / 'config.json'}: missing key 'system'")
        try:
            family = find(str(self.config["system"])).family
        except ConfigError as problem:
            raise ConfigError(f"{self.folder / 'config.json'}: {problem}") from None
        return FAMILIES[family]

    def foreign(
        self,
        *,
        fps: float | None = None,
        unnorm_key: str | None = None,
        refitted: bool = False,
        cameras: Mapping[str, tuple[int, int]] | None = None,
        packed: bool = False,
    ) -> Any:
        """What another project's folder is read as, with a report of how: `interop.Loaded`, `hf.Language`, `hf.Read`.

        fps: actions a second, which folders of policies do not say; unnorm_key: the data set in whose units OpenVLA
        acts, refitted: those give way to other data's, so any will do; cameras: names and sizes of what it is shown.
        packed: weights stay as a GGUF file packs them.

        Raises ConfigError naming the key or tensor that is wrong, and for a model that cannot be run yet.
        """
        self.check_unit(unnorm_key)
        from nextmove.interop import flowpolicy, gguf, hf, lerobot_types, openpi_kinds, openvla

        if self.kind == "gguf":
            return gguf.load_kept(self.folder)[0] if packed else gguf.load(self.folder)
        if self.kind == "hf":
            return hf.load(self.folder)
        policies: Mapping[str, Callable[..., Any]] = {
            "lerobot": lerobot_types.load, "flowpolicy": flowpolicy.load, "openpi": openpi_kinds.load,
        }  # fmt: skip
        if self.kind == "openvla":
            return openvla.load(self.folder, openvla.Asked.shown(unnorm_key, cameras, fps, refitted))
        if self.kind in policies:
            return policies[self.kind](self.folder, fps=fps)
        raise ConfigError(f"{self.folder}: expected a model of another project that can be run, found {self.whose}")

    def check_unit(self, unnorm_key: str | None) -> None:
        """Raises ConfigError for a choice of units where there is none."""
        if unnorm_key is not None and self.kind != "openvla":
            raise ConfigError(
                f"unnorm_key: {self.folder} is {self.whose}'s; only OpenVLA's folders have several units; leave it out"
            )

    @property
    def compares(self) -> bool:
        """Whether it puts images and texts side by side (CLIP, SigLIP, BLIP), in place of answering about images."""
        name = self.config.get("system") if self.kind == "nextmove" else self.config.get("model_type")
        return str(name).startswith(COMPARING)

    @property
    def used_by(self) -> str:
        """Which commands use it, as text."""
        if self.compares:
            captions = ", `nextmove caption` writes with it" if "blip" in self.whose else ""
            return f"`nextmove evaluate` judges it, `nextmove search` finds images by it{captions}"
        return USED_BY[self.holds]

    def expect(self, what: Holds) -> Saved:
        """The same; raises ConfigError that says which command uses what there is where it is something else."""
        if self.holds != what:
            raise ConfigError(
                f"{self.folder}: expected {WHAT[what]}, found {WHAT[self.holds]} of {self.whose}; {self.used_by}"
            )
        return self


def open_folder(folder: Path | str) -> Saved:
    """Whose model a folder, or a run's folder, holds; or a .gguf file, or a package named instead of a path.

    Raises FileNotFoundError for a folder without one, and ConfigError naming its config.json for a damaged one or one
    of nobody known, and for a package that is not installed.
    """
    if not Path(folder).exists():
        # Only for what is no path: whoever loads a policy of this house imports no other project's formats.
        from nextmove.interop.packaged import PACKAGED

        if model := PACKAGED.get(str(folder)):
            return Saved("gguf", model.file(), {}, model.licence)
    if Path(folder).suffix == ".gguf" and Path(folder).is_file():
        return Saved("gguf", Path(folder), {})

    for place in PLACES:
        path = Path(folder) / place / "config.json"
        if path.is_file():
            config = read_object(path)
            return Saved(_kind(path, config), path.parent, config)
    for path in (Path(folder), Path(folder) / TREE):
        if (path / METADATA).is_file():
            return Saved("openpi", Path(folder), {})
    raise FileNotFoundError(f"{folder}: expected a saved model with config.json; {found(folder, 'model')}")


def _kind(path: Path, config: Mapping[str, Any]) -> Kind:
    if "format" in config:
        return "nextmove"
    if isinstance(config.get("vla"), Mapping) and "base_vlm" in config["vla"]:
        return "openvla"
    if "type" in config:
        return "lerobot"
    if "model_type" in config:
        return "openvla" if config["model_type"] == "openvla" else "hf"
    if all(name in config for name in FLOWPOLICY):
        return "flowpolicy"
    if all(name in config for name in OPENPI):
        return "openpi"
    raise ConfigError(
        f"{path}: expected a model of nextmove (key 'format'), LeRobot ('type'), transformers ('model_type'), "
        f"FlowPolicy ({' and '.join(map(repr, FLOWPOLICY))}) or openpi ({', '.join(map(repr, OPENPI))}), found "
        f"{sorted(config)[:8]}"
    )
