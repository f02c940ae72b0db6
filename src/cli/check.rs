//! `emoflow check`: the problems of experiment files, as text or JSON.

use std::cell::RefCell;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;

use super::ExperimentArgs;
use crate::config::problem::Problems;
use crate::resolve;

/// The result for one file.
#[derive(Serialize)]
struct Checked {
    file: PathBuf,
    ok: bool,
    /// Notes about parts that are valid.
    notes: Vec<String>,
    problems: Vec<Told>,
}

/// A problem with its position, counted from 1; no position for the whole file or for a `--set`.
#[derive(Serialize)]
struct Told {
    line: Option<usize>,
    column: Option<usize>,
    message: String,
    help: Option<String>,
}

/// Checks every file; returns 2 if any has a problem.
pub fn run(files: &[PathBuf], set: &[String], json: bool, out: &mut dyn Write) -> Result<u8> {
    let mut all = Vec::new();
    for file in files {
        let notes = RefCell::default();
        let experiment = ExperimentArgs { file: file.clone(), set: set.to_vec(), project: None };
        let read = experiment.read(&|asked| resolve::check(asked, &mut notes.borrow_mut()));
        let (notes, problems) = (notes.into_inner(), read.err());
        if !json {
            match &problems {
                Some(problems) => say!("{problems}"),
                None => {
                    notes.iter().try_for_each(|note| writeln!(out, "{note}"))?;
                    writeln!(out, "{}: no problems", file.display())?;
                }
            }
        }
        let told = problems.as_ref().map_or_else(Vec::new, told);
        all.push(Checked { file: file.clone(), ok: problems.is_none(), notes, problems: told });
    }
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
    }
    Ok(if all.iter().all(|checked| checked.ok) { 0 } else { 2 })
}

fn told(problems: &Problems) -> Vec<Told> {
    let one = |problem: &crate::config::Problem| {
        let before = problems.text.get(..problem.span.start).filter(|_| problem.span != (0..0));
        let line = before.map(|before| before.matches('\n').count() + 1);
        let column = before.map(|before| before.rsplit('\n').next().unwrap_or_default().chars().count() + 1);
        Told { line, column, message: problem.message.clone(), help: problem.hint.clone() }
    };
    problems.list.iter().map(one).collect()
}
