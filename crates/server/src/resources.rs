//! Watching memory and disk, and keeping publishers waiting where there is too little.

use std::{path::Path, sync::Arc, time::Duration};

use broker::Alarms;

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

/// Memory that the control group or the machine allows, in bytes.
fn memory_allowed() -> usize {
    let read = |path: &str| std::fs::read_to_string(Path::new(path)).ok();
    let group = read("/sys/fs/cgroup/memory.max").and_then(|text| text.trim().parse().ok());
    let machine = read("/proc/meminfo").and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?.to_owned();
        line.split_whitespace().nth(1)?.parse::<usize>().ok().map(|kib| kib * 1024)
    });
    group.into_iter().chain(machine).min().unwrap_or(1 << 30)
}

/// Bytes that the file system of a directory has left for us; nothing if it does not say.
fn free_bytes(directory: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(directory).ok()?;
    Some(stat.f_bavail * stat.f_frsize)
}
