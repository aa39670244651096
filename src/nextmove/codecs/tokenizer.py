"""Text as ids by a `tokenizers.Tokenizer` (Hugging Face): BPE, WordPiece and Unigram with all that belongs to them.

It is saved as `tokenizer.json`, which other libraries read too. Shapes: B texts, L ids.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from hashlib import blake2b
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from nextmove.codecs.spelling import spelling, utf8
from nextmove.config import ConfigError

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

FILE = "tokenizer.json"
PAD_TOKENS = ("<pad>", "[PAD]", "<|pad|>")
REMEMBERED = 4096
"""Texts whose ids are kept: instructions come again and again."""
Side = Literal["left", "right"]


def parsed(text: str) -> Backend:
    """The tokenizer that `tokenizer.json` holds, without padding and truncation; raises ValueError for none."""
    from tokenizers import Tokenizer as Backend

    # The library raises plain exceptions.
    try:
        found = Backend.from_str(text)
    except Exception as problem:
        raise ValueError(f"expected a tokenizer of the library `tokenizers`, found none ({problem})") from None
    found.no_padding()
    found.no_truncation()
    return found


class Tokens(NamedTuple):
    """Texts side by side: ids (B, L) int64 and mask (B, L) bool, False for padding."""

    ids: Tensor
    mask: Tensor


class Tokenizer(nn.Module):
    """Map between texts and ids; exact in both directions where the tokenizer is one over bytes.

    Padding and truncation are arguments of `batch`: what the file says of them is not heeded. One made with `absent`
    knows nothing until `read_files` finds the file beside a saved model's weights.
    """

    def __init__(self, text: str, *, classes: int = 0) -> None:
        """text: what `tokenizer.json` holds; classes: ids of the model, 0 = as many as there are.

        Raises ValueError for a text that is no tokenizer, or one of more ids than `classes`.
        """
        super().__init__()
        self.text, self._count, self._classes, self._expected = "", 0, classes, ""
        self._backend: Backend | None = None
        self._ids: dict[tuple[str, bool], list[int]] = {}
        if text:
            self._fill(text)

    @classmethod
    def absent(cls, classes: int, hash: str = "") -> Tokenizer:
        """One of so many ids whose file is still to be read; hash: of that file (`Tokenizer.hash`)."""
        made = cls("", classes=classes)
        made._expected = hash
        return made

    @classmethod
    def open(cls, path: Path | str, *, classes: int = 0) -> Tokenizer:
        """The tokenizer of a file, or of a folder's `tokenizer.json`.

        Raises FileNotFoundError, or ConfigError (a ValueError) naming the file for one that is damaged.
        """
        path = Path(path)
        made = cls.absent(classes)
        made._read(path / FILE if path.is_dir() else path)
        return made

    @property
    def hash(self) -> str:
        """Of the file's content, hexadecimal."""
        return blake2b(self.text.encode(), digest_size=8).hexdigest() if self.text else self._expected

    @property
    def classes(self) -> int:
        """Number of ids of the model: the largest of the tokenizer plus one, or more."""
        return self._classes or self._count

    @property
    def backend(self) -> Backend:
        """The `tokenizers.Tokenizer`; raises ValueError where its file has not been read."""
        if self._backend is None:
            raise ValueError(f"tokenizer: its {FILE} is absent; put it beside the weights")
        return self._backend

    def id_of(self, token: str) -> int:
        """The id of a token, as of a special one; raises ValueError where there is none."""
        found = self.backend.token_to_id(token)
        if found is None:
            raise ValueError(f"tokenizer: expected a token {token!r}, found none")
        return int(found)

    @cached_property
    def pad(self) -> int:
        """The id of padding: the file's, that of a token named so, or 0, which a mask makes as good as any."""
        own = json.loads(self.text).get("padding") if self.text else None
        if own:
            return int(own["pad_id"])
        found = (self.backend.token_to_id(token) for token in PAD_TOKENS)
        return next((i for i in found if i is not None), 0)

    def encode(self, raw: str, *, special: bool = False) -> Tensor:
        """ids (L,) int64 of a text; special: with the tokens that the file puts in front and behind.

        Raises ValueError naming the first character that has no ids, where no token stands for unknown ones.
        """
        return torch.tensor(self._encoded(raw, special), dtype=torch.long)

    def prompt(self, raw: str) -> Tensor:
        """ids (L,) of a text that is to be continued: with the tokens that the file puts around it."""
        return self.encode(raw, special=True)

    def batch(
        self,
        texts: Sequence[str],
        *,
        length: int = 0,
        fixed: bool = False,
        side: Side = "right",
        cut: Side | None = "right",
        special: bool = True,
    ) -> Tokens:
        """The texts side by side, padded on one `side` to the longest of them, or if `fixed` to `length`.

        length: most ids of a text, special ones counted (0 = any number); of longer texts the end is left out, by
        `cut` the beginning, and by None they raise ValueError. special: as of `encode`.
        """
        if isinstance(texts, str):
            raise ValueError(f"texts: expected a list of texts, found one: {texts!r}")
        if length < 0 or (fixed and not length):
            raise ValueError(f"length: expected {'1' if fixed else '0'} or more, found {length}")
        rows = [self._within(text, length, cut, special) for text in texts]
        width = length if fixed else max(map(len, rows), default=0)
        ids = torch.full((len(rows), width), self.pad, dtype=torch.long)
        mask = torch.zeros(len(rows), width, dtype=torch.bool)
        for i, row in enumerate(rows):
            place = slice(0, len(row)) if side == "right" else slice(width - len(row), width)
            ids[i, place], mask[i, place] = torch.tensor(row, dtype=torch.long), True
        return Tokens(ids, mask)

    def decode(self, x: Tensor | Sequence[int]) -> str:
        """The text of ids (L,), special tokens included; ids of the model that have no token become U+FFFD.

        Raises ValueError for an id that is none of the model's.
        """
        runs = groupby(x.tolist() if isinstance(x, Tensor) else x, key=self._has_token)
        text = "".join(self._decoded(list(run)) if known else "\ufffd" * len(list(run)) for known, run in runs)
        return text.replace(self._ending, " ") if self._ending else text

    def stream(self, ids: Iterable[int], after: Iterable[int] = ()) -> Iterator[str]:
        """The text that each id adds as far as it is certain (often "", never half a character), then what is left.

        All parts joined are what `decode` gives for them behind the ids `after`, whose text is not repeated.
        """
        seen = list(after)
        first, last = 0, len(seen)
        for i in ids:
            seen.append(i)
            before, now = self.decode(seen[first:last]), self.decode(seen[first:])
            # What ends in U+FFFD may be a character whose last bytes are still to come.
            if len(now) > len(before) and not now.endswith("\ufffd"):
                first, last = last, len(seen)
                yield now[len(before) :]
            else:
                yield ""
        yield self.decode(seen[first:])[len(self.decode(seen[first:last])) :]

    def files(self) -> dict[str, str]:
        """What a saved model keeps of it beside the weights, by file name."""
        return {FILE: self.text} if self.text else {}

    def read_files(self, folder: Path) -> None:
        """Takes the tokenizer out of a saved model's folder; what is complete without a file stays as it is.

        Raises FileNotFoundError, or ConfigError naming the file for one that is damaged or another model's.
        """
        known = self._backend
        if known is None or (folder / FILE).is_file():
            self._read(folder / FILE)
        # The library may write one and the same tokenizer in other words than it did.
        if known is not None and known.get_vocab() != self.backend.get_vocab():
            raise ConfigError(f"{folder / FILE}: expected the tokens of the model's tokenizer, found others")

    def adopt(self, other: Tokenizer) -> None:
        """Takes over the other's content; raises ValueError where it is not the expected one."""
        self._fill(other.text)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tokenizer:
        # Nothing in it changes or is trained, and vocabularies are large.
        return copy.copy(self)

    def _read(self, path: Path) -> None:
        if not path.is_file():
            raise FileNotFoundError(f"{path.parent}: expected {path.name}, found none")
        try:
            self._fill(path.read_text(encoding="utf-8"))
        except UnicodeDecodeError:
            raise ConfigError(f"{path}: expected a tokenizer of the library `tokenizers`, found no text") from None
        except ValueError as problem:
            raise ConfigError(f"{path}: {problem}") from None

    def _fill(self, text: str) -> None:
        backend = parsed(text)
        found = blake2b(text.encode(), digest_size=8).hexdigest()
        if self._expected and found != self._expected:
            raise ValueError(f"expected the tokenizer of the model, hash {self._expected}, found {found}")
        count = 1 + max(backend.get_vocab(with_added_tokens=True).values(), default=-1)
        if self._classes and count > self._classes:
            raise ValueError(f"expected at most the {self._classes} ids of the model, found {count}")
        self.text, self._backend, self._count = text, backend, count
        self._ids = {}
        for name in ("pad", "_ending", "_missing"):
            self.__dict__.pop(name, None)

    def _encoded(self, raw: str, special: bool) -> list[int]:
        found = self._ids.get((raw, special))
        if found is None:
            backend = self.backend
            utf8(raw)
            self._check(raw)
            found = backend.encode(raw, add_special_tokens=special).ids
            if len(self._ids) >= REMEMBERED:
                self._ids.clear()
            if len(raw) < REMEMBERED:
                self._ids[raw, special] = found
        return found

    def _has_token(self, i: int) -> bool:
        backend = self.backend
        if not 0 <= i < self.classes:
            raise ValueError(f"x: expected ids of the tokenizer, 0 to {self.classes - 1}, found {i}")
        return backend.id_to_token(i) is not None

    def _decoded(self, ids: list[int]) -> str:
        text: str = self.backend.decode(ids, skip_special_tokens=False)
        return text

    def _within(self, raw: str, length: int, cut: Side | None, special: bool) -> list[int]:
        """The ids of a text, at most `length` of them."""
        ids = self._encoded(raw, special)
        if not length or len(ids) <= length:
            return ids
        if cut is None:
            raise ValueError(f"text: expected at most {length} ids, found {len(ids)} in {raw[:40]!r}...")
        around = self.backend.num_special_tokens_to_add(is_pair=False) if special else 0
        if length <= around:
            raise ValueError(f"length: expected more than the {around} special tokens, found {length}")
        whole = self.backend.encode(raw, add_special_tokens=False)
        whole.truncate(length - around, direction=cut)
        return list(self.backend.post_process(whole, add_special_tokens=special).ids)

    @cached_property
    def _ending(self) -> str:
        """What pieces at the end of a word end in, where the file's decoder leaves it in the text (CLIP's)."""
        data = json.loads(self.text)
        over_bytes = (data.get("decoder") or {}).get("type") == "ByteLevel"
        return data["model"].get("end_of_word_suffix") or "" if over_bytes else ""

    @cached_property
    def _missing(self) -> frozenset[int]:
        """Bytes without a token in a tokenizer over bytes that has none for unknown ones, and would leave them out."""
        data = json.loads(self.text)
        model, steps = data["model"], data.get("pre_tokenizer") or {}
        kinds = {step.get("type") for step in (steps, *steps.get("pretokenizers", ()))}
        if model.get("type") != "BPE" or model.get("unk_token") is not None or "ByteLevel" not in kinds:
            return frozenset()
        return frozenset(byte for byte, c in enumerate(spelling()) if c not in model["vocab"])

    def _check(self, raw: str) -> None:
        missing = self._missing
        for i, c in enumerate(raw) if missing else ():
            if not missing.isdisjoint(utf8(c)):
                raise ValueError(
                    f"text: character {c!r} at position {i} is not among what the codec knows ({self.classes} pieces)"
                )
