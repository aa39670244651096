"""Text with weights that stay packed as a file packs them, by kernels of our own that numba compiles."""

from __future__ import annotations

from typing import TypeVar

from nextmove.config import ConfigError
from nextmove.contracts.networks import Networked

Model = TypeVar("Model", bound=Networked)


def packed(model: Model) -> Model:
    """The same model, changed in place: its weights of 4 and 8 bits are multiplied as a file packs them, in float32.

    Weights that no file packs so are rounded to 8 bits, 32 of a row to one scale. One text at a time; several at once
    are computed by torch.

    Raises ConfigError where numba is not installed, and for a model that is no transformer that writes token by token
    or has parts without a kernel.
    """
    try:
        import numba  # noqa: F401
    except ImportError as error:
        raise ConfigError("runtime: packed needs numba, which is not installed; pip install numba") from error
    from nextmove.runtime.packed.stream import exchange

    networks = model.networks()
    if "token" not in networks:
        kinds = ", ".join(networks)
        raise ConfigError(f"runtime: packed runs networks that write token by token, found {kinds}; take openvino")
    exchange(networks["token"])
    return model
