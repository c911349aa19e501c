//! `roadstead ctl doctor`: what a person would look for who is called because something is wrong.

use std::io::{IsTerminal, Write};

use anyhow::bail;
use serde_json::{Value, json};

use super::link::Link;

/// How much of something may be used before a person is told.
const NEARLY: f64 = 0.8;

/// Messages that may wait in a queue that nobody reads.
const UNREAD: u64 = 10_000;

/// Days in which a certificate may not expire.
const DAYS: u64 = 30;

/// Queues that are named in one finding.
const NAMED: usize = 5;

/// How well something is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Well,
    /// Nothing fails yet.
    Soon,
    Wrong,
}

/// What was looked at, how it is, and what that means.
struct Finding {
    what: &'static str,
    verdict: Verdict,
    told: String,
}

fn finding(what: &'static str, verdict: Verdict, told: impl Into<String>) -> Finding {
    Finding { what, verdict, told: told.into() }
}

/// Looks at everything and says how it is.
///
/// # Errors
/// If no broker answers, or something is wrong.
pub fn run(out: &mut impl Write, link: &Link, as_json: bool) -> anyhow::Result<()> {
    let findings = look(link)?;
    let wrong = findings.iter().filter(|finding| finding.verdict == Verdict::Wrong).count();
    if as_json {
        let findings: Vec<Value> = findings.iter().map(Finding::json).collect();
        writeln!(out, "{:#}", Value::from(findings))?;
    } else {
        let colours = std::io::stdout().is_terminal();
        findings.iter().try_for_each(|finding| writeln!(out, "{}", finding.line(colours)))?;
    }
    match wrong {
        0 => Ok(()),
        1 => bail!("one thing is wrong"),
        count => bail!("{count} things are wrong"),
    }
}

fn look(link: &Link) -> anyhow::Result<Vec<Finding>> {
    let nodes = link.get("/nodes")?;
    let node = &nodes[0];
    let queues = link.get("/queues?disable_stats=false&columns=vhost,name,messages_ready,consumers,state,type")?;
    let queues = queues.as_array().map_or(&[][..], Vec::as_slice);
    Ok(vec![
        alarms(node),
        disk(node),
        share("memory", node, ("mem_used", "mem_limit"), "of the memory that messages may take"),
        share("files", node, ("fd_used", "fd_total"), "of the files that may be open; raise the limit (LimitNOFILE)"),
        listeners(&link.get("/overview")?),
        certificates(link),
        stopped(queues),
        unread(queues),
    ])
}

fn alarms(node: &Value) -> Finding {
    let raised: Vec<_> = [("mem_alarm", "memory"), ("disk_free_alarm", "disk")]
        .into_iter()
        .filter(|(name, _)| node[name] == true)
        .collect();
    if raised.is_empty() {
        return finding("alarms", Verdict::Well, "none");
    }
    let names: Vec<_> = raised.iter().map(|(_, name)| *name).collect();
    finding(
        "alarms",
        Verdict::Wrong,
        format!("low on {}: publishers wait until consumers make room", names.join(" and ")),
    )
}

fn disk(node: &Value) -> Finding {
    let [free, limit] = ["disk_free", "disk_free_limit"].map(|name| node[name].as_u64().unwrap_or(0));
    let told = format!("{} free, publishers wait below {}", size(free), size(limit));
    let verdict = match free {
        free if free <= limit => Verdict::Wrong,
        free if free <= limit.saturating_mul(2) => Verdict::Soon,
        _ => Verdict::Well,
    };
    finding("disk", verdict, told)
}

fn share(what: &'static str, node: &Value, (used, limit): (&str, &str), told: &str) -> Finding {
    let [used, limit] = [used, limit].map(|name| node[name].as_f64().unwrap_or(0.0));
    let share = if limit > 0.0 { used / limit } else { 0.0 };
    let verdict = match share {
        share if share >= 1.0 => Verdict::Wrong,
        share if share >= NEARLY => Verdict::Soon,
        _ => Verdict::Well,
    };
    finding(what, verdict, format!("{:.0} % {told}", share * 100.0))
}

fn listeners(overview: &Value) -> Finding {
    let listeners = overview["listeners"].as_array().map_or(&[][..], Vec::as_slice);
    let mut told: Vec<_> = listeners
        .iter()
        .filter_map(|listener| Some(format!("{} {}", listener["protocol"].as_str()?, listener["port"])))
        .collect();
    told.sort();
    told.dedup();
    let verdict = if told.is_empty() { Verdict::Wrong } else { Verdict::Well };
    finding("listeners", verdict, told.join(", "))
}

