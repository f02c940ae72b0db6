//! Commands that people try and that are called otherwise here.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// What is tried, and the command that does it.
const MEANT: [(&[&str], &str); 16] = [
    (&["gc", "clean", "prune", "clear"], "`emoflow cache gc` says what can go, and removes it with --yes"),
    (&["new", "create", "example"], "`emoflow init NAME` writes a commented experiment file"),
    (&["remove", "delete", "forget"], "`emoflow rm EXP.toml NODE` forgets what is cached of a node"),
    (
        &["stop", "kill", "scancel"],
        "`emoflow cancel EXP.toml` takes back what is in Slurm's queue; a run here ends with Ctrl-C",
    ),
    (
        &["head", "cat", "table", "claims"],
        "`emoflow show EXP.toml NODE` prints tables, `emoflow show EXP.toml claims` what was found",
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
        "`emoflow diff RUN RUN` says what differs between two runs; results that are to be compared stand in one experiment: several \
         [models], sources or a [sweep]; the report has a table `comparison` of them",
    ),
    (
        &["tokens", "tokenize", "count"],
        "`emoflow plan EXP.toml` says which texts are too short, once they were read",
    ),
    (&["validate", "lint"], "`emoflow check EXP.toml` says all that is wrong with a file"),
    (
        &["resume", "continue", "start", "exec", "build"],
        "`emoflow run EXP.toml` begins a run, and continues it",
    ),
    (
        &["why", "log", "logs"],
        "`emoflow explain EXP.toml NODE` says why a node runs; `emoflow status EXP.toml` how far it is",
    ),
    (&["open", "render", "view", "plot"], "`emoflow report EXP.toml --open` renders the report and opens it"),
    (&["sbatch", "slurm"], "`emoflow submit EXP.toml` has a Slurm cluster do it"),
];

/// Where the command line names a command that there is not: the one that does what is probably meant.
pub fn meant(error: &clap::Error) -> Option<&'static str> {
    if error.kind() != ErrorKind::InvalidSubcommand {
        return None;
    }
    let Some(ContextValue::String(tried)) = error.get(ContextKind::InvalidSubcommand) else { return None };
    let tried = tried.to_lowercase();
    MEANT.iter().find(|(names, _)| names.contains(&tried.as_str())).map(|(_, meant)| *meant)
}
