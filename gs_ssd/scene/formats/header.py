"""The header of a .ply file, parsed and checked against the file's size before anything is allocated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gs_ssd.errors import UserError

_MAX_HEADER = 1 << 16  # bytes; real headers have about 1500
_SIZES = {
    **dict.fromkeys(("char", "uchar", "int8", "uint8"), 1),
    **dict.fromkeys(("short", "ushort", "int16", "uint16"), 2),
    **dict.fromkeys(("int", "uint", "float", "int32", "uint32", "float32"), 4),
    **dict.fromkeys(("double", "float64"), 8),
}


@dataclass
class Element:
    """One `element` of the header; `types` maps property names to .ply type names ("list" for lists)."""

    name: str
    count: int
    types: dict[str, str]


@dataclass
class PlyHeader:
    """`comments` are the comment and obj_info lines, whole; `offset` is where the data begin, in bytes."""

    text: bool
    big_endian: bool
    elements: dict[str, Element]
    comments: tuple[str, ...] = ()
    offset: int = 0

    def names(self, element: str) -> set[str]:
        """The property names of an element, empty when there is no such element."""
        return set(self.elements[element].types) if element in self.elements else set()


def read_header(path: Path) -> PlyHeader:
    """Parse a .ply header. Raises UserError when it is damaged or promises more data than the file has."""
    with path.open("rb") as file:
        head = file.read(_MAX_HEADER)
    end = head.find(b"\nend_header")
    offset = head.find(b"\n", end + 1) + 1
    if end < 0 or offset == 0:
        raise UserError(f"{path}: the .ply header has no end; the file is truncated or not a .ply")
    lines = head[:end].decode("latin-1").split("\n")
    try:
        header = _parse([line.split() for line in lines])
    except (ValueError, IndexError, KeyError) as error:
        raise UserError(f"{path}: damaged .ply header ({error}); export the scene again") from error
    header.comments = tuple(
        line.rstrip("\r") for line in lines if line.split(maxsplit=1)[:1] in (["comment"], ["obj_info"])
    )
    header.offset = offset
    _check_size(header, path.stat().st_size - offset, path)
    _check_rest(header, path)
    return header


def _parse(lines: list[list[str]]) -> PlyHeader:
    formats: list[str] = []
    elements: dict[str, Element] = {}
    element = None
    for words in lines[1:]:
        match words:
            case ["format", name, "1.0"] if name in ("ascii", "binary_little_endian", "binary_big_endian"):
                formats.append(name)
            case ["element", name, count] if count.isdecimal() and name not in elements:
                element = elements[name] = Element(name, int(count), {})
            case ["property", kind, name] if element and kind in _SIZES and name not in element.types:
                element.types[name] = kind
            case ["property", "list", _, _, name] if element and name not in element.types:
                element.types[name] = "list"
            case ["comment" | "obj_info", *_] | []:
                pass
            case _:
                raise ValueError(f"can't read the line {' '.join(words)[:60]!r}")
    if len(formats) != 1:
        raise ValueError(f"{len(formats)} format lines")
    return PlyHeader(formats[0] == "ascii", formats[0] == "binary_big_endian", elements)


def _check_size(header: PlyHeader, available: int, path: Path) -> None:
    """Refuse a header whose counts can't fit into `available` bytes; plyfile would allocate them first."""
    needed = sum(element.count * _row_size(element, header.text) for element in header.elements.values())
    if needed > available + header.text:  # the last separator of a text file may be missing
        raise UserError(
            f"{path}: truncated, the .ply header promises {needed:,} bytes of data but {available:,} follow; "
            "download or export the file again"
        )


def _check_rest(header: PlyHeader, path: Path) -> None:
    """Refuse a header whose counts leave whole rows of the file unread."""
    if any("list" in element.types.values() for element in header.elements.values()):
        return
    rows = sum(element.count for element in header.elements.values())
    if header.text:
        with path.open("rb") as file:
            file.seek(header.offset)
            left = sum(1 for line in file if line.strip()) - rows
        unit = "lines"
    else:
        sizes = [_row_size(element, False) for element in header.elements.values() if element.count]
        expected = sum(element.count * _row_size(element, False) for element in header.elements.values())
        left = path.stat().st_size - header.offset - expected
        left = left if left >= min(sizes, default=1) else 0  # a line end that an editor appended
        unit = "bytes"
    if left > 0:
        raise UserError(
            f"{path}: the .ply header counts {rows:,} rows, but {left:,} more {unit} follow; the header or the file "
            "is damaged, so export the scene again"
        )


def _row_size(element: Element, text: bool) -> int:
    """Bytes of one row: a value in a text file takes a digit and a separator, a list at least its one-byte count."""
    return max(sum(2 if text else _SIZES.get(kind, 1) for kind in element.types.values()), 1)
