//! `emoflow completions`: shell completion. The generated script calls this program for the candidates, so that node
//! names, which depend on the experiment, are completed too.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{CommandFactory as _, Parser as _};
use clap_complete::CompleteEnv;
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use clap_complete::env::Shells;

use super::args::DEFAULT;
use super::{Access, Cli, show};
use crate::progress::{self, Style};

/// The supported shells.
pub const SHELLS: [&str; 5] = ["bash", "elvish", "fish", "powershell", "zsh"];

/// The environment variable by which a script requests candidates.
const VARIABLE: &str = "EMOFLOW_COMPLETE";

/// Writes the completion script for a shell.
///
/// # Errors
/// The output cannot be written.
pub fn script(shell: &str, out: &mut dyn Write) -> Result<u8> {
    let completer = Shells::builtins();
    let completer = completer.completer(shell).with_context(|| format!("the shell {shell}"))?;
    completer.write_registration(VARIABLE, "emoflow", "emoflow", "emoflow", out)?;
    Ok(0)
}

/// Whether a completion script is asking for candidates; if so, prints them.
pub fn asked(args: &[OsString]) -> bool {
    if std::env::var_os(VARIABLE).is_none() {
        return false;
    }
    let here = std::env::current_dir().ok();
    CompleteEnv::with_factory(Cli::command).var(VARIABLE).try_complete(args, here.as_deref()).unwrap_or(true)
}

/// Completes the names of the nodes of the experiment named on the command line.
pub fn nodes() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let words: Vec<OsString> = std::env::args_os().skip_while(|word| word != "--").skip(1).collect();
        let file = words.iter().map(PathBuf::from).find(|word| word.extension().is_some_and(|e| e == "toml"));
        let mut names = names(&file.unwrap_or_else(|| DEFAULT.into())).unwrap_or_default();
        if words.get(1).is_some_and(|command| command == "show") {
            names.push(show::CLAIMS.into());
        }
        names.into_iter().map(CompletionCandidate::new).collect()
    })
}

/// The names of an experiment's nodes, without any network access.
fn names(file: &Path) -> Option<Vec<String>> {
    let args: [&std::ffi::OsStr; 5] = [
        "emoflow".as_ref(),
        "plan".as_ref(),
        file.as_os_str(),
        "--offline".as_ref(),
        "--device=cpu".as_ref(),
    ];
    let super::Command::Plan { experiment, machine, scope, .. } = Cli::try_parse_from(args).ok()?.command
    else {
        return None;
    };
    let progress = progress::start(Style::None);
    let prepared = super::prepare(&experiment, &machine, &scope.limit, Access::Look, &*progress).ok()?;
    Some(prepared.plan.nodes.iter().map(|node| node.name()).collect())
}
