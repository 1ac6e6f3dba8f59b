"""Which room of the server imports which: read from the code, and drawn.

A room is a package of the server, or a module that is in none. `python -m support.imports` draws
docs/imports.svg again.
"""

import ast
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = "entitlements_server"
CODE = ROOT / "server" / PACKAGE
PICTURE = ROOT / "docs" / "imports.svg"

FLOORS: tuple[tuple[str, ...], ...] = (
    ("cli",),
    ("app", "workers"),
    ("api", "maintenance"),
    ("transport",),
    ("instrumentation",),
    ("engine", "stores.sqlite", "stores.postgresql", "stores.redis"),
    ("stores",),
    ("config",),
    ("ledger",),
    ("errors", "tuning"),
)
"""The rooms, top floor first. A room may import those of lower floors, and no others."""

Edges = Mapping[str, frozenset[str]]
"""What each module, or each room, imports."""

_WIDTH, _ROW, _BOX_WIDTH, _BOX_HEIGHT, _TOP = 760, 84, 124, 30, 40


def modules() -> Edges:
    """Read which module imports which, wherever in its file."""
    paths = {_name(path): path for path in CODE.rglob("*.py")}
    return {name: frozenset(_imports(path, paths)) - {name} for name, path in paths.items()}


def rooms(edges: Edges) -> Edges:
    """Return which room imports which. A package may choose among its own sub-packages."""
    packages = {_name(path) for path in CODE.rglob("__init__.py")}

    def room(module: str) -> str:
        parent = module.rpartition(".")[0]
        name = module if module in packages or parent == PACKAGE else parent
        return name.removeprefix(PACKAGE).removeprefix(".")

    found: dict[str, set[str]] = {room(module): set() for module in edges}
    for module, imported in edges.items():
        mine = room(module)
        found[mine].update(
            theirs for theirs in map(room, imported) if not f"{theirs}.".startswith(f"{mine}.")
        )
    del found[""]  # the package that all of it is in
    return {name: frozenset(others - {""}) for name, others in sorted(found.items())}


def arrows(edges: Edges) -> list[tuple[str, str]]:
    """Return each importer with each that it imports."""
    return [(one, other) for one, others in sorted(edges.items()) for other in sorted(others)]


def floor_of(room: str) -> int:
    """Return the index of a room's floor, 0 at the top."""
    return next(index for index, floor in enumerate(FLOORS) if room in floor)


def draw(edges: Edges) -> str:
    """Return the picture as SVG: an arrow that others imply is light."""
    pairs = arrows(edges)
    implied = {(one, other) for one, other in pairs if _is_implied(edges, one, other)}
    pairs.sort(key=lambda pair: pair not in implied)
    height = _TOP + len(FLOORS) * _ROW
    lines = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}"'
            ' font-family="sans-serif" font-size="13">'
        ),
        (
            '<defs><marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="6"'
            ' markerHeight="6" orient="auto"><path d="M0 0L8 4L0 8z" fill="#678"/>'
            "</marker></defs>"
        ),
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        (
            f'<text x="12" y="22">{len(edges)} rooms, {len(pairs)} arrows: a room imports what it'
            " points to; light: also by way of another</text>"
        ),
        *(_arrow(*pair, "#bcd" if pair in implied else "#345") for pair in pairs),
        *(_box(room) for floor in FLOORS for room in floor),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _is_implied(edges: Edges, one: str, other: str) -> bool:
    """Return whether a room imports another also by way of a third."""
    return any(
        other in edges[third] or _is_implied(edges, third, other) for third in edges[one] - {other}
    )


def _arrow(one: str, other: str, colour: str) -> str:
    (start_x, start_y), (end_x, end_y) = _middle(one), _middle(other)
    start_y, end_y = start_y + _BOX_HEIGHT // 2, end_y - _BOX_HEIGHT // 2
    middle_y = (start_y + end_y) // 2
    return (
        f'<path d="M{start_x} {start_y}C{start_x} {middle_y} {end_x} {middle_y} {end_x} {end_y}"'
        f' fill="none" stroke="{colour}" marker-end="url(#head)"/>'
    )


def _box(room: str) -> str:
    x, y = _middle(room)
    return (
        f'<rect x="{x - _BOX_WIDTH // 2}" y="{y - _BOX_HEIGHT // 2}" width="{_BOX_WIDTH}"'
        f' height="{_BOX_HEIGHT}" rx="5" fill="#eef3f8" stroke="#345"/>'
        f'<text x="{x}" y="{y + 5}" text-anchor="middle">{room}</text>'
    )


def _middle(room: str) -> tuple[int, int]:
    number = floor_of(room)
    floor = FLOORS[number]
    x = _WIDTH * (2 * floor.index(room) + 1) // (2 * len(floor))
    # Not all in the middle, where the arrows would run through them.
    x += 200 * (1 - number % 3) if len(floor) == 1 else 0
    return x, _TOP + number * _ROW + _ROW // 2


def _name(path: Path) -> str:
    parts = path.relative_to(CODE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(path: Path, known: Collection[str]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names if one.name in known)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports by a relative name, which is not understood"
            for one in node.names:
                inner = f"{node.module}.{one.name}"
                if inner in known:
                    yield inner
                elif node.module in known:
                    yield str(node.module)


if __name__ == "__main__":
    PICTURE.write_text(draw(rooms(modules())), "utf-8")
