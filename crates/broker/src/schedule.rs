//! Messages that come later, and perhaps again and again: what their publishers ask for by headers, which are those of
//! ActiveMQ's scheduler (`org.apache.activemq.ScheduledMessage`).

mod cron;

use self::cron::Cron;
use crate::{
    record::put_table,
    session::Millis,
    value::{Table, Value},
};

/// How the names of the headers begin.
pub const SCHEDULED: &str = "AMQ_SCHEDULED_";

/// Milliseconds before the message comes.
const DELAY: &str = "AMQ_SCHEDULED_DELAY";
/// Milliseconds between one time and the next.
const PERIOD: &str = "AMQ_SCHEDULED_PERIOD";
/// How often it comes again; -1 for ever.
const REPEAT: &str = "AMQ_SCHEDULED_REPEAT";
/// At which minutes it comes, as a line of cron has it, in UTC.
const CRON: &str = "AMQ_SCHEDULED_CRON";

/// The annotation by which a scheduled message is known, and the header with which it comes: the same each time.
pub const JOB_ID: &str = "scheduledJobId";

/// The annotation that counts the times that a message has come before.
pub const COUNT: &str = "x-schedule-count";

/// The annotation that tells how often a message still comes.
pub(crate) const LEFT: &str = "x-schedule-left";

/// When a message comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    delay_ms: u64,
    period_ms: u64,
    repeat: i64,
    cron: Option<Cron>,
}

/// The schedule that headers ask for makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} cannot be '{value}'")]
pub struct InvalidSchedule {
    name: &'static str,
    value: String,
}

/// One time that a message comes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Again {
    /// Milliseconds until then.
    pub wait_ms: u64,
    /// How often it still comes after that, if that is no longer what its headers say.
    pub left: Option<i64>,
}

impl Schedule {
    /// What headers ask for; nothing if they ask for nothing.
    ///
    /// # Errors
    /// If a number is none, or a line of cron is none.
    pub fn of_headers(headers: &Table) -> Result<Option<Self>, InvalidSchedule> {
        let cron = match headers.get(CRON).and_then(Value::as_text) {
            Some(line) if !line.trim().is_empty() => {
                let invalid = || InvalidSchedule { name: CRON, value: line.to_owned() };
                Some(Cron::parse(line).ok_or_else(invalid)?)
            }
            _ => None,
        };
        let (delay, period) = (number(headers, DELAY)?, number(headers, PERIOD)?);
        if cron.is_none() && delay.is_none() && period.is_none() {
            return Ok(None);
        }
        let repeat = number(headers, REPEAT)?.unwrap_or(0);
        // What should have come already comes at once.
        let milliseconds = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok()).unwrap_or(0);
        Ok(Some(Self { delay_ms: milliseconds(delay), period_ms: milliseconds(period), repeat, cron }))
    }

    /// Milliseconds until it comes first.
    pub fn wait_ms(&self, now: Millis) -> u64 {
        let start = self.next_by_cron(now).unwrap_or(0);
        start + if self.delay_ms > 0 { self.delay_ms } else { self.period_ms }
    }

    fn next_by_cron(&self, now: Millis) -> Option<u64> {
        self.cron.as_ref()?.next(now).map(|at| at.0.saturating_sub(now.0))
    }

    /// When it comes again, now that it has come. It was `due` a little earlier, or much if the broker was away. Those that were
    /// missed do not come.
    pub(crate) fn again(&self, left: Option<i64>, due: Millis, now: Millis) -> Vec<Again> {
        let mut times = Vec::new();
        if left.is_none()
            && let Some(wait_ms) = self.next_by_cron(now)
        {
            times.push(Again { wait_ms, left: None });
        }
        let left = left.unwrap_or(self.repeat);
        if left != 0 {
            let period = self.period_ms.max(1);
            let wait_ms = period - now.0.saturating_sub(due.0) % period;
            times.push(Again { wait_ms, left: Some(if left < 0 { left } else { left - 1 }) });
        }
        times
    }
}

/// The annotations of a message that is scheduled.
pub fn annotations(job_id: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_table(&mut bytes, &Table(vec![(JOB_ID.into(), job_id.into())]));
    bytes
}

fn number(headers: &Table, name: &'static str) -> Result<Option<i64>, InvalidSchedule> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    match value.as_integer().or_else(|| value.as_text()?.trim().parse().ok()) {
        Some(number) => Ok(Some(number)),
        None => {
            let value = value.as_text().map_or_else(|| format!("{value:?}"), str::to_owned);
            Err(InvalidSchedule { name, value })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(headers: &[(&str, Value)]) -> Result<Option<Schedule>, InvalidSchedule> {
        Schedule::of_headers(&Table(headers.iter().map(|(name, value)| ((*name).into(), value.clone())).collect()))
    }

    #[test]
    fn what_headers_ask_for() {
        assert_eq!(schedule(&[("colour", "red".into()), (REPEAT, Value::I32(3))]), Ok(None));
        let delayed = schedule(&[(DELAY, Value::I64(5000))]).unwrap().unwrap();
        assert_eq!((delayed.wait_ms(Millis(7)), delayed.again(None, Millis(0), Millis(0))), (5000, Vec::new()));
        // As a protocol has it that knows only text.
        assert_eq!(schedule(&[(DELAY, " 5000".into())]), Ok(Some(delayed)));
        let late = schedule(&[(DELAY, Value::I64(-5))]).unwrap().unwrap();
        assert_eq!(late.wait_ms(Millis(7)), 0);
        for (name, value) in [(DELAY, "soon"), (REPEAT, ""), (CRON, "* * *")] {
            let period = (PERIOD, Value::I64(1));
            let refused = schedule(&[(name, value.into()), period]);
            assert_eq!(refused, Err(InvalidSchedule { name, value: value.into() }));
        }
    }

    #[test]
    fn repeated_as_often_as_asked_for_and_in_step() {
        let headers = [(DELAY, Value::I64(1000)), (PERIOD, Value::I64(100)), (REPEAT, Value::I32(2))];
        let repeated = schedule(&headers).unwrap().unwrap();
        let again = |left, now| repeated.again(left, Millis(1000), Millis(now));
        assert_eq!(again(None, 1000), [Again { wait_ms: 100, left: Some(1) }]);
        assert_eq!(again(Some(1), 1030), [Again { wait_ms: 70, left: Some(0) }]);
        assert_eq!(again(Some(1), 99_050), [Again { wait_ms: 50, left: Some(0) }]);
        assert_eq!(again(Some(0), 1000), []);
        let forever = schedule(&[(PERIOD, Value::I64(100)), (REPEAT, Value::I32(-1))]).unwrap().unwrap();
        assert_eq!(forever.wait_ms(Millis(0)), 100);
        assert_eq!(forever.again(Some(-1), Millis(0), Millis(0)), [Again { wait_ms: 100, left: Some(-1) }]);
    }

    #[test]
    fn each_time_by_cron_may_be_repeated() {
        let headers = [(CRON, "0 * * * *".into()), (PERIOD, Value::I64(10)), (REPEAT, Value::I32(1))];
        let hourly = schedule(&headers).unwrap().unwrap();
        let hour = 3_600_000;
        let (next, repeated) = (Again { wait_ms: hour, left: None }, Again { wait_ms: 10, left: Some(0) });
        assert_eq!(hourly.again(None, Millis(hour), Millis(hour)), [next, repeated]);
        assert_eq!(hourly.again(Some(0), Millis(hour), Millis(hour)), []);
    }
}
