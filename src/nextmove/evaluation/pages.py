"""Pages from the templates of this package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any


def page(template: str, filters: Mapping[str, Callable[..., Any]] | None = None, /, **values: Any) -> str:
    """The template NAME.html.j2 with these values, which are escaped; a value that it lacks is an error.

    filters: functions that the template calls by name.
    """
    from jinja2.filters import FILTERS

    environment = _environment()
    # Those of this page alone, so that one that is missing fails whichever page came before.
    environment.filters = {**FILTERS, **(filters or {})}
    return environment.get_template(f"{template}.html.j2").render(**values)


@cache
def _environment() -> Any:
    """Keeps templates compiled, which takes longer than filling them."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("nextmove.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
