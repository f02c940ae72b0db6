//! A project folder that vanishes with the test: an experiment file, a cache, results.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A folder with an experiment on the demonstration model.
pub struct Project {
    dir: tempfile::TempDir,
}

/// What one command left.
pub struct Ran {
    pub code: u8,
    pub out: String,
    /// State of each node, by name; from `run.json`.
    pub nodes: BTreeMap<String, String>,
}

impl Ran {
    /// Names of the nodes in `state`, sorted.
    pub fn names(&self, state: &str) -> Vec<&str> {
        self.nodes.iter().filter(|(_, s)| *s == state).map(|(name, _)| name.as_str()).collect()
    }
}

impl Project {
    /// A project whose `exp.toml` is `text`, in which `{demo}` stands for the demonstration model's folder.
    pub fn new(text: &str) -> Project {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("emoflow.toml"), "").unwrap();
        let project = Project { dir };
        project.write(text);
        project
    }

    /// Replaces the experiment file.
    pub fn write(&self, text: &str) {
        let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
        std::fs::write(self.path("exp.toml"), text.replace("{demo}", demo.to_str().unwrap())).unwrap();
    }

    /// A path inside the project.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.dir.path().join(inside)
    }

    /// The command `emoflow <command> exp.toml <more>`, in this process.
    pub fn emoflow(&self, command: &str, more: &[&str]) -> Ran {
        let file = self.path("exp.toml");
        let mut args = vec!["emoflow", command, file.to_str().unwrap()];
        args.extend(more);
        let mut out = Vec::new();
        let code = emoflow::run(args, &mut out);
        Ran { code, out: String::from_utf8(out).unwrap(), nodes: self.nodes() }
    }

    /// `emoflow run` on the CPU, without progress.
    pub fn run(&self, more: &[&str]) -> Ran {
        let mut args = vec!["--device", "cpu", "--quiet"];
        args.extend(more);
        self.emoflow("run", &args)
    }

    fn nodes(&self) -> BTreeMap<String, String> {
        let Ok(text) = std::fs::read_to_string(self.path("results/exp/run.json")) else {
            return BTreeMap::new();
        };
        let run: serde_json::Value = serde_json::from_str(&text).unwrap();
        let text = |v: &serde_json::Value| v.as_str().unwrap().to_string();
        run["nodes"].as_array().unwrap().iter().map(|n| (text(&n["name"]), text(&n["state"]))).collect()
    }
}
