//! The master keys of encryption at rest, from the configuration.

use std::path::Path;

use anyhow::Context;
use store::{Keys, MasterKey};

use crate::config;

/// The keys that are configured: none, and nothing is encrypted.
///
/// # Errors
/// If a file cannot be read, something is not a key, or the key is given twice.
pub fn load(config: &config::Store) -> anyhow::Result<Keys> {
    let current = match (&config.key, &config.key_file) {
        (Some(_), Some(_)) => anyhow::bail!("both store.key and store.key_file are set"),
        (Some(key), None) => Some(MasterKey::parse(key).context("store.key")?),
        (None, Some(file)) => Some(read(file)?),
        (None, None) => None,
    };
    let former = config.former_key_files.iter().map(|file| read(file)).collect::<anyhow::Result<_>>()?;
    Ok(Keys::new(current, former))
}

fn read(file: &Path) -> anyhow::Result<MasterKey> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read the key {}", file.display()))?;
    MasterKey::parse(&text).with_context(|| format!("the key in {}", file.display()))
}
