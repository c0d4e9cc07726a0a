"""What tells functions and objects of the user's apart, where they enter a hash."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["contents"]


def contents(value: Any) -> str:
    """Return a text that differs where what a function or an object does differs, and is the same in every process.

    Parameters
    ----------
    value
        A function enters with its code, its defaults and the values it holds, anything else with what it says of
        itself and its attributes. What a function calls enters by its name only.
    """
    parts = [type(value), getattr(value, "__module__", None), value]
    code = getattr(value, "__code__", None)
    if code is None:
        parts.append(getattr(value, "__dict__", None))
    else:
        held = [cell.cell_contents for cell in value.__closure__ or ()]
        parts += [code.co_code, code.co_consts, code.co_names, value.__defaults__, value.__kwdefaults__, held]
    # addresses are other ones in every process
    return re.sub(r" at 0x[0-9A-Fa-f]+", "", repr(parts))
