"""Instructions of all simulated tasks fit into what policies that read have room for."""

from __future__ import annotations

import pytest

from nextmove.encoders.prompt import Prompt
from nextmove.encoders.reading import Reading
from nextmove.sim import SUITES
from nextmove.systems import built

TASKS = [task.instruction for tasks in SUITES.values() for task in tasks]
READS = [s for s in built("vision-language-action") if isinstance(getattr(s.load()(), "encoder", None), Reading)]


@pytest.mark.parametrize("system", READS, ids=lambda s: s.name)
def test_instructions_and_states_fit(system) -> None:  # type: ignore[no-untyped-def]
    prompt = system.load()().encoder.prompt
    longest = max(len(text.encode()) for text in prompt.texts(TASKS)) + 2 * prompt.special
    state = 14 * len(" 255") if prompt.tells_state else 0
    assert longest + state <= prompt.length


def test_a_text_that_is_too_long_names_the_option() -> None:
    prompt = Prompt(length=4)
    with pytest.raises(ValueError, match=r"expected at most 4 ids, found 10 .*--recipe\.encoder\.prompt\.length"):
        prompt.ids(prompt.tokenizer(), prompt.texts(["push it"]))
