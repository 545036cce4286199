"""What comes out of a measurement: a figure is several samples, and never one number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median


@dataclass(frozen=True)
class Measure:
    """
    Something that can be measured.

    Attributes:
        section: Where it belongs.
        title: What it is.
        unit: In what it is given; empty for a ratio.
    """

    section: str
    title: str
    unit: str

    def __str__(self) -> str:
        return f"{self.title}, {self.unit}" if self.unit else self.title


@dataclass(frozen=True)
class Figure:
    """One contender's samples of one measure, in the order in which they were taken."""

    measure: Measure
    contender: str
    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        """The sample in the middle."""
        return median(self.samples)

    @property
    def spread(self) -> tuple[float, float]:
        """The lowest and the highest sample."""
        return min(self.samples), max(self.samples)


@dataclass
class Notebook:
    """Everything that was measured, and what has to be said about it."""

    _notes: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    _samples: dict[tuple[Measure, str], list[float]] = field(default_factory=dict)

    def add(self, contender: str, samples: Mapping[Measure, float]) -> None:
        """Note one sample of each measure."""
        for measure, sample in samples.items():
            self._samples.setdefault((measure, contender), []).append(sample)

    def note(self, section: str, contender: str, sentence: str) -> None:
        """Note why a contender was not measured, or what a reader of its figures has to know."""
        sections = self._notes.setdefault((contender, sentence), [])
        if section not in sections:
            sections.append(section)

    @property
    def notes(self) -> list[str]:
        """What was noted, one line each: where, about whom, and what."""
        return [
            f"{', '.join(sections)}: {contender}: {sentence}"
            for (contender, sentence), sections in self._notes.items()
        ]

    @property
    def measures(self) -> list[Measure]:
        """What was measured, by section, in the order in which it was met."""
        found = dict.fromkeys(measure for measure, _ in self._samples)
        sections = list(dict.fromkeys(measure.section for measure in found))
        return sorted(found, key=lambda measure: sections.index(measure.section))

    def figures(self, measure: Measure) -> dict[str, Figure]:
        """The figures of one measure, by contender."""
        return {
            contender: Figure(noted, contender, tuple(samples))
            for (noted, contender), samples in self._samples.items()
            if noted == measure
        }
