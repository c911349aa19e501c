//! Watching memory and disk, and keeping publishers waiting where there is too little.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use admin::Facts;
use broker::Alarms;
use rustix::process::{Resource, getrlimit};

use crate::{config::Config, serve::Server};

/// How often memory and disk are looked at.
const EVERY: Duration = Duration::from_millis(250);

/// Watches until the broker ends.
pub async fn watch(server: Arc<Server>) {
    let budget = memory_budget(&server.config);
    let free_min = server.config.limits.disk_free_bytes;
    let mut tick = tokio::time::interval(EVERY);
    loop {
        tick.tick().await;
        let used = server.broker.memory_bytes();
        make_room(&server, used, budget);
        let (free, full) = (free_bytes(&server.config.data), server.store.usage().full);
        let before = server.broker.alarms();
        let alarms = Alarms { memory: used > budget, disk: full || free.is_some_and(|free| free < free_min) };
        if alarms == before {
            continue;
        }
        if alarms.memory && !before.memory {
            tracing::warn!(used, budget, "messages take more memory than they may: publishers wait");
        } else if before.memory && !alarms.memory {
            tracing::info!(used, budget, "memory is free again");
        }
        if alarms.disk && !before.disk {
            tracing::warn!(free, free_min, full, "the disk has less room than it should: publishers wait");
        } else if before.disk && !alarms.disk {
            tracing::info!(free, free_min, "the disk has room again");
        }
        if !alarms.any() {
            tracing::info!("publishers go on");
        }
        server.broker.set_alarms(alarms);
    }
}

/// Has messages leave memory when half of the budget is taken.
fn make_room(server: &Server, used: usize, budget: usize) {
    let tight = used > budget / 2;
    server.broker.set_tight(tight);
    if tight {
        if used > budget {
            // What is in the segment that is being written cannot leave before that is sealed.
            server.store.seal();
        }
        server.pager_tasks.sweep();
    }
}

/// Memory that messages may take, in bytes.
pub fn memory_budget(config: &Config) -> usize {
    if config.limits.memory_bytes == 0 { memory_allowed() / 4 } else { config.limits.memory_bytes }
}

/// Memory that the control groups that we are in, and the machine, allow, in bytes.
fn memory_allowed() -> usize {
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let limits = limit_files(&groups).into_iter().filter_map(|path| read(&path)?.trim().parse().ok());
    let machine = read(Path::new("/proc/meminfo")).and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?.to_owned();
        line.split_whitespace().nth(1)?.parse::<usize>().ok().map(|kib| kib * 1024)
    });
    limits.chain(machine).min().unwrap_or(1 << 30)
}

/// The files with the limits of all control groups that a process is in, of both versions, by its `/proc/PID/cgroup`. Not
/// all need to be there: a container sees its own group as the root.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        for group in Path::new(path).ancestors() {
            files.push(Path::new(root).join(group.strip_prefix("/").unwrap_or(group)).join(file));
        }
    }
    files
}

/// Bytes that the file system of a directory has left for us; nothing if it does not say.
fn free_bytes(directory: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(directory).ok()?;
    Some(stat.f_bavail * stat.f_frsize)
}

/// How the process and its machine are doing.
pub fn facts(server: &Server, started: Instant) -> Facts {
    let usage = server.store.usage();
    let files = getrlimit(Resource::Nofile);
    Facts {
        uptime_ms: started.elapsed().as_millis() as u64,
        pid: std::process::id(),
        memory_used: resident_bytes().unwrap_or(0),
        memory_messages: server.broker.memory_bytes() as u64,
        memory_limit: memory_budget(&server.config) as u64,
        files_used: std::fs::read_dir("/proc/self/fd").map_or(0, |files| files.count() as u64),
        files_limit: files.current.unwrap_or(u64::MAX),
        disk_free: free_bytes(&server.config.data).unwrap_or(0),
        disk_free_limit: server.config.limits.disk_free_bytes,
        disk_used: usage.disk_bytes,
        segments: usage.segments as u64,
        syncs: usage.syncs,
        written_bytes: usage.written_bytes,
        rewritten_bytes: usage.rewritten_bytes,
        messages_on_disk: usage.holds,
        processors: std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32),
        cpu_seconds: cpu_seconds().unwrap_or(0.0),
        data: server.config.data.display().to_string(),
        certificate_expires: server.certificate_expires,
    }
}

/// Bytes of memory that are resident: the second field of `/proc/self/statm`, in pages.
fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Seconds of processor time: the 14th and 15th fields of `/proc/self/stat`, in ticks. The second, the name, is in
/// parentheses and may hold anything.
fn cpu_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) as f64 / rustix::param::clock_ticks_per_second() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_above_counts() {
        let files = limit_files("4:memory:/a/b\n3:cpu,cpuacct:/\n0::/c\n");
        let expected = [
            "/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/a/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/c/memory.max",
            "/sys/fs/cgroup/memory.max",
        ];
        assert_eq!(files, expected.map(PathBuf::from));
    }
}
