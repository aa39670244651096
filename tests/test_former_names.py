"""Public names of before that still answer, and say how they are called now."""

from __future__ import annotations

import pytest

from nextmove import data, sim


def test_images_were_called_pictures() -> None:
    with pytest.warns(DeprecationWarning, match=r"data\.images"):
        assert data.pictures is data.images
    with pytest.raises(AttributeError, match="no attribute 'films'"):
        _ = data.films


def test_entries_of_a_task_were_called_features_of_a_simulator() -> None:
    with pytest.warns(DeprecationWarning, match=r"sim\.task\(name\)\.entries"):
        assert sim.features("pusht") == sim.task("pusht").entries()
    with pytest.warns(DeprecationWarning, match=r"sim\.task"):
        assert "observation.image" in sim.features("pusht", images=True)
