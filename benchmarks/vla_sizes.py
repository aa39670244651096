"""Sizes of pi0's parts that its peers have no name for, told to the classes of a peer; nothing else is changed.

`vla_peers.py` runs in our environment, `vla_lerobot.py` and `vla_openpi.py` in the peers', which have transformers.
"""

from __future__ import annotations

from typing import Any

SHARED = {"depth": 2, "num_heads": 8, "num_kv_heads": 1, "head_dim": 16}
"""Eight heads, a number that the peers' attention has in its code."""
GEMMA = {
    "gemma_2b": {"width": 64, "mlp_dim": 128, **SHARED},
    "gemma_300m": {"width": 32, "mlp_dim": 64, **SHARED},
}
VISION = {
    "image_size": 224, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "patch_size": 56, "projection_dim": 64,
}  # fmt: skip


def tell(module: Any, whole: str, expert: str, ids: int) -> None:
    """Wraps the classes of these names in a peer's module: they are built at the sizes above, for so many ids."""
    plain, acting = getattr(module, whole), getattr(module, expert, None)

    def seen(config: Any) -> Any:
        config._vocab_size = config.image_token_index = config.text_config.vocab_size = ids
        for name, value in VISION.items():
            setattr(config.vision_config, name, value)
        return plain(config=config)

    def acts(config: Any) -> Any:
        assert acting is not None
        config.vocab_size = ids
        return acting(config=config)

    setattr(module, whole, seen)
    setattr(module, expert, acts)
