//! Lines of cron: minutes, hours, days of the month, months, days of the week.

use crate::session::Millis;

const MINUTE_MS: u64 = 60_000;
const DAY_MINUTES: u64 = 24 * 60;

/// Days in which even the 29th of February comes, past a year that is not leap.
const DAYS_AHEAD: u64 = 8 * 366 + 1;

/// At which minutes something comes. A set is a bit for each number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cron {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether it is enough that the day of the month or that of the week fits, because both are given.
    either_day: bool,
}

impl Cron {
    /// Reads a line: five fields, each a list of numbers, ranges and `*`, these with steps (`*/15`, `9-17/2`). Sunday is 0 or 7.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = *fields else { return None };
        let either_day = !days.starts_with('*') && !weekdays.starts_with('*');
        let mut weekdays = set(weekdays, 0, 7)?;
        // Both stand for Sunday.
        weekdays |= weekdays >> 7 & 1;
        Some(Self {
            minutes: set(minutes, 0, 59)?,
            hours: set(hours, 0, 23)?,
            days: set(days, 1, 31)?,
            months: set(months, 1, 12)?,
            weekdays,
            either_day,
        })
    }

    /// The first minute of these after a time, in UTC; nothing if there is none within some years, as of the 30th of February.
    pub(super) fn next(&self, after: Millis) -> Option<Millis> {
        let first = after.0 / MINUTE_MS + 1;
        let today = first / DAY_MINUTES;
        for day in (today..today + DAYS_AHEAD).filter(|day| self.has_day(*day)) {
            let start = if day == today { first % DAY_MINUTES } else { 0 };
            let fits = |minute: &u64| has(self.hours, minute / 60) && has(self.minutes, minute % 60);
            if let Some(minute) = (start..DAY_MINUTES).find(fits) {
                return Some(Millis((day * DAY_MINUTES + minute) * MINUTE_MS));
            }
        }
        None
    }

    fn has_day(&self, day: u64) -> bool {
        let (month, day_of_month) = date(day);
        // The first of January 1970 was a Thursday.
        let (by_month, by_week) = (has(self.days, day_of_month), has(self.weekdays, (day + 4) % 7));
        has(self.months, month) && if self.either_day { by_month || by_week } else { by_month && by_week }
    }
}

fn has(set: u64, number: u64) -> bool {
    set >> number & 1 == 1
}

/// The month and the day of the month of a day, counted from the first of January 1970.
fn date(day: u64) -> (u64, u64) {
    let is_leap = |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    // 400 years have so many days, after which all is as before.
    let (mut year, mut left) = (1970, day % 146_097);
    while left >= 365 + u64::from(is_leap(year)) {
        left -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while left >= months[month] {
        left -= months[month];
        month += 1;
    }
    (month as u64 + 1, left + 1)
}

/// Reads a field.
fn set(field: &str, least: u64, most: u64) -> Option<u64> {
    let mut set = 0;
    for part in field.split(',') {
        let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
        let step = step.map_or(Some(1), |step| step.parse::<usize>().ok().filter(|step| *step > 0))?;
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (least, most),
            Some((first, last)) => (first.parse().ok()?, last.parse().ok()?),
            None => {
                let one = range.parse().ok()?;
                (one, one)
            }
        };
        if first < least || last > most || first > last {
            return None;
        }
        (first..=last).step_by(step).for_each(|number| set |= 1 << number);
    }
    Some(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Minutes since 1970 of the next time.
    fn next(line: &str, days: u64, minutes: u64) -> Option<(u64, u64)> {
        let after = Millis((days * DAY_MINUTES + minutes) * MINUTE_MS);
        let at = Cron::parse(line).unwrap().next(after)?.0 / MINUTE_MS;
        Some((at / DAY_MINUTES, at % DAY_MINUTES))
    }

    #[test]
    fn the_next_minute_that_fits() {
        // Day 0 is Thursday, the first of January 1970; day 59 the first of March.
        assert_eq!(next("* * * * *", 0, 0), Some((0, 1)));
        assert_eq!(next("*/15 * * * *", 0, 14), Some((0, 15)));
        assert_eq!(next("0 9-17/4 * * *", 0, 9 * 60), Some((0, 13 * 60)));
        assert_eq!(next("30 2 * * *", 0, 150), Some((1, 150)));
        assert_eq!(next("0 0 1 3 *", 0, 0), Some((59, 0)));
        assert_eq!(next("0 0 * * 0", 0, 0), Some((3, 0)));
        assert_eq!(next("0 0 * * 7", 0, 0), Some((3, 0)));
        assert_eq!(next("0 0 13 * 5", 0, 0), Some((1, 0)), "a Friday, though it is not the 13th");
        assert_eq!(next("0 0 29 2 *", 0, 0), Some((2 * 365 + 31 + 28, 0)), "in 1972");
        assert_eq!(next("0 0 30 2 *", 0, 0), None);
        assert_eq!(next("5,10 0 * * *", 20_785, 5), Some((20_785, 10)));
    }

    #[test]
    fn days_have_their_dates() {
        assert_eq!([date(0), date(58), date(59), date(364), date(365)], [(1, 1), (2, 28), (3, 1), (12, 31), (1, 1)]);
        assert_eq!([date(11_016), date(20_785)], [(2, 29), (11, 28)]);
    }

    #[test]
    fn what_is_no_line() {
        for line in [
            "",
            "* * * *",
            "* * * * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "a * * * *",
            "5-1 * * * *",
            "*/0 * * * *",
        ] {
            assert_eq!(Cron::parse(line), None, "{line}");
        }
    }
}
