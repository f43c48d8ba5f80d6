"""Why a change of the code that no test notices may stay: of each module, by the change."""

AS_FALSE = "None is as false as False"

ACCEPTED: dict[str, dict[str, str]] = {
    "src/database/connection_string.py": {
        "return False → return None": AS_FALSE,
    },
    "src/database/shares.py": {
        "return False → return None": AS_FALSE,
        "turn.done() → turn": "a turn is cancelled, and so done, with the task that waits for it",
        "timer.cancel() → pass": "a timer that comes late finds the turn done and does nothing",
    },
    "src/database/uuid7.py": {
        "0 → 1": "every clock is far ahead of either",
        "1 → 2": "still later than the tick before",
    },
}
