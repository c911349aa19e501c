//! A file system of a few MiB in memory, to be filled up to the last byte.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// It is mounted in a mount namespace of its own, so that it needs no rights where users may have namespaces, and goes
/// with its holder: a process that waits for the end of its input, which is the end of the test.
pub struct Tmpfs {
    holder: Child,
    mount: TempDir,
    own_users: bool,
}

impl Tmpfs {
    /// Nothing if the system doesn't permit it.
    pub fn mount(mebibytes: u32) -> Option<Self> {
        [&["-m"][..], &["-U", "-r", "-m"]].into_iter().find_map(|options| Self::attempt(options, mebibytes))
    }

    fn attempt(options: &[&str], mebibytes: u32) -> Option<Self> {
        let mount = TempDir::with_prefix("roadstead-tmpfs-").expect("the temporary directory is writable");
        let script = "mount -t tmpfs -o \"size=$1m\" tmpfs \"$0\" && echo mounted && exec cat";
        let mut command = Command::new("unshare");
        command.args(options).args(["--propagation", "private", "sh", "-c", script]);
        command.arg(mount.path()).arg(mebibytes.to_string());
        let mut holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
        let mut line = String::new();
        let output = holder.stdout.take().expect("stdout is a pipe");
        let mounted = BufReader::new(output).read_line(&mut line).is_ok() && line == "mounted\n";
        let tmpfs = Self { holder, mount, own_users: options.contains(&"-U") };
        mounted.then_some(tmpfs)
    }

    /// Where it is for who was started with [`Tmpfs::prefix`].
    pub fn inside(&self) -> &Path {
        self.mount.path()
    }

    /// The same place for everybody else.
    pub fn outside(&self) -> PathBuf {
        let path = self.mount.path().strip_prefix("/").expect("it is absolute");
        Path::new("/proc").join(self.holder.id().to_string()).join("root").join(path)
    }

    /// What to start a program with that is to see it.
    pub fn prefix(&self) -> Vec<OsString> {
        let mut words = vec!["nsenter".to_owned(), "-t".to_owned(), self.holder.id().to_string()];
        if self.own_users {
            words.extend(["-U", "--preserve-credentials"].map(str::to_owned));
        }
        words.extend(["-m", "--"].map(str::to_owned));
        words.into_iter().map(Into::into).collect()
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
