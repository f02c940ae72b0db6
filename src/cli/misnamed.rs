//! Suggestions for unknown command names.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Names that people try, with the command that does it here.
const MEANT: [(&[&str], &str); 16] = [
    (
        &["gc", "clean", "prune", "clear"],
        "`emoflow cache gc` lists what can be removed, and removes it with --yes",
    ),
    (&["new", "create", "example"], "`emoflow init NAME` writes a commented experiment file"),
    (&["remove", "delete", "forget"], "`emoflow rm EXP.toml NODE` removes a node's results from the cache"),
    (
        &["stop", "kill", "scancel"],
        "`emoflow cancel EXP.toml` cancels jobs in Slurm's queue; a run on this machine stops on Ctrl-C",
    ),
    (
        &["head", "cat", "table", "claims"],
        "`emoflow show EXP.toml NODE` prints tables, `emoflow show EXP.toml claims` the findings",
    ),
    (
        &["convert", "gguf", "safetensors"],
        "`emoflow export EXP.toml --format gguf` writes vectors for other tools",
    ),
    (&["ls", "du"], "`emoflow cache ls` lists what is stored"),
    (&["verify", "fsck"], "`emoflow cache verify` checks that everything stored is intact"),
    (
        &["list", "nodes", "tasks", "graph", "dag"],
        "`emoflow plan EXP.toml` lists the nodes, with --graph as a graph",
    ),
    (
        &["compare"],
        "`emoflow diff RUN RUN` lists the differences between two runs; to compare models, sources or settings, put \
         them into one experiment (several [models], sources or a [sweep]); the report then has a table `comparison`",
    ),
    (
        &["tokens", "tokenize", "count"],
        "`emoflow plan EXP.toml` says which texts are too short, once they have been read",
    ),
    (&["validate", "lint"], "`emoflow check EXP.toml` reports every problem in a file"),
    (
        &["resume", "continue", "start", "exec", "build"],
        "`emoflow run EXP.toml` starts a run, and continues it",
    ),
    (
        &["why", "log", "logs"],
        "`emoflow explain EXP.toml NODE` says why a node runs; `emoflow status EXP.toml` shows its progress",
    ),
    (&["open", "render", "view", "plot"], "`emoflow report EXP.toml --open` renders the report and opens it"),
    (&["sbatch", "slurm"], "`emoflow submit EXP.toml` runs it on a Slurm cluster"),
];

/// If the command line names an unknown command: the command that was probably meant.
pub fn meant(error: &clap::Error) -> Option<&'static str> {
    if error.kind() != ErrorKind::InvalidSubcommand {
        return None;
    }
    let Some(ContextValue::String(tried)) = error.get(ContextKind::InvalidSubcommand) else { return None };
    let tried = tried.to_lowercase();
    MEANT.iter().find(|(names, _)| names.contains(&tried.as_str())).map(|(_, meant)| *meant)
}
