"""The STA-like array register by register, slow and plain: the definition that the closed forms are tested against.

Every cycle moves every register once. Operands are the numbers of their beats instead of values, so that an element that meets the wrong
pair says so. Nothing here knows a closed form.
"""

from dataclasses import dataclass

import numpy as np

EMPTY = -1


@dataclass
class Observed:
    busy: int = 0
    index: int = 0
    drained: int = 0
    tail: int = 0
    total: int = 0


class CollisionError(Exception):
    """Two sums need the same register."""


class Decoder:
    """Reads the positions of a word in `decode` cycles, one word ahead of the lanes."""

    def __init__(self, decode):
        self.decode = decode
        self.left = 0
        self.word = EMPTY  # the word being decoded or, when nothing is left, ready

    def start(self, word):
        self.word, self.left = word, self.decode

    @property
    def ready(self):
        return self.word != EMPTY and self.left == 0

    def step(self):
        self.left = max(0, self.left - 1)


class Edge:
    """Issues the beats of all tiles in order, at most one per cycle."""

    def __init__(self, rows, words, beats, decode, tiles, spacing):
        self.words, self.beats, self.tiles, self.spacing = words, beats, tiles, spacing
        self.tile = self.word = self.beat = 0
        self.decoder = Decoder(decode)
        self.held = False  # lanes hold the word whose beats are being issued
        self.since = rows  # cycles since the last beat of a tile; saturates

    @property
    def done(self):
        return self.tile == self.tiles

    def step(self, seen):
        """Return the beat issued in this cycle as one number, and whether it ends a tile."""
        if self.decoder.word == EMPTY and not self.held:
            self.decoder.start(self.word)
        issued = self._issue(seen)
        self.decoder.step()
        self.since += 1
        if issued is not None and issued[1]:
            self.since = 1
        return issued

    def _issue(self, seen):
        if not self.held:
            if not self.decoder.ready:
                seen.index += 1
                return None
            self.held = True
            if self.word + 1 < self.words:
                self.decoder.start(self.word + 1)
        last = self.word == self.words - 1 and self.beat == self.beats - 1
        if last and self.tile and self.since < self.spacing:
            seen.drained += 1
            return None
        seen.busy += 1
        number = (self.tile * self.words + self.word) * self.beats + self.beat
        self._advance(last)
        return number, last

    def _advance(self, last):
        self.beat += 1
        if self.beat == self.beats:
            self.beat, self.held = 0, False
            self.word += 1
        if last:
            self.word = 0
            self.tile += 1
            self.decoder.word = EMPTY  # the next tile's first word is decoded from the next cycle on


def step_array(rows, columns, words, beats, decode, tiles=1, spacing=None):
    """Run tiles until the last sum leaves; return the counters, and the tiles in the order they left each column."""
    spacing = rows if spacing is None else spacing
    edge = Edge(rows, words, beats, decode, tiles, spacing)
    seen = Observed()
    per_tile = words * beats
    across = np.full((rows, columns), EMPTY)  # activations' beat in each element, moving right
    down = np.full((rows, columns), EMPTY)  # weights' beat, moving down
    done = np.zeros((rows, columns), int)  # beats of the current tile that are summed
    shadow = np.full((rows, columns), EMPTY)  # tile whose sum waits or moves
    moving = np.zeros((rows, columns), bool)
    skew_left = np.full((rows, rows), EMPTY)  # row r enters r cycles late, column c enters c cycles late
    skew_top = np.full((columns, columns), EMPTY)
    out = [[] for _ in range(columns)]
    missing = rows * columns * tiles
    while missing:
        issued = None if edge.done else edge.step(seen)
        if edge.done and issued is None:
            seen.tail += 1
        number = EMPTY if issued is None else issued[0]
        for skew in (skew_left, skew_top):
            skew[:, 1:] = skew[:, :-1].copy()
            skew[:, 0] = number
        across = np.concatenate([skew_left.diagonal()[:, None], across[:, :-1]], axis=1)
        down = np.concatenate([skew_top.diagonal()[None, :], down[:-1]], axis=0)
        assert (across == down).all(), "an element met operands of different beats"
        # Sums that leave: moving sums shift down by one register, and that of the last row leaves.
        for c in np.flatnonzero(moving[-1]):
            out[c].append(int(shadow[-1, c]))
            missing -= 1
        target = np.full_like(shadow, EMPTY)
        target[1:] = np.where(moving[:-1], shadow[:-1], EMPTY)
        going = np.zeros_like(moving)
        going[1:] = moving[:-1]
        stay = (shadow != EMPTY) & ~moving
        if (stay & going).any():
            raise CollisionError("a moving sum ran into a waiting one")
        shadow = np.where(stay, shadow, target)
        moving = going
        # Sums: the last beat of a tile writes the second register in the same cycle.
        active = across != EMPTY
        expected = done + (across // per_tile) * per_tile
        assert (across[active] == expected[active]).all(), "a beat was lost or came twice"
        done = done + active
        ending = active & (done == per_tile)
        if (ending & (shadow != EMPTY)).any():
            raise CollisionError("a finished sum found its second register taken")
        shadow = np.where(ending, across // per_tile, shadow)
        done[ending] = 0
        moving |= ending[-1] & (shadow == shadow[-1])  # a column starts to move when its last row is in
        seen.total += 1
    return seen, out