fn certificates(link: &Link) -> Finding {
    match link.get(&format!("/health/checks/certificate-expiration/{DAYS}/days")) {
        Ok(_) => finding("certificates", Verdict::Well, format!("none expires within {DAYS} days")),
        Err(_) => {
            finding("certificates", Verdict::Soon, format!("one expires within {DAYS} days; renew it and restart"))
        }
    }
}

fn stopped(queues: &[Value]) -> Finding {
    let stopped: Vec<_> = queues
        .iter()
        .filter(|queue| !matches!(queue["state"].as_str(), Some("running" | "idle" | "flow") | None))
        .collect();
    match stopped.len() {
        0 => finding("queues", Verdict::Well, format!("all {} run", queues.len())),
        count => {
            let told =
                format!("{count} of {} do not run: {}; the broker's log says why", queues.len(), names(&stopped));
            finding("queues", Verdict::Wrong, told)
        }
    }
}

fn unread(queues: &[Value]) -> Finding {
    let number = |queue: &Value, name: &str| queue[name].as_u64().unwrap_or(0);
    let mut unread: Vec<_> = queues
        .iter()
        .filter(|queue| queue["type"] != "stream")
        .filter(|queue| number(queue, "consumers") == 0 && number(queue, "messages_ready") > UNREAD)
        .collect();
    unread.sort_by_key(|queue| std::cmp::Reverse(number(queue, "messages_ready")));
    match unread.len() {
        0 => finding("consumers", Verdict::Well, format!("no queue with more than {UNREAD} messages is without one")),
        count => finding("consumers", Verdict::Soon, format!("{count} deep queues without any: {}", names(&unread))),
    }
}

fn names(queues: &[&Value]) -> String {
    let name = |queue: &&Value| {
        let text = |name: &str| queue[name].as_str().unwrap_or_default();
        let depth = queue["messages_ready"].as_u64().unwrap_or(0);
        format!("'{}' in '{}' ({depth} messages)", text("name"), text("vhost"))
    };
    let mut names: Vec<_> = queues.iter().take(NAMED).map(name).collect();
    if queues.len() > NAMED {
        names.push("…".into());
    }
    names.join(", ")
}

fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut size, mut unit) = (bytes as f64, 0);
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        (size, unit) = (size / 1024.0, unit + 1);
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{size:.1} {}", UNITS[unit]) }
}

impl Finding {
    fn word(&self) -> (&'static str, u8) {
        match self.verdict {
            Verdict::Well => ("well", 32),
            Verdict::Soon => ("soon", 33),
            Verdict::Wrong => ("wrong", 31),
        }
    }

    fn line(&self, colours: bool) -> String {
        let (word, colour) = self.word();
        let word = format!("{word:<6}");
        let word = if colours { format!("\x1b[{colour}m{word}\x1b[0m") } else { word };
        format!("{word}{:<14}{}", self.what, self.told)
    }

    fn json(&self) -> Value {
        json!({ "check": self.what, "verdict": self.word().0, "told": self.told })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_to_be() {
        let node =
            json!({ "disk_free": 3_u64 << 30, "disk_free_limit": 1_u64 << 30, "mem_used": 90, "mem_limit": 100 });
        let verdict = |finding: &Finding| finding.word().0;
        assert_eq!((verdict(&alarms(&node)), verdict(&disk(&node))), ("well", "well"));
        assert_eq!(disk(&node).told, "3.0 GiB free, publishers wait below 1.0 GiB");
        assert_eq!(verdict(&share("memory", &node, ("mem_used", "mem_limit"), "")), "soon");
        let node = json!({ "mem_alarm": true, "disk_free_alarm": true, "disk_free": 1, "disk_free_limit": 1 });
        assert_eq!((verdict(&alarms(&node)), verdict(&disk(&node))), ("wrong", "wrong"));
        assert_eq!(alarms(&node).told, "low on memory and disk: publishers wait until consumers make room");
        let queue = |name: &str, ready: u64, consumers: u64, state: &str| json!({ "name": name, "vhost": "/", "messages_ready": ready, "consumers": consumers, "state": state });
        let queues = [queue("a", 20_000, 1, "running"), queue("b", 20_000, 0, "running"), queue("c", 0, 0, "stopped")];
        assert_eq!(unread(&queues).told, "1 deep queues without any: 'b' in '/' (20000 messages)");
        assert_eq!((verdict(&unread(&queues)), verdict(&stopped(&queues))), ("soon", "wrong"));
        assert_eq!((verdict(&unread(&queues[..1])), verdict(&stopped(&queues[..2]))), ("well", "well"));
    }
}
