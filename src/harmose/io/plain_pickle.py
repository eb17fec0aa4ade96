"""Read a pickled dictionary of numbers, text and bytes without running code.

`pickle.load` can run any code that a file contains. This module reads the opcodes with the standard library's disassembler
and accepts only those that build plain values. A pickle that names a class or a function is refused.
"""

import pickletools
from typing import Any

from harmose.errors import FormatError

CONSTANTS = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8"),
}
FIXED = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_MARK = object()


def plain_dictionary(raw: bytes) -> dict[str, Any]:
    """Return the dictionary of a pickle; `FormatError` if it is damaged or holds anything but plain values."""
    try:
        return _Machine().run(raw)
    except (ValueError, IndexError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise FormatError(f"expected a pickled dictionary of numbers and bytes, got a damaged one ({error})") from None


class _Machine:
    """The stack machine of pickle, with the opcodes of plain values only."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, raw: bytes) -> dict[str, Any]:
        for opcode, argument, _ in pickletools.genops(raw):
            self._step(opcode.name, argument)
        result = self.stack.pop()
        if self.stack or type(result) is not dict or not all(type(key) is str for key in result):
            raise ValueError("it holds something else")
        return result

    def _step(self, name: str, argument: Any) -> None:
        stack, memo = self.stack, self.memo
        if name in CONSTANTS:
            stack.append(argument)
        elif name in FIXED:
            stack.append(FIXED[name])
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "SETITEM":
            value, key = stack.pop(), stack.pop()
            self._table()[key] = value
        elif name == "SETITEMS":
            start = len(stack) - 1 - stack[::-1].index(_MARK)
            items = stack[start + 1 :]
            del stack[start:]
            self._table().update(zip(items[::2], items[1::2], strict=True))
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise FormatError(f"expected a pickled dictionary of numbers and bytes, got one that also uses {name}; it is not "
                              "read, since such pickles can run code")  # fmt: skip

    def _table(self) -> dict:
        table = self.stack[-1]
        if type(table) is not dict:
            raise TypeError("items outside a dictionary")
        return table
