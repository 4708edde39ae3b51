"""Where in the user's own file an operation stands: line, column, text."""

from __future__ import annotations

import linecache
import os
import traceback as tracebacks
from dataclasses import dataclass
from typing import Any

import jax

_FOREIGN = (
    os.path.dirname(os.path.abspath(jax.__file__)) + os.sep,
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep,
)


@dataclass(frozen=True)
class Source:
    """A span of the user's source: lines and columns count from one and from zero."""

    file: str
    line: int
    column: int | None = None
    end_line: int | None = None
    end_column: int | None = None
    function: str = ""

    @property
    def text(self) -> str:
        """The sub-expression as written, on one line; empty where the file can't be read."""
        if self.column is None or self.end_line is None or self.end_column is None:
            return ""
        lines = [linecache.getline(self.file, i) for i in range(self.line, self.end_line + 1)]
        if not lines or not all(lines):
            return ""
        lines[-1] = _cut(lines[-1], self.end_column)
        lines[0] = lines[0].encode()[self.column :].decode(errors="ignore")
        return " ".join(" ".join(lines).split())

    def quote(self) -> str:
        """File and line, the line itself, and the sub-expression underlined."""
        header = f'  File "{self.file}", line {self.line}'
        line = linecache.getline(self.file, self.line).rstrip("\n")
        if not line.strip():
            return header
        indent = len(line) - len(line.lstrip())
        quoted = f"{header}\n    {line.strip()}"
        if self.column is None or self.end_column is None:
            return quoted
        start = len(line.encode()[: self.column].decode(errors="ignore")) - indent
        whole = self.end_line == self.line
        end = len(_cut(line, self.end_column)) if whole else len(line)
        width = max(end - indent - start, 1)
        return f"{quoted}\n    {' ' * start}{'^' * width}"


@dataclass(frozen=True)
class Origin:
    """An equation of a jaxpr, and the call that it was inlined from; looked up when needed.

    The bodies of JAX's own jitted functions are traced once and remember their first caller, so the
    equation's own place counts only if it lies in the function that the call names."""

    equation: Any
    caller: Origin | None = None
    name: str = ""

    @property
    def source(self) -> Source | None:
        """The user's line."""
        own = source_of(self.equation)
        if self.caller is None or (own is not None and own.function == self.name):
            return own
        return self.caller.source


def source_of(equation: Any) -> Source | None:
    """The innermost frame outside of JAX and of this package, of an equation of a jaxpr."""
    traceback = getattr(getattr(equation, "source_info", None), "traceback", None)
    if traceback is None:
        return None
    try:
        codes, positions = traceback.raw_frames()
        for code, position in zip(codes, positions, strict=True):
            if not code.co_filename.startswith(_FOREIGN):
                span = traceback.code_addr2location(code, position)
                return Source(code.co_filename, *span, function=code.co_name)
    except (AttributeError, TypeError, ValueError):  # another version of jaxlib: without columns
        for frame in getattr(traceback, "frames", ()):
            if not frame.file_name.startswith(_FOREIGN):
                return Source(frame.file_name, frame.line_num, function=frame.function_name)
    return None


def _cut(line: str, end: int) -> str:
    return line.encode()[:end].decode(errors="ignore")


def line_of_traceback(traceback: Any) -> str:
    """The innermost of the user's lines in the traceback of an exception, quoted."""
    for frame in reversed(tracebacks.extract_tb(traceback)):
        if not frame.filename.startswith(_FOREIGN) and frame.lineno is not None:
            return Source(frame.filename, frame.lineno).quote()
    return ""


def traced_in(equation: Any, function: str) -> bool:
    """Whether JAX's own function of that name was running when the equation was traced."""
    traceback = getattr(getattr(equation, "source_info", None), "traceback", None)
    if traceback is None:
        return False
    return any(
        frame.function_name == function and frame.file_name.startswith(_FOREIGN[0])
        for frame in traceback.frames
    )
