//! `emoflow report`: renders the report again from the cache. Changes nothing if results on disk are no longer cached.

use std::io::Write;
use std::path::Path;

use anyhow::{Result, bail};

use super::Prepared;
use crate::results::{self, Parts};

/// The most nodes that are listed by name.
const NAMED: usize = 6;

/// Renders the report from the cache and opens it on request; returns 1 if parts are missing, and lists them.
///
/// # Errors
/// The results folder has files of results that are not in the cache: it stays unchanged.
pub fn render(prepared: &Prepared, open: bool, out: &mut dyn Write) -> Result<u8> {
    let Prepared { resolved, plan, store, results, .. } = prepared;
    let Parts { missing, lost } = results::parts(resolved, plan, store, results)?;
    if !lost.is_empty() {
        bail!(
            "`{}` is not changed: it has files of {}, for which this experiment's results are not in the cache; \
             `emoflow run` computes what is missing and brings the report up to date",
            results.display(),
            named(&lost)
        );
    }
    let report = results::write(resolved, plan, store, results)?;
    writeln!(out, "{}", report.display())?;
    if open {
        open_in_browser(&report)?;
    }
    if missing.is_empty() {
        return Ok(0);
    }
    say!("missing in it: {}; `emoflow run` computes what is missing", named(&missing));
    Ok(1)
}

fn named(nodes: &[String]) -> String {
    let shown = nodes.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    match nodes.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Opens a file or URL.
pub fn open_in_browser(report: &Path) -> Result<()> {
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    std::process::Command::new(opener).arg(report).spawn()?;
    Ok(())
}
