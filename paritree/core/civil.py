"""The proleptic Gregorian calendar for any number of days: ``datetime`` ends at the years 1 and 9999, engines do not.

Algorithms ``days_from_civil`` and ``civil_from_days`` of Howard Hinnant: years start in March, so that a year ends
with its leap day.
"""

from __future__ import annotations

_ERA_DAYS = 146_097
"""Days in 400 years; the calendar repeats exactly after that."""
_MARCH_0000 = 719_468
"""Days from 0000-03-01 to 1970-01-01."""
_MONTH_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def civil(days: int) -> tuple[int, int, int]:
    """Year (astronomical: 0 is 1 BC), month and day of a number of days since 1970-01-01."""
    era, day_of_era = divmod(days + _MARCH_0000, _ERA_DAYS)
    year_of_era = (day_of_era - day_of_era // 1_460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted_month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * shifted_month + 2) // 5 + 1
    month = shifted_month + 3 if shifted_month < 10 else shifted_month - 9
    return year_of_era + era * 400 + (month <= 2), month, day


def days_since_epoch(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01. Raises ValueError for a date that the calendar does not have."""
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if not 1 <= month <= 12 or not 1 <= day <= _MONTH_DAYS[month - 1] or (month == 2 and day == 29 and not leap):
        raise ValueError(f"no such date: month {month}, day {day}")
    era, year_of_era = divmod(year - (month <= 2), 400)
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return era * _ERA_DAYS + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - _MARCH_0000
