"""Writes a pi0-FAST of ours as a folder that LeRobot 0.6.1 loads strictly."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from nextmove import weights
from nextmove.codecs import fast_files
from nextmove.decoders import Autoregressive
from nextmove.encoders.reading import Reading
from nextmove.host.files import replacing, write_json, write_text
from nextmove.interop.lerobot.config import STATE
from nextmove.interop.lerobot.refused import Refused
from nextmove.interop.lerobot.scaling import BATCH, RENAME
from nextmove.interop.pi import layout
from nextmove.interop.pi.described import shared
from nextmove.interop.pi.exporting import WEIGHTS, scales, step, steps, write_steps, write_words
from nextmove.interop.pi.steps import ABSOLUTE
from nextmove.interop.pi_fast.config import KIND, TELL, WRITE, PiFastConfig
from nextmove.interop.pi_fast.loading import FAST, table
from nextmove.models.policy import Policy
from nextmove.models.policy.pi0_fast import TOLD
from nextmove.models.policy.wording import ACTION
from nextmove.nn.continued import Continued

CARD = """# pi0-FAST

A policy trained with [nextmove](https://pypi.org/project/nextmove), for LeRobot 0.6: `pi0_fast` for {fps:g} actions a
second, which the folder says nowhere else. It reads {inputs}. Images are in [0, 1], channels first.

The tokenizer of its actions is in `{fast}`; where LeRobot is started elsewhere than beside it, it is told so:
`--policy.action_tokenizer_name=THIS/FOLDER/{fast}`.
"""


def export(policy: Policy, folder: Path | str) -> PiFastConfig:
    """Writes config, weights, processors with their statistics, tokenizers and a card, and returns the config.

    Raises ConfigError naming everything that LeRobot has no place for, and OSError for a folder that holds something.
    """
    folder, config = Path(folder), described(policy)
    with replacing(folder) as part:
        part.mkdir()
        write_json(part / "config.json", {**asdict(config), "type": KIND}, indent=4)
        found = layout.scattered(table(policy), policy.state_dict())
        # LeRobot has a head of its own, which begins as the table of embeddings.
        found.setdefault(layout.HEAD, found[layout.EMBEDDING].clone())
        weights.write(part / WEIGHTS, {f"model.{name}": value for name, value in found.items()})
        scale, back, relative, tokenize, device = steps(config)
        write = step(
            WRITE, trust_remote_code=True, max_action_tokens=config.max_action_tokens,
            action_tokenizer_name=config.action_tokenizer_name,
        )  # fmt: skip
        tell = step(TELL, max_state_dim=config.max_state_dim, task_key="task")
        before = [step(RENAME, rename_map={}), step(BATCH), relative, scale, tell, tokenize, write, device]
        absolute = step(ABSOLUTE, enabled=config.use_relative_actions)
        write_steps(part, before, [back, absolute, device], *scales(policy))
        write_words(part, policy)
        actions: Any = policy.codec
        fast_files.write(actions.fast.fast, part / FAST, steps=actions.fast.horizon, width=actions.fast.width)
        inputs = ", ".join(f"`{name}` {list(feature.shape)}" for name, feature in config.input_features.items())
        write_text(part / "README.md", CARD.format(fps=policy.spec.fps, inputs=inputs, fast=FAST))
    return config


def described(policy: Policy) -> PiFastConfig:
    """The config; raises ConfigError with all that LeRobot has no place for."""
    refused = Refused("export")
    reading, own = getattr(policy.encoder, "config", None), getattr(policy.decoder, "config", None)
    codec: Any = policy.codec
    trunk = getattr(own, "trunk", None)
    if not isinstance(reading, Reading) or not isinstance(own, Autoregressive) or not isinstance(trunk, Continued):
        raise refused.problem("a policy that is no pi0-FAST")
    if codec.fast is None:
        raise refused.problem("actions in bins; train with --recipe.actions.fast 2048")
    usual = Reading(reading.language)
    for field in ("values", "framed", "image_scale", "front", "order", "read", "around", "absent", "planner"):
        found, expected = getattr(reading, field), getattr(usual, field)
        refused.unless(found == expected, f"encoder.{field} {found!r}; train with {expected!r}")
    prompt = reading.prompt
    refused.unless(reading.state == "words", f"the state shown as {reading.state!r}")
    refused.unless(prompt.template == TOLD and prompt.clean, f"the prompt {prompt.template!r}; train with {TOLD!r}")
    refused.unless(prompt.classes > 0, "words read as bytes; train with --tokenizer FILE")
    refused.unless(len(reading.states) == 1, f"several states {reading.states}")
    runs = trunk.vocabulary
    down = len(runs) == 2 and runs[0][2] == -1 and runs[0][0] < (reading.ids or prompt.classes)
    refused.unless(down, f"ids of actions at {runs}; they go down from one of the last")
    lead, timing = trunk.lead[:1], policy.timing
    refused.unless(
        reading.ahead == lead,
        f"a prompt that sees {reading.ahead} of the answer where it plans; train with --recipe.encoder.ahead {lead[0]}",
    )
    # Its reader of ids takes a chunk to be as long as what is executed of it (0.6.1).
    refused.unless(
        timing.n_action_steps == timing.horizon,
        f"{timing.n_action_steps} executed of {timing.horizon} actions; export with --execute {timing.horizon}",
    )
    refused.unless(not codec.per_step, "a scale for each step; train with --recipe.actions.no-per-step")
    relative = codec.relative
    fits = relative.plain or (relative.space == "relative" and not relative.poses and relative.frame is None)
    refused.unless(fits, f"actions {codec.space}; train with --recipe.actions.space absolute")
    refused.check()
    return _config(policy, reading, own, trunk)


def _config(policy: Policy, reading: Reading, own: Autoregressive, trunk: Continued) -> PiFastConfig:
    codec: Any = policy.codec
    words: Any = policy.encoder.tokenizer  # type: ignore[attr-defined]
    count = words.backend.get_vocab_size(with_added_tokens=False) if words.files() else reading.prompt.classes
    length = codec.fast.length + len(trunk.lead)
    common = shared(policy, reading)
    return PiFastConfig(
        type=KIND,
        max_state_dim=max(32, common["input_features"][STATE].shape[0]),
        max_action_dim=max(32, policy.spec.action),
        max_action_tokens=length,
        max_decoding_steps=length,
        action_tokenizer_name=FAST,
        temperature=own.sampling.temperature,
        fast_skip_tokens=count - 1 - trunk.vocabulary[0][0],
        validate_action_token_prefix=_spelled(words) == ["Action", ":"],
        **common,
    )


def _spelled(words: Any) -> list[str]:
    """The first tokens of what stands in front of a chunk's ids, by which LeRobot knows that one follows."""
    return [words.backend.id_to_token(i) for i in words.encode(ACTION)[:2].tolist()] if words.files() else []
