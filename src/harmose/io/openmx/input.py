"""The input text of OpenMX: keywords, and blocks such as `<Atoms.SpeciesAndCoordinates ... Atoms.SpeciesAndCoordinates>`.

The text is in the `.scfout` file itself, in the `.dat` file, and at the beginning of `.out`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harmose.errors import FormatError
from harmose.io.openmx.names import PaoName, parse_pao

MARKER = "<atoms.speciesandcoordinates"
"""In lower case, a line of every input of OpenMX and of no other code."""


@dataclass(frozen=True)
class Species:
    """A row of `Definition.of.Atomic.Species`: its label, basis set and pseudopotential."""

    label: str
    pao: PaoName
    vps: str


@dataclass(frozen=True)
class Input:
    """Keywords and blocks of an input, by their names in lower case; the last keyword of a name counts.

    Attributes:
        where: where the text is, for errors.
        keywords: words of each keyword.
        blocks: words of the lines of each block.
    """

    where: str
    keywords: Mapping[str, Sequence[str]]
    blocks: Mapping[str, Sequence[Sequence[str]]]

    @property
    def is_complete(self) -> bool:
        """True if the text names species and atoms."""
        return "definition.of.atomic.species" in self.blocks and "atoms.speciesandcoordinates" in self.blocks

    def word(self, name: str, default: str) -> str:
        """First word of a keyword, or the default that OpenMX takes without it."""
        words = self.keywords.get(name.lower(), ())
        return words[0] if words else default

    def is_on(self, name: str) -> bool:
        """True if a switch is on; it is off by default."""
        return self.word(name, "off").lower() == "on"

    def number(self, name: str, default: float) -> float:
        """First word of a keyword as a number. Raises `FormatError` for another word."""
        return self._float(self.word(name, str(default)), name)

    def whole_numbers(self, name: str, default: Sequence[int]) -> list[int]:
        """Words of a keyword as whole numbers. Raises `FormatError` for other words."""
        words = self.keywords.get(name.lower(), ())[: len(default)] or [str(n) for n in default]
        return [int(self._float(word, name)) for word in words]

    def species(self) -> dict[str, Species]:
        """Species by label. Raises `FormatError` where one is not understood."""
        rows = self.blocks.get("definition.of.atomic.species", ())
        if not rows or any(len(row) < 3 for row in rows):
            raise FormatError(f"{self.where}: expected rows of label, basis set and pseudopotential in "
                              "<Definition.of.Atomic.Species, got others")  # fmt: skip
        try:
            return {row[0]: Species(row[0], parse_pao(row[1]), row[2]) for row in rows}
        except FormatError as error:
            raise FormatError(f"{self.where}: {error}") from None

    def atoms(self) -> list[Sequence[str]]:
        """Rows of the atoms: number, species, position, initial electrons of spin up and of spin down, ..."""
        rows = self.blocks.get("atoms.speciesandcoordinates", ())
        if not rows or any(len(row) < 2 for row in rows):
            raise FormatError(f"{self.where}: expected rows of atoms in <Atoms.SpeciesAndCoordinates, got others")
        return list(rows)

    def initial_electrons(self) -> list[tuple[float, float]]:
        """Initial electrons of spin up and down of each atom; empty where rows do not have them."""
        rows = self.atoms()
        if any(len(row) < 7 for row in rows):
            return []
        return [(self._float(row[5], "spin up"), self._float(row[6], "spin down")) for row in rows]

    def initial_directions(self) -> list[tuple[float, float]]:
        """Angles theta and phi (degrees) of the initial moment of each atom; zero where a row has none."""
        pairs = [(row[7:9] if len(row) >= 9 else ("0", "0")) for row in self.atoms()]
        return [(self._float(theta, "angles"), self._float(phi, "angles")) for theta, phi in pairs]

    def _float(self, word: str, name: str) -> float:
        try:
            return float(word.lower().replace("d", "e"))
        except ValueError:
            raise FormatError(f"{self.where}: {name}: expected a number, got {word!r}") from None


def parse_input(lines: Iterable[str], where: str) -> Input:
    """Return the keywords and blocks of a text; `#` begins a comment. Names of keywords are not case-sensitive."""
    keywords: dict[str, Sequence[str]] = {}
    blocks: dict[str, list[Sequence[str]]] = {}
    block = None
    for line in lines:
        words = line.split("#")[0].split()
        if not words:
            continue
        if block is not None and not words[0].endswith(">"):
            blocks[block].append(words)
        elif words[0].startswith("<"):
            block = words[0][1:].lower()
            blocks[block] = []
        elif words[0].endswith(">"):
            block = None
        else:
            keywords[words[0].lower()] = words[1:]
    return Input(where, keywords, blocks)
