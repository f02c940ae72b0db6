//! `emoflow cache`: what is stored, and whether it is intact. Only `gc` writes.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::config::project_root;
use crate::store::{Store, Verified};

/// The commands about the cache as a whole.
#[derive(Subcommand)]
pub enum Command {
    /// Reads everything and says what is damaged; changes nothing. Exit code 1 if something is
    Verify {
        #[command(flatten)]
        cache: CacheArgs,
        /// Also decode every table and look for NaN and infinities; hash again what is remembered of weights
        #[arg(long)]
        deep: bool,
        /// What was found as JSON
        #[arg(long)]
        json: bool,
    },
}

/// Which cache.
#[derive(Args)]
pub struct CacheArgs {
    /// Where artifacts are kept [default: `cache/` of the project that the current folder is in]
    #[arg(long, value_name = "DIR", env = "EMOFLOW_CACHE")]
    cache: Option<PathBuf>,
}

impl CacheArgs {
    fn open(&self) -> Result<Store> {
        Ok(Store::open(or_of_project(&self.cache, "cache"))?.read_only())
    }
}

/// Runs the command; its exit code.
///
/// # Errors
/// What the disk says.
pub fn run(command: Command, out: &mut dyn Write) -> Result<u8> {
    match command {
        Command::Verify { cache, deep, json } => verify(&cache.open()?.verify(deep)?, json, out),
    }
}

fn verify(found: &Verified, json: bool, out: &mut dyn Write) -> Result<u8> {
    let code = u8::from(!found.damaged.is_empty());
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(found)?)?;
        return Ok(code);
    }
    for damage in &found.damaged {
        writeln!(out, "damaged: {}: {}", damage.place, damage.what)?;
    }
    for note in &found.notes {
        writeln!(out, "note: {}: {}", note.place, note.what)?;
    }
    let bytes = shown_bytes(found.bytes);
    write!(out, "{} entries, {} files, {bytes}: ", found.entries, found.files)?;
    match found.damaged.len() {
        0 => writeln!(out, "nothing is damaged")?,
        n => writeln!(out, "{n} damaged; a run that needs them sets them aside and makes them again")?,
    }
    Ok(code)
}

/// The folder given, or the one called `name` of the project that the current folder is in.
fn or_of_project(given: &Option<PathBuf>, name: &str) -> PathBuf {
    given.clone().unwrap_or_else(|| project_root(Path::new(name)).join(name))
}

/// `1.2 MB`, in powers of 1000.
pub fn shown_bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 999.5 {
            let digits = usize::from(value < 9.95 && unit != "B");
            return format!("{value:.digits$} {unit}");
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

#[cfg(test)]
mod tests {
    use super::shown_bytes;

    #[test]
    fn bytes_are_shown_in_powers_of_a_thousand() {
        let shown = [0, 999, 1000, 1500, 9949, 9951, 999_499, 999_500, 12_345_678, 7_000_000_000_000];
        let shown = shown.map(shown_bytes);
        let expected =
            ["0 B", "999 B", "1.0 kB", "1.5 kB", "9.9 kB", "10 kB", "999 kB", "1.0 MB", "12 MB", "7.0 TB"];
        assert_eq!(shown, expected);
    }
}
