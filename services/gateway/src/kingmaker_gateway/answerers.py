"""Who answers, and the codes its values get in events: made once a variant and routing revision. Pure."""

from array import array
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kingmaker_contracts import rare_categories
from kingmaker_contracts.feedback import label_text
from kingmaker_contracts.labels import Role
from kingmaker_contracts.profile import CategoricalReference, Profile, width_of
from kingmaker_contracts.rare_categories import RareNames


class Codes(dict[Any, int]):
    """Codes of values as models take and give them, remembered; UNKNOWN for what has none.

    by_text: of their texts, 0 and up; rare: texts that share the code behind those, None when nobody knows them.
    """

    UNKNOWN: Final = -1

    def __init__(self, by_text: dict[str, int], rare: RareNames | None = None) -> None:
        super().__init__()
        self._by_text = by_text
        self._rare = rare
        self._small: NDArray[np.int32] | None = None

    @property
    def tells_rare(self) -> bool:
        return self._rare is not None

    @property
    def first_free(self) -> int:
        """The least code that no text has."""
        return len(self._by_text) + self.tells_rare

    def __missing__(self, value: Any) -> int:
        if value is None or value != value:  # noqa: PLR0124 - NaN
            return self.UNKNOWN
        text = label_text(value)
        code = self._by_text.get(text, self.UNKNOWN)
        if code == self.UNKNOWN and self._rare is not None and text in self._rare:
            code = len(self._by_text)
        if code != self.UNKNOWN and len(self) < _MOST_REMEMBERED:
            self[value] = code
        return code

    def of(self, values: NDArray[Any]) -> NDArray[np.int32]:
        """Of all values of an array, row after row."""
        if values.dtype.kind in "iu" and values.min() >= -_SMALL and values.max() < _SMALL:
            small: NDArray[np.int32] = self._of_small()[values.ravel()]
            return small
        return np.frombuffer(array("i", map(self.__getitem__, values.ravel().tolist())), np.intc)

    def _of_small(self) -> NDArray[np.int32]:
        """Of integers, the negative ones at its end, where numpy looks for them."""
        if self._small is None:
            self._small = np.array([self[value] for value in (*range(_SMALL), *range(-_SMALL, 0))], np.int32)
        return self._small


_MOST_REMEMBERED: Final = 65_536
_SMALL: Final = 128


@dataclass(slots=True, frozen=True, eq=False)
class Answerer:
    """Who answered, as the header of a batch says it: one object a variant and routing revision.

    known_codes: of categories, by categorical feature; label_codes: of classes; withheld: what is sensitive, a feature
    or a column of a block, by the places of its columns among the features; withholds_key: the sticky key is the value
    of a sensitive feature.
    """

    model: str
    revision: int
    epoch: int
    rollout: str
    variant: str
    version: str
    role: Role
    variants: tuple[str, ...]
    schema: str = ""
    profile: Profile | None = None
    known_codes: dict[str, Codes] = field(default_factory=dict)
    label_codes: Codes = field(default_factory=lambda: Codes({}))
    withheld: dict[int, str] = field(default_factory=dict)
    withholds_key: bool = False


def codes_of(profile: Profile | None) -> tuple[dict[str, Codes], Codes]:
    """known_codes and label_codes of an Answerer."""
    if profile is None:
        return {}, Codes({})
    categorical = profile.reference.categorical if profile.reference else {}
    known = {
        feature.name: _of_categories(categorical[feature.name]) if feature.name in categorical else Codes({})
        for feature in profile.inputs
        if feature.kind == "categorical"
    }
    return known, _numbered(profile.score.labels if profile.score else [])


def withheld_of(profile: Profile | None, sensitive: Collection[str]) -> dict[int, str]:
    """The columns that are meant: a feature's, or those of a whole block, and by which name."""
    if profile is None or not sensitive:
        return {}
    found: dict[int, str] = {}
    place = 0
    for feature in profile.inputs:
        width = width_of(feature)
        if feature.name in sensitive:
            found |= dict.fromkeys(range(place, place + width), feature.name)
        elif width > 1 and any(name.startswith(f"{feature.name}[") for name in sensitive):
            columns = {f"{feature.name}[{i}]": place + i for i in range(width)}
            found |= {columns[name]: name for name in sensitive if name in columns}
        place += width
    return found


def _of_categories(reference: CategoricalReference) -> Codes:
    return Codes(_positions(reference.categories), rare_categories.read(reference.rare))


def _numbered(texts: list[str]) -> Codes:
    return Codes(_positions(texts))


def _positions(texts: list[str]) -> dict[str, int]:
    return {text: code for code, text in enumerate(texts)}
