//! What a process has cost so far, from Linux's `/proc`.

use std::fs;
use std::io;

use crate::error::Error;

/// `utime` and `stime` are in units of USER_HZ, which is 100 on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time and memory of a process at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) cpu_s: f64,
    pub(crate) resident_bytes: u64,
    /// The most it was ever resident.
    pub(crate) peak_bytes: u64,
    /// What it has given to the write calls, for files and sockets alike; `None` if we may not know.
    ///
    /// This is `wchar`. The obvious counter, `write_bytes`, counts the pages that became dirty, and since file systems
    /// cache in large folios it counts the whole folio: ext4 of Linux 6.18 counts up to 256 times what was written.
    pub(crate) written_bytes: Option<u64>,
}

impl Cost {
    pub(crate) fn of(pid: &str) -> Result<Self, Error> {
        let fail = |source| Error::Process { pid: pid.to_owned(), source };
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).map_err(fail)?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).map_err(fail)?;
        // Other users' processes hide it.
        let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
        let cpu_s = cpu_seconds(&stat).ok_or_else(|| fail(io::ErrorKind::InvalidData.into()))?;
        Ok(Self {
            cpu_s,
            resident_bytes: memory(&status, "VmRSS:").unwrap_or(0),
            peak_bytes: memory(&status, "VmHWM:").unwrap_or(0),
            written_bytes: written(&io),
        })
    }
}

/// Fields 14 and 15, counted behind the command name, which may itself hold blanks and parentheses.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 / TICKS_PER_SECOND)
}

fn written(io: &str) -> Option<u64> {
    io.lines().find_map(|line| line.strip_prefix("wchar:"))?.trim().parse().ok()
}

fn memory(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_fields_of_a_line_with_a_strange_name() {
        let stat = "42 (a) b (c) S 1 1 1 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 3 0 5 1000 10";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(memory("Name:\tx\nVmHWM:\t   12 kB\n", "VmHWM:"), Some(12 * 1024));
        assert_eq!(cpu_seconds("nonsense"), None);
        assert_eq!(written("rchar: 7\nwchar: 123\nsyscr: 1\nwrite_bytes: 4096\n"), Some(123));
        assert_eq!(written(""), None);
    }
}
