//! `emoflow check`: what is wrong with experiment files, for people and for programs.

use std::cell::RefCell;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;

use super::ExperimentArgs;
use crate::config::problem::Problems;
use crate::resolve;

/// What is said of a file.
#[derive(Serialize)]
struct Checked {
    file: PathBuf,
    ok: bool,
    /// What is to be known of what is right.
    notes: Vec<String>,
    problems: Vec<Told>,
}

/// A problem, with its place from 1; none of the whole file, and of a `--set`.
#[derive(Serialize)]
struct Told {
    line: Option<usize>,
    column: Option<usize>,
    message: String,
    help: Option<String>,
}

/// Checks every file; 2 if anything is wrong.
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
