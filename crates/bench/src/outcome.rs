//! Everything that one run of the tool measures: what it prints, and what `--json` gets.

use std::fmt;
use std::path::Path;

use serde::Serialize;

use crate::backlog::{self, Backlog};
use crate::compare::{self, Comparison};
use crate::disk::{self, DiskLimits};
use crate::error::Error;
use crate::feature::findings::{self, Findings};
use crate::janitor::Janitor;
use crate::options::Options;
use crate::suite::{self, Suite};

/// The figures of one run.
#[derive(Debug, Default, Serialize)]
pub struct Outcome {
    pub suite: Option<Suite>,
    pub disk: Option<DiskLimits>,
    /// One load, or those of a suite.
    pub loads: Vec<Comparison>,
    /// One for each column.
    pub backlogs: Vec<Backlog>,
    /// One for each column.
    pub features: Vec<Findings>,
    /// What a reader of the figures must know.
    pub notes: Vec<String>,
}

impl Outcome {
    /// Measures what `options` ask for; after an error, what was measured before it is kept.
    pub(crate) fn measure(&mut self, options: &Options, janitor: &mut Janitor) -> Result<(), Error> {
        options.check()?;
        self.suite = options.suite;
        if let Some(folder) = &options.disk {
            self.disk = Some(disk::measure(folder)?);
            if options.suite.is_none() && options.against.is_empty() {
                return Ok(());
            }
        }
        match options.suite {
            Some(suite) => suite::run(suite, options, janitor, self)?,
            None => self.loads.push(Comparison::run("", options, janitor)?),
        }
        match self.loads.iter().find_map(Comparison::fault) {
            Some(fault) => Err(Error::Wrong(fault)),
            None => Ok(()),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.disk.is_none() && self.loads.is_empty() && self.backlogs.is_empty() && self.features.is_empty()
    }

    pub(crate) fn write(&self, path: &Path) -> Result<(), Error> {
        let fail = |source| Error::Write { path: path.to_owned(), source };
        let mut text = serde_json::to_string_pretty(self).map_err(|error| fail(error.into()))?;
        text.push('\n');
        std::fs::write(path, text).map_err(fail)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(disk) = &self.disk {
            writeln!(f, "{disk}\n")?;
        }
        match self.loads.as_slice() {
            [] => {}
            [only] if only.single().is_some() => only.single().iter().try_for_each(|report| write!(f, "{report}"))?,
            loads => writeln!(f, "{}", compare::markdown(loads))?,
        }
        if !self.backlogs.is_empty() {
            writeln!(f, "{}", backlog::markdown(&self.backlogs))?;
        }
        if !self.features.is_empty() {
            writeln!(f, "{}", findings::markdown(&self.features))?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "\n{note}"))
    }
}
