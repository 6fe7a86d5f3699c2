"""Times, amounts of memory and signals as people and Slurm write them: to seconds, megabytes and names, and back."""

from __future__ import annotations

import re
from math import ceil
from typing import Literal, NoReturn

from hpcest.errors import SpecError

_TIME_FORMS = "2:00:00, 1-12:00:00, 30:00 (minutes:seconds), 2h30m, 90m, 45s or 1.5d"
_MEMORY_FORMS = "4G, 500M, 1.5T or 4096 (megabytes)"
_SIGNAL_FORMS = "USR1, or USR1@120: 120 seconds before the time limit"
_LARGEST = 10**12

_CLOCK = re.compile(r"(?:(?P<d>[0-9]{1,15})-)?(?P<first>[0-9]{1,15})(?::(?P<second>[0-9]{1,15}))?(?::(?P<third>[0-9]{1,15}))?")
_PART = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)\s*(days?|d|hours?|hrs?|h|minutes?|mins?|m|seconds?|secs?|s)\s*")
_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_MEMORY = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)\s*(?:([kmgtp])i?b?)?", re.IGNORECASE)
_SIGNAL = re.compile(r"(?:[BR]:)*(?:SIG(?=[^@]))?(?P<name>[^@]*)(?:@(?P<seconds>[0-9]{1,9}))?")  # B: and R: are sbatch's own business
_MEGABYTES = {"k": 1 / 1024, "m": 1, "g": 1024, "t": 1024**2, "p": 1024**3}


def parse_time(value: str | float, *, bare: Literal["s", "min"] = "s") -> int:
    """A duration in seconds: Slurm's forms (``2:00:00``, ``1-12``, ``30:00``) or words (``2h30m``).

    ``bare`` is the unit of a number without one: seconds as in Azure ML, minutes as in sbatch's --time.
    Raises SpecError.
    """
    text = _number_or_text(value, "time", _TIME_FORMS).strip().lower()
    clock = _CLOCK.fullmatch(text)
    if clock:
        return _checked(_of_clock(clock, bare), "time", value, _TIME_FORMS)
    if text and not _PART.sub("", text):
        parts = _PART.findall(text)
        units = [unit[0] for _, unit in parts]
        if units == sorted(set(units), key="dhms".index):  # largest first, each once: 30m2h is a slip
            return _checked(
                round(sum(float(number) * _SECONDS[unit] for (number, _), unit in zip(parts, units, strict=True))),
                "time",
                value,
                _TIME_FORMS,
            )
    return _refuse("time", value, _TIME_FORMS)


def _of_clock(clock: re.Match[str], bare: str) -> int:
    """Slurm's rule: with days, hours come first; else the colons say what is what."""
    days, first, second, third = (int(part) if part else None for part in clock.group("d", "first", "second", "third"))
    if days is not None:
        return days * 86400 + (first or 0) * 3600 + (second or 0) * 60 + (third or 0)
    assert first is not None
    if second is None:
        return first * (60 if bare == "min" else 1)
    if third is None:
        return first * 60 + second
    return first * 3600 + second * 60 + third


def format_time(seconds: int) -> str:
    """Seconds as Slurm writes them and ``parse_time`` reads them: ``2:00:00``, ``1-12:00:00``."""
    days, rest = divmod(seconds, 86400)
    clock = f"{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"
    return f"{days}-{clock}" if days else clock.removeprefix("0")


def parse_memory(value: str | float) -> int:
    """An amount of memory in megabytes, rounded up, as Slurm counts them: 1G is 1024M. Raises SpecError.

    A number without a unit is megabytes; ``GB`` and ``GiB`` mean the same as ``G``.
    """
    match = _MEMORY.fullmatch(_number_or_text(value, "memory", _MEMORY_FORMS).strip())
    if not match:
        _refuse("memory", value, _MEMORY_FORMS)
    return _checked(ceil(float(match[1]) * _MEGABYTES[(match[2] or "m").lower()]), "memory", value, _MEMORY_FORMS)


def format_memory(megabytes: int) -> str:
    """Megabytes in the largest unit that keeps them exact: ``4G``, ``1500M``, ``2T``."""
    for unit in "tg":
        size = int(_MEGABYTES[unit])
        if megabytes and megabytes % size == 0:
            return f"{megabytes // size}{unit.upper()}"
    return f"{megabytes}M"


def parse_signal(text: str) -> tuple[str, int | None]:
    """A signal as sbatch writes it, ``USR1@120`` or ``B:SIGUSR1``: its name without SIG, and how many seconds ahead.

    The name is empty where only the seconds are given (``@120``), the seconds None where only the name is. Raises SpecError.
    """
    from hpcest.onnode.signals import number_of

    match = _SIGNAL.fullmatch(text.strip().upper())
    if not match:
        _refuse("signal", text, _SIGNAL_FORMS)
    try:
        number_of(match["name"] or "USR1")
    except ValueError as error:
        raise SpecError(f"signal {text!r} can't be read: {error}", hint=f"write it as {_SIGNAL_FORMS}") from error
    return match["name"], int(match["seconds"]) if match["seconds"] else None


def _number_or_text(value: object, what: str, forms: str) -> str:
    """The text of a value that may have come as a number; a fraction without a unit is no time."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= _LARGEST:
        _refuse(what, value, forms)
    return str(int(value)) if value == int(value) else str(value)


def _checked(amount: int, what: str, value: object, forms: str) -> int:
    """Sizes that no scheduler can store are slips, and would fail far from here."""
    if amount > _LARGEST:
        _refuse(what, value, forms)
    return amount


def _refuse(what: str, value: object, forms: str) -> NoReturn:
    raise SpecError(f"{what} {value!r} can't be read", hint=f"write it as {forms}")
