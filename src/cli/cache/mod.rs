//! `emoflow cache`: the cached entries and their integrity. Only `gc` writes.

mod gc;
mod ls;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, Subcommand};

use super::Usage;
use crate::config::project_root;
use crate::results::runs::{self, Past};
use crate::store::{Root, Store, Verified};

/// The commands about the cache as a whole.
#[derive(Subcommand)]
pub enum Command {
    /// List what is stored, its cost, and the experiments whose last runs use it
    Ls {
        #[command(flatten)]
        cache: CacheArgs,
        #[command(flatten)]
        results: ResultsArgs,
        /// Only this stage
        #[arg(long)]
        stage: Option<String>,
        /// The list as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what no run needs any more, its size and the cost of recomputing it; with --yes remove it
    Gc {
        #[command(flatten)]
        cache: CacheArgs,
        #[command(flatten)]
        results: ResultsArgs,
        /// Remove it
        #[arg(long)]
        yes: bool,
        /// A results folder that no longer exists: what only its runs need can be removed; repeatable
        #[arg(long, value_name = "DIR")]
        forget: Vec<PathBuf>,
        /// How many different plans of each experiment count, including the last
        #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
        keep_runs: u32,
        /// Also remove what only earlier runs need, and activations that are not needed, until the rest is no larger
        #[arg(long, value_name = "SIZE", value_parser = size)]
        max_size: Option<u64>,
        /// What is removed, as JSON
        #[arg(long)]
        json: bool,
    },
    /// Read everything and report damage; changes nothing. Exit code 1 if something is damaged
    Verify {
        #[command(flatten)]
        cache: CacheArgs,
        /// Also decode every table and look for NaN and infinities; hash the weights again
        #[arg(long)]
        deep: bool,
        /// The results as JSON
        #[arg(long)]
        json: bool,
    },
}

/// Which cache.
#[derive(Args)]
pub struct CacheArgs {
    /// The cache folder [default: `cache/` of the project that the current folder is in]
    #[arg(long, value_name = "DIR", env = "EMOFLOW_CACHE")]
    cache: Option<PathBuf>,
}

/// Whose runs count.
#[derive(Args)]
pub struct ResultsArgs {
    /// The results folders of runs that use this cache; repeatable [default: `results/` of the same project]
    #[arg(long, value_name = "DIR", env = "EMOFLOW_RESULTS")]
    results: Vec<PathBuf>,
}

impl ResultsArgs {
    fn past(&self) -> Result<Vec<Past>> {
        let mut all = Vec::new();
        for folder in self.folders() {
            all.extend(runs::past(&folder)?);
        }
        Ok(all)
    }

    fn folders(&self) -> Vec<PathBuf> {
        match self.results.is_empty() {
            true => vec![or_of_project(&None, "results")],
            false => self.results.clone(),
        }
    }
}

impl CacheArgs {
    /// The folder.
    pub fn place(&self) -> PathBuf {
        or_of_project(&self.cache, "cache")
    }

