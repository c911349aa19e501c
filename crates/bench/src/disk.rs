//! What the disk can do by itself, which no broker that syncs can exceed; and how much of it a folder takes.

use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::error::Error;
use crate::histogram::{Histogram, Latency};
use crate::report::{duration, grouped};

const PROBE: Duration = Duration::from_secs(3);
const MIB: usize = 1 << 20;
/// Longer than any stretch between two syncs, so that no block is written twice without a sync.
const FILE_BYTES: usize = 256 * MIB;
const PAGE: usize = 4096;

/// A probe writes in order, from the start of the file again and again, and syncs with fdatasync.
struct Probe {
    write_bytes: usize,
    sync_every_bytes: usize,
}

const PROBES: [Probe; 3] = [
    Probe { write_bytes: PAGE, sync_every_bytes: PAGE },
    Probe { write_bytes: MIB, sync_every_bytes: MIB },
    Probe { write_bytes: MIB, sync_every_bytes: 16 * MIB },
];

/// Rates of writing to one file that was filled with zeros before.
#[derive(Clone, Debug, Serialize)]
pub struct DiskLimits {
    pub rates: Vec<SyncRate>,
}

/// The rates of one probe.
#[derive(Clone, Debug, Serialize)]
pub struct SyncRate {
    pub sync_every_bytes: usize,
    pub syncs_per_s: f64,
    pub bytes_per_s: f64,
    /// From just before the first write after a sync to just after the next sync.
    pub latency: Option<Latency>,
}

/// Measures with a file of its own in `folder`, for three seconds per probe.
pub(crate) fn measure(folder: &Path) -> Result<DiskLimits, Error> {
    measure_for(folder, PROBE, FILE_BYTES)
}

fn measure_for(folder: &Path, span: Duration, file_bytes: usize) -> Result<DiskLimits, Error> {
    let path = folder.join(format!("bench-{}.probe", std::process::id()));
    let fail = |source| Error::Write { path: path.clone(), source };
    let mut scratch = Scratch::create(&path, file_bytes).map_err(fail)?;
    let rates: Result<Vec<_>, _> = PROBES.iter().map(|probe| scratch.run(probe, span)).collect();
    Ok(DiskLimits { rates: rates.map_err(fail)? })
}

/// A file that is deleted when it is no longer needed.
struct Scratch {
    file: File,
    path: PathBuf,
    bytes: usize,
}

impl Scratch {
    /// Zeros are written, not only allocated: blocks that were never written cost a sync more.
    fn create(path: &Path, bytes: usize) -> io::Result<Self> {
        let file = File::options().write(true).create_new(true).open(path)?;
        let mut scratch = Self { file, path: path.to_owned(), bytes };
        let zeros = vec![0; MIB];
        for _ in 0..bytes / MIB {
            scratch.file.write_all(&zeros)?;
        }
        scratch.file.sync_all()?;
        Ok(scratch)
    }

    fn run(&mut self, probe: &Probe, span: Duration) -> io::Result<SyncRate> {
        eprintln!("disk: fdatasync every {} KiB", probe.sync_every_bytes / 1024);
        let data = vec![0xA5; probe.write_bytes];
        let mut latency = Histogram::default();
        let start = Instant::now();
        let (mut at, mut syncs) = (0, 0);
        while start.elapsed() < span {
            let begun = Instant::now();
            for _ in 0..probe.sync_every_bytes / probe.write_bytes {
                if at == 0 {
                    self.file.seek(SeekFrom::Start(0))?;
                }
                self.file.write_all(&data)?;
                at = (at + data.len()) % self.bytes;
            }
            self.file.sync_data()?;
            latency.record(begun.elapsed().as_nanos() as u64);
            syncs += 1;
        }
        let syncs_per_s = f64::from(syncs) / start.elapsed().as_secs_f64();
        Ok(SyncRate {
            sync_every_bytes: probe.sync_every_bytes,
            syncs_per_s,
            bytes_per_s: syncs_per_s * probe.sync_every_bytes as f64,
            latency: latency.summary(),
        })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // The figures are right even if the file stays, and its name says whose it is.
        let _ = fs::remove_file(&self.path);
    }
}

/// A Markdown table.
impl fmt::Display for DiskLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "| disk: write, fdatasync every | syncs/s | MiB/s | p50 | p99 |\n|---|---|---|---|---|")?;
        for rate in &self.rates {
            let time =
                |time: fn(&Latency) -> f64| rate.latency.as_ref().map_or_else(String::new, |l| duration(time(l)));
            let (p50, p99) = (time(|l| l.p50_us), time(|l| l.p99_us));
            let every = rate.sync_every_bytes / 1024;
            let (syncs, mib) = (grouped(rate.syncs_per_s), rate.bytes_per_s / MIB as f64);
            write!(f, "\n| {every} KiB | {syncs} | {mib:.0} | {p50} | {p99} |")?;
        }
        Ok(())
    }
}

/// Bytes of the blocks that all files below `folder` have; what is deleted meanwhile does not count.
pub(crate) fn allocated_bytes(folder: &Path) -> Result<u64, Error> {
    let fail = |source| Error::Read { path: folder.to_owned(), source };
    let mut sum = 0;
    for entry in fs::read_dir(folder).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => sum += below(&entry.path())?,
            Ok(metadata) => sum += allocated(&metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(fail(error)),
        }
    }
    Ok(sum)
}

fn below(folder: &Path) -> Result<u64, Error> {
    match allocated_bytes(folder) {
        Err(Error::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(0),
        outcome => outcome,
    }
}

#[cfg(unix)]
fn allocated(metadata: &Metadata) -> u64 {
    // In units of 512 bytes whatever the file system's own are.
    std::os::unix::fs::MetadataExt::blocks(metadata) * 512
}

#[cfg(not(unix))]
fn allocated(metadata: &Metadata) -> u64 {
    metadata.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of the test's own below the build's.
    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("bench-{name}-{}", std::process::id()));
        fs::create_dir_all(folder.join("inner/empty")).unwrap();
        folder
    }

    #[test]
    fn probes_have_rates_and_leave_nothing() {
        let folder = folder("probe");
        let limits = measure_for(&folder, Duration::from_millis(30), 32 * MIB).unwrap();
        assert_eq!(limits.rates.len(), 3);
        assert!(limits.rates.iter().all(|rate| rate.syncs_per_s > 0.0 && rate.latency.is_some()));
        assert_eq!(limits.to_string().lines().count(), 5);
        assert_eq!(allocated_bytes(&folder).unwrap(), 0);
        assert!(matches!(measure(&folder.join("missing")), Err(Error::Write { .. })));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_folder_takes_what_its_files_take() {
        let folder = folder("size");
        fs::write(folder.join("a"), vec![1; 100_000]).unwrap();
        fs::write(folder.join("inner/b"), vec![1; 200_000]).unwrap();
        assert!((300_000..400_000).contains(&allocated_bytes(&folder).unwrap()));
        fs::remove_dir_all(&folder).unwrap();
        assert!(matches!(allocated_bytes(&folder), Err(Error::Read { .. })));
    }
}
