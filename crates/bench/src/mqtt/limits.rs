//! How many files this process may have open: every connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::error::Error;

/// What the tool needs beside its connections.
const SPARE: u64 = 100;

/// Has the system allow so many connections, as far as we may.
pub(crate) fn allow(connections: usize) -> Result<(), Error> {
    let wanted = connections as u64 + SPARE;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let is_enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= wanted);
    if is_enough(current) {
        return Ok(());
    }
    // Beyond the maximum only the superuser may go.
    let maximum = if is_enough(maximum) { maximum } else { Some(wanted) };
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum });
    raised.map_err(|_| Error::Options("more connections than this process may have open files (see ulimit -n)"))
}
