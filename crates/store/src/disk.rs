//! The file operations that the log is made of, as a trait: the operating system's for brokers, a simulated disk that
//! loses, tears and refuses for tests.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use rustix::fs::{FallocateFlags, OFlags, fallocate};

/// What direct writes are multiples of, in bytes.
pub const DIRECT_ALIGNMENT: usize = 4096;

/// A directory of files, and one level of directories in it. Names are relative, as `log/spare`.
pub trait Disk: Send + Sync {
    /// Makes a directory, if it is not there.
    ///
    /// # Errors
    /// If the file system refuses.
    fn create_directory(&self, name: &str) -> io::Result<()>;

    /// Opens a file that is there, for reading and writing.
    ///
    /// # Errors
    /// If it is not there, or the file system refuses.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Makes an empty file, or empties the one that is there.
    ///
    /// # Errors
    /// If the file system refuses.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// The names of the files in a directory, without it, in any order.
    ///
    /// # Errors
    /// If the file system refuses.
    fn list(&self, directory: &str) -> io::Result<Vec<String>>;

    /// Gives a file another name, replacing what had it. Safe only after [`Disk::sync_directory`].
    ///
    /// # Errors
    /// If the file system refuses.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. Safe only after [`Disk::sync_directory`].
    ///
    /// # Errors
    /// If it is not there, or the file system refuses.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes the names in a directory safe.
    ///
    /// # Errors
    /// If the disk refuses.
    fn sync_directory(&self, name: &str) -> io::Result<()>;

    /// Whether nothing but this directory refers to the file: only then it may be written again for another purpose.
    fn is_sole_link(&self, name: &str) -> bool;

    /// Takes a lock that ends with what is returned, or with the process. Nothing if somebody else has it.
    ///
    /// # Errors
    /// If the file system refuses.
    fn lock(&self, name: &str) -> io::Result<Option<Box<dyn Send + Sync>>>;

    /// Fills `bytes` with random bits that nobody can guess.
    ///
    /// # Errors
    /// If the system has none.
    fn random(&self, bytes: &mut [u8]) -> io::Result<()>;

    /// The file's full path, for messages.
    fn path(&self, name: &str) -> PathBuf;
}

/// A file. Reads and writes say where; there is no position to share.
pub trait DiskFile: Send + Sync {
    /// Reads some bytes; 0 at the end of the file.
    ///
    /// # Errors
    /// If the disk refuses.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes some bytes; the file grows if need be. Safe only after [`DiskFile::sync`].
    ///
    /// # Errors
    /// If the disk refuses.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Makes all that was written safe, as `fdatasync`.
    ///
    /// # Errors
    /// If the disk refuses. What was written may be lost then, even if a later call succeeds.
    fn sync(&self) -> io::Result<()>;

    /// The file's length in bytes.
    ///
    /// # Errors
    /// If the disk refuses.
    fn size(&self) -> io::Result<u64>;

    /// Writes straight to the disk, past the system's cache, which large writes would only fill. Address, length and
    /// offset must be multiples of [`DIRECT_ALIGNMENT`]. Returns false, and writes nothing, where that is not possible.
    ///
    /// # Errors
    /// If the disk refuses.
    fn write_direct_at(&self, _bytes: &[u8], _offset: u64) -> io::Result<bool> {
        Ok(false)
    }

    /// Reserves room for the file's first `bytes` without writing it. Returns false where that is not possible.
    ///
    /// # Errors
    /// If there is not enough room.
    fn allocate(&self, _bytes: u64) -> io::Result<bool> {
        Ok(false)
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// If the disk refuses.
    fn write_all_at(&self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.write_at(bytes, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = &bytes[written..];
                    offset += written as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads as much as `buffer` takes or the file has, and returns how much that was.
    ///
    /// # Errors
    /// If the disk refuses.
    fn read_full_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}

/// Writes a file in one piece or not at all, in place of the former one.
pub(crate) fn replace(disk: &dyn Disk, name: &str, bytes: &[u8]) -> io::Result<()> {
    let unfinished = format!("{name}.new");
    let file = disk.create(&unfinished)?;
    if let Err(error) = file.write_all_at(bytes, 0).and_then(|()| file.sync()) {
        let _ = disk.remove(&unfinished);
        return Err(error);
    }
    disk.rename(&unfinished, name)?;
    disk.sync_directory(name.rsplit_once('/').map_or("", |(directory, _)| directory))
}

/// A file as bytes.
pub(crate) fn read_all(file: &dyn DiskFile) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; file.size()? as usize];
    let read = file.read_full_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// The operating system's files below a directory.
#[derive(Clone, Debug)]
pub struct OsDisk {
    root: PathBuf,
}

impl OsDisk {
    /// The files below `root`.
    pub fn new(root: &Path) -> Self {
        Self { root: root.into() }
    }
}

impl Disk for OsDisk {
    fn create_directory(&self, name: &str) -> io::Result<()> {
        fs::create_dir_all(self.path(name))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).open(self.path(name))?;
        Ok(Arc::new(OsFile { file, direct: OnceLock::new() }))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).open(self.path(name))?;
        Ok(Arc::new(OsFile { file, direct: OnceLock::new() }))
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.path(directory))? {
            names.extend(entry?.file_name().to_str().map(str::to_owned));
        }
        Ok(names)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn sync_directory(&self, name: &str) -> io::Result<()> {
        File::open(self.path(name))?.sync_all()
    }

    fn is_sole_link(&self, name: &str) -> bool {
        fs::metadata(self.path(name)).is_ok_and(|metadata| metadata.nlink() == 1)
    }

    fn lock(&self, name: &str) -> io::Result<Option<Box<dyn Send + Sync>>> {
        let mut options = OpenOptions::new();
        let file = options.create(true).truncate(false).write(true).open(self.path(name))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    fn random(&self, bytes: &mut [u8]) -> io::Result<()> {
        let filled = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), bytes);
        filled.map_err(|_| io::Error::other("the system has no random bits"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }
}

/// A file of the operating system.
#[derive(Debug)]
struct OsFile {
    file: File,
    /// The same file, opened for direct writes; nothing where the file system has none.
    direct: OnceLock<Option<File>>,
}

impl OsFile {
    fn direct(&self) -> Option<&File> {
        let open = || {
            // By its descriptor: the file may have another name by now.
            let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            OpenOptions::new().write(true).custom_flags(OFlags::DIRECT.bits().cast_signed()).open(path).ok()
        };
        self.direct.get_or_init(open).as_ref()
    }
}

impl DiskFile for OsFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(&self.file, buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        FileExt::write_at(&self.file, bytes, offset)
    }

    fn write_direct_at(&self, bytes: &[u8], offset: u64) -> io::Result<bool> {
        let Some(direct) = self.direct() else { return Ok(false) };
        let mut written = 0;
        while written < bytes.len() {
            match FileExt::write_at(direct, &bytes[written..], offset + written as u64) {
                // What was written up to a place that is not aligned is written again.
                Ok(some) if some >= DIRECT_ALIGNMENT => written += some - some % DIRECT_ALIGNMENT,
                Ok(some) if written + some == bytes.len() => written += some,
                Ok(_) => return Err(io::ErrorKind::WriteZero.into()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidInput && written == 0 => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn allocate(&self, bytes: u64) -> io::Result<bool> {
        match fallocate(&self.file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => Ok(true),
            Err(error) if error == rustix::io::Errno::OPNOTSUPP => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}
