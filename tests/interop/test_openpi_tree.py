"""openpi's checkpoints of JAX: their trees read without JAX, and answers equal to those of openpi's own modules."""

from __future__ import annotations

import builtins
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nextmove.codecs.byte_level import bpe
from nextmove.codecs.fast import Fast
from nextmove.codecs.spelling import spelling
from nextmove.config import ConfigError
from nextmove.contracts import TASK, Context, seeded
from nextmove.folders import open_folder
from nextmove.interop import openpi_kinds, pi, pi_fast
from nextmove.interop.pi import tree
from nextmove.interop.pi.config import Stack
from nextmove.weights.orbax import names, read_tree

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = {kind: GOLDEN / f"openpi_{kind}" for kind in ("pi0", "pi05", "fast")}
OWN = "observation.state"
WORDS = bpe([*spelling(), "<pad>", "<bos>", "<eos>", *(f"<{i}>" for i in range(41))], [])
"""As many ids as the tree has rows."""
PIECES = 40


@pytest.fixture(autouse=True)
def _reader() -> None:
    pytest.importorskip("tensorstore", reason="tensorstore, which reads Orbax's trees, is not installed")


def recorded(kind: str) -> dict[str, torch.Tensor]:
    """Inputs and answers of openpi's modules (siglip.py, gemma.py, gemma_fast.py) with the tree's weights."""
    return {name: torch.from_numpy(value) for name, value in np.load(CASES[kind] / "io.npz").items()}


@pytest.mark.parametrize("form", ["ocdbt", "zarr", "zarr3"])
def test_a_tree_of_every_form_is_read(form: str) -> None:
    found = dict(read_tree(GOLDEN / "orbax" / form))
    assert torch.equal(found["params/a/b"], torch.arange(6.0).reshape(2, 3))
    assert found["params/c"].dtype == torch.bfloat16
    assert found["params/c"].tolist() == [1.5, -2.0]
    assert dict(read_tree(GOLDEN / "orbax" / form, torch.float32))["params/c"].dtype == torch.float32


@pytest.mark.parametrize("kind", ["pi0", "pi05"])
def test_velocities_are_openpis(kind: str) -> None:
    io, loaded = recorded(kind), pi.load_openpi(CASES[kind], fps=10.0, horizon=5)
    policy: Any = loaded.policy
    encoder = policy.encoder
    state = io["state"] if kind == "pi0" else None
    with torch.no_grad():
        ctx = encoder.prefix([(io["pics"].permute(0, 3, 1, 2), None)], io["ids"].long(), io["mask"], state)
        found = -policy.decoder.net(io["noisy"], io["t"][:, None], ctx)
    torch.testing.assert_close(found, io["velocity"], atol=2e-5, rtol=1e-4)
    assert open_folder(CASES[kind]).kind == "openpi"
    assert loaded.report.notes[-1] == "statistics of toy"
    assert policy.timing.horizon == 5
    assert type(openpi_kinds.load(CASES[kind]).policy.recipe) is type(policy.recipe)


@pytest.fixture
def fast(tmp_path: Path) -> Path:
    """pi0-FAST's folder with a tokenizer of words."""
    folder = Path(shutil.copytree(CASES["fast"], tmp_path / "fast"))
    (folder / "tokenizer.json").write_text(WORDS.text)
    return folder


def test_logits_of_pi0_fast_are_openpis(fast: Path) -> None:
    io, loaded = recorded("fast"), pi_fast.load_openpi(fast, horizon=6, fast=Fast(vocabulary=PIECES))
    encoder: Any = loaded.policy.encoder
    with torch.no_grad():
        ctx = encoder.prefix([(io["pics"].permute(0, 3, 1, 2), None)], io["ids"].long(), io["mask"])
        own = encoder.language.embed(io["behind"].long())
        h, _ = encoder.language.read_embedded(own, Context.empty(2), ctx.memory)
        found = encoder.language.logits(h)
    torch.testing.assert_close(found, io["logits"], atol=2e-5, rtol=1e-4)
    assert encoder.config.prompt.texts(["Push_It"], torch.zeros(1, 3)) == ["Task: push it, State: 128 128 128;\n"]
    assert "no tokenizer of actions" in str(loaded.report)
    assert not openpi_kinds.acts(fast)


