"""Work in threads comes back in order and fails as a loop would."""

from __future__ import annotations

import pytest

from nextmove.host.threads import cores, threaded


@pytest.mark.parametrize("count", [0, 1, 7])
def test_results_are_in_order_and_the_first_failure_is_raised(count: int) -> None:
    assert cores() >= 1
    assert threaded(lambda n: n * n, range(count)) == [n * n for n in range(count)]

    def fails(n: int) -> int:
        if n >= 3:
            raise ValueError(str(n))
        return n

    if count > 3:
        with pytest.raises(ValueError, match=r"^3$"):
            threaded(fails, range(count))
