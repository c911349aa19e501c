//! `roadstead doctor`: reads a data directory and says what is in it, and what is wrong.

use std::path::Path;

use anyhow::bail;

/// Checks the log in `data` and prints a report.
///
/// # Errors
/// If the log is damaged or cannot be read.
pub fn run(data: &Path) -> anyhow::Result<()> {
    if !data.join("log").is_dir() {
        bail!("{} is not a data directory: it has no folder 'log'", data.display());
    }
    let report = store::check(data)?;
    println!("data directory  {}", data.display());
    println!("segments        {} ({} bytes)", report.segments, report.bytes);
    println!("entries         {}", report.entries);
    println!("messages held   {}", report.bodies);
    println!("state entries   {}", report.keys);
    if let Some(torn) = &report.torn {
        println!("torn tail       {torn}. Nothing there was confirmed; the next start cuts it off.");
    }
    match report.damage {
        None => println!("no damage found"),
        Some(damage) => bail!("damage: {damage}. The figures above cover what lies before it"),
    }
    Ok(())
}