    fn open(&self) -> Result<Store> {
        Ok(Store::open(self.place())?.read_only())
    }
}

/// Runs the command; returns its exit code.
///
/// # Errors
/// The disk fails.
pub fn run(command: Command, out: &mut dyn Write) -> Result<u8> {
    match command {
        Command::Ls { cache, results, stage, json } => {
            ls::run(&cache.open()?, &results.past()?, stage.as_deref(), json, out)
        }
        Command::Gc { cache, results, yes, forget, keep_runs, max_size, json } => {
            let options = gc::Options { yes, keep_runs: keep_runs as usize, max_size, json };
            let store = cache.open()?;
            let past = [results.past()?, others(&store, &results.folders(), &forget, yes)?].concat();
            gc::run(&store, &past, &options, out)
        }
        Command::Verify { cache, deep, json } => verify(&cache.open()?.verify(deep)?, json, out),
    }
}

/// The runs in the folders registered in the cache, except folders that are `named` or in `forget`; the latter are
/// removed from the register with `yes`.
///
/// # Errors
/// A registered folder contains no run: it may be on a disk that is not mounted here.
fn others(store: &Store, named: &[PathBuf], forget: &[PathBuf], yes: bool) -> Result<Vec<Past>> {
    let is_in = |folders: &[PathBuf], root: &Root| {
        let same = |folder: &PathBuf| fs_err::canonicalize(folder).is_ok_and(|path| path == root.path);
        folders.iter().any(|folder| *folder == root.path || same(folder))
    };
    let roots = store.roots()?;
    if let Some(unknown) =
        forget.iter().find(|folder| !roots.iter().any(|root| is_in(&[(*folder).clone()], root)))
    {
        let known: Vec<String> = roots.iter().map(|root| format!("`{}`", root.path.display())).collect();
        let known = if known.is_empty() { "none".to_string() } else { known.join(", ") };
        let why =
            format!("`{}` is not a results folder that uses this cache; known: {known}", unknown.display());
        return Err(Usage(why).into());
    }
    let mut all = Vec::new();
    for root in roots.iter().filter(|root| !is_in(named, root)) {
        if is_in(forget, root) {
            if yes {
                store.forget_root(root)?;
            }
            continue;
        }
        let past = runs::past(&root.path)?;
        if past.is_empty() {
            let Root { path, host } = root;
            let path = path.display();
            let why = format!(
                "runs on {host} with results in `{path}` use this cache too, but none of them can be found there now: \
                 mount that disk, or, if they no longer exist, pass `--forget {path}`"
            );
            return Err(Usage(why).into());
        }
        all.extend(past);
    }
    Ok(all)
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
        n => writeln!(out, "{n} damaged; a run that needs them sets them aside and recomputes them")?,
    }
    Ok(code)
}

/// The given folder, or the folder `name` of the project that contains the current folder.
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

/// A duration with about two digits: `34 min`.
pub fn shown_seconds(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s < 99.5 => (s, "s"),
        s if s < 99.5 * 60.0 => (s / 60.0, "min"),
        s if s < 48.0 * 3600.0 => (s / 3600.0, "h"),
        s => (s / 86400.0, "d"),
    };
    let digits = usize::from(value < 9.95);
    format!("{value:.digits$} {unit}")
}

/// Parses a size in bytes, such as `10GB` (powers of 1000) or `10GiB` (of 1024).
pub fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a size: write it as in 500MB, 10GB or 8GiB");
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let unit = unit.trim().to_ascii_lowercase();
    let base: f64 = if unit.ends_with("ib") { 1024.0 } else { 1000.0 };
    let power = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return Err(wrong()),
    };
    Ok((number * base.powi(power)) as u64)
}

#[cfg(test)]
mod tests {
    use super::{shown_bytes, shown_seconds, size};

    #[test]
    fn sizes_are_read_in_both_systems() {
        for (text, bytes) in [
            ("0", 0),
            ("12", 12),
            ("12B", 12),
            ("1.5kB", 1500),
            ("10GB", 10_000_000_000),
            ("8 GiB", 8 << 30),
            ("2t", 2_000_000_000_000),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "GB", "-1", "1 XB", "1.2.3"] {
            assert!(size(text).unwrap_err().contains("is not a size"), "{text}");
        }
    }

    #[test]
    fn times_have_the_unit_that_suits_them() {
        let shown = [0.04, 9.94, 12.0, 120.0, 5400.0, 36_000.0, 864_000.0].map(shown_seconds);
        assert_eq!(shown, ["0.0 s", "9.9 s", "12 s", "2.0 min", "90 min", "10 h", "10 d"]);
    }

    #[test]
    fn bytes_are_shown_in_powers_of_a_thousand() {
        let shown = [0, 999, 1000, 1500, 9949, 9951, 999_499, 999_500, 12_345_678, 7_000_000_000_000];
        let shown = shown.map(shown_bytes);
        let expected =
            ["0 B", "999 B", "1.0 kB", "1.5 kB", "9.9 kB", "10 kB", "999 kB", "1.0 MB", "12 MB", "7.0 TB"];
        assert_eq!(shown, expected);
    }
}