def test_pi0_fast_acts_and_learns_with_both_tokenizers(fast: Path) -> None:
    made = Fast(vocabulary=PIECES)
    made.fit([0.05 * torch.randn(6, 2, generator=seeded(i)) for i in range(40)])
    policy = pi_fast.load_openpi(fast, horizon=6, fast=made).policy
    # A text has begun in the prompt already.
    assert policy.decoder.net.config.lead == tuple(b"Action: ")  # type: ignore[attr-defined]
    assert policy.decoder.net.config.vocabulary[0] == (300 - 1 - 128, PIECES, -1)  # type: ignore[attr-defined]
    seen = torch.randint(0, 256, (2, 1, 224, 224, 3), generator=seeded(1), dtype=torch.uint8)
    obs = {"observation.images.base_0_rgb": seen, OWN: torch.zeros(2, 1, 3), TASK: ["push", "open it"]}
    assert policy.act(obs, rng=seeded(2)).actions.shape == (2, 6, 2)
    batch = {**obs, "action": 0.05 * torch.randn(2, 6, 2), "action_is_pad": torch.zeros(2, 6, dtype=torch.bool)}
    assert policy.loss(batch, rng=seeded(3))["nll"].isfinite()


def test_sizes_are_those_of_the_arrays() -> None:
    tensors, sizes = tree.read(CASES["pi05"] / "params")
    assert (sizes.language, sizes.expert, sizes.ids) == (Stack(32, 2, 48, 4, 1, 8), Stack(16, 2, 24, 4, 1, 8), 300)
    assert (sizes.tower.image, sizes.tower.patch, sizes.tower.width, sizes.tower.layers) == (16, 8, 16, 2)
    assert not any("Dense_0" in name or "einsum" in name for name in tensors)
    assert tree.place(CASES["pi05"] / "params") == CASES["pi05"] / "params"


def spoiled(tmp_path: Path, change: Any) -> Path:
    folder = Path(shutil.copytree(CASES["pi0"], tmp_path / "pi0"))
    path = folder / "params" / "_METADATA"
    data = json.loads(path.read_text())
    change(data["tree_metadata"])
    path.write_text(json.dumps(data))
    return folder


def test_what_is_wrong_with_a_tree_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def respelled(metadata: Any) -> None:
        key = next(name for name in metadata if "state_proj" in name and "bias" in name)
        metadata[key]["key_metadata"][1]["key"] = "state_project"

    def gone(metadata: Any) -> None:
        del metadata[next(name for name in metadata if "q_einsum'" in name)]

    with pytest.raises(ConfigError, match="state_project/bias/value: expected an array, found none that can be read"):
        pi.load_openpi(spoiled(tmp_path / "a", respelled))
    with pytest.raises(ConfigError, match="q_einsum/w: expected an array of 4 axes, found none"):
        pi.load_openpi(spoiled(tmp_path / "b", gone))
    with pytest.raises(ConfigError, match="tree_metadata: expected an object of arrays"):
        names(spoiled(tmp_path / "c", lambda metadata: metadata.clear()) / "params")
    with pytest.raises(FileNotFoundError, match="expected a tree of arrays with _METADATA"):
        names(tmp_path)
    bare = Path(shutil.copytree(CASES["fast"], tmp_path / "bare"))
    shutil.rmtree(bare / "assets")
    with pytest.raises(ConfigError, match="says how wide states and actions are"):
        pi_fast.load_openpi(bare)
    kept = builtins.__import__

    def absent(name: str, *rest: Any, **named: Any) -> Any:
        if name == "tensorstore":
            raise ImportError("No module named 'tensorstore'")
        return kept(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ConfigError, match=r"need tensorstore .*: pip install tensorstore"):
        pi.load_openpi(CASES["pi0"])
