//! `emoflow init`: writes a commented experiment file to start from.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::Usage;
use crate::atomic;
use crate::config::problem::suggestion;
use crate::config::project_root;

/// The file without `--from`: one model, passages (generated stories commented out), four analyses of one set.
const FIRST: &str = include_str!("first.toml");

/// The line of `FIRST` that names the model.
const MODEL: &str = "repo = \"HuggingFaceTB/SmolLM2-135M-Instruct\"";
/// The model that ships with the source, relative to the project.
const DEMO: &str = "models/demo";

macro_rules! shipped {
    ($($name:literal),+ $(,)?) => {
        /// The experiments that ship, by name.
        const SHIPPED: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../../experiments/", $name, ".toml")))),+];
    };
}

shipped!(
    "quickstart",
    "quickstart-sweep",
    "quickstart-models",
    "statistics",
    "behaviour",
    "behaviour-small",
    "behaviour-8b",
    "monitor",
    "speakers",
    "deflection",
    "shift",
    "real",
    "real-own",
    "llama-3.2-1b",
    "gemma4",
    "paper",
    "sweep-1b-8b",
    "planted",
    "pythia-scale",
    "cross-writers",
);

/// Writes `<name>.toml`, a copy of the included experiment `from` if given, and prints the next steps.
///
/// # Errors
/// There is no such experiment; the file already exists.
pub fn run(name: &str, from: Option<&str>, out: &mut dyn Write) -> Result<u8> {
    let file = match name.ends_with(".toml") {
        true => PathBuf::from(name),
        false => PathBuf::from(format!("{name}.toml")),
    };
    let text = match from {
        None => first(&file),
        Some(from) => match SHIPPED.iter().find(|(name, _)| *name == from) {
            Some((_, text)) => text.to_string(),
            None => {
                let hint = suggestion(from, "there are", SHIPPED.iter().map(|(name, _)| *name));
                return Err(Usage(format!("there is no included experiment `{from}`; {hint}")).into());
            }
        },
    };
    if file.exists() {
        return Err(Usage(format!("`{}` exists already: choose another name", file.display())).into());
    }
    atomic::replace(&file, text.as_bytes())?;
    let shown = file.display();
    writeln!(out, "{shown}")?;
    say!("next: emoflow check {shown}; emoflow plan {shown}; emoflow run {shown}");
    Ok(0)
}

/// The first experiment, with the demonstration model if the project has it.
fn first(file: &Path) -> String {
    match project_root(file).join(DEMO).join("config.json").is_file() {
        true => FIRST.replace(MODEL, &format!("path = \"{DEMO}\"")),
        false => FIRST.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Experiment;

    #[test]
    fn every_experiment_that_ships_can_be_begun_with() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut there: Vec<String> = fs_err::read_dir(root.join("experiments"))
            .unwrap()
            .filter_map(|entry| Some(entry.unwrap().file_name().to_str()?.strip_suffix(".toml")?.to_string()))
            .collect();
        there.sort();
        let mut shipped: Vec<&str> = SHIPPED.iter().map(|(name, _)| *name).collect();
        shipped.sort_unstable();
        assert_eq!(shipped, there);
    }

    #[test]
    fn the_first_experiment_is_right() {
        assert!(FIRST.contains(MODEL));
        Experiment::parse(Path::new("first.toml"), Path::new("."), FIRST).unwrap();
    }
}
