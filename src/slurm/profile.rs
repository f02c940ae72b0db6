//! Site-specific settings: a profile, written once for a cluster. Nothing is guessed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use fs_err as fs;
use serde::Deserialize;

use crate::secrets;

/// The file's name, next to the experiment file or in the user's configuration folder for emoflow.
pub const NAME: &str = "slurm.toml";

/// How jobs are requested at a site. Settings that are not given are left to Slurm's defaults.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Profile {
    /// Jobs that run models.
    pub model: Resources,
    /// Overrides for the jobs of one model of the experiment, by the model's name.
    pub models: BTreeMap<String, Resources>,
    /// Jobs that run no model.
    pub cpu: Resources,
    /// How many seconds before its time limit a job is signalled to stop: must be longer than a batch takes.
    pub signal: u64,
    /// How often a job that reached its time limit is requeued at most.
    pub restarts: u32,
    /// Environment modules loaded first (`module load`).
    pub modules: Vec<String>,
    /// Command prefix of the program, such as `apptainer exec --nv image.sif`.
    pub container: String,
    /// Environment variables with their values, which are written into the scripts.
    pub environment: BTreeMap<String, String>,
    /// Names of variables that Slurm passes on from the submitting environment; their values are in no script.
    pub secrets: Vec<String>,
    /// Path of the program on the compute nodes; by default that of the submitting program.
    pub program: Option<PathBuf>,
    /// Memory of the jobs' GPUs, such as `80GB`: models that do not fit are rejected before submission.
    pub gpu_memory: Option<String>,
}

/// Resources requested by a kind of job.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Resources {
    pub partition: Option<String>,
    pub account: Option<String>,
    /// The site's name of a device: by default `gpu:1` for jobs that compute on GPUs; empty: none is requested.
    pub gres: Option<String>,
    pub time: Option<String>,
    pub memory: Option<String>,
    pub cpus: Option<u32>,
    /// Additional sbatch options, one per entry.
    pub options: Vec<String>,
}

impl Default for Profile {
    fn default() -> Profile {
        Profile {
            model: Resources::default(),
            models: BTreeMap::new(),
            cpu: Resources::default(),
            // A batch takes seconds to a minute, and Slurm may send the signal a minute early.
            signal: 240,
            restarts: 20,
            modules: Vec::new(),
            container: String::new(),
            environment: BTreeMap::new(),
            secrets: Vec::new(),
            program: None,
            gpu_memory: None,
        }
    }
}

impl Profile {
    /// Resources for the jobs of a model; `None`: jobs that run no model.
    pub fn resources(&self, model: Option<&str>) -> Resources {
        let Some(model) = model else { return self.cpu.clone() };
        let base = self.model.clone();
        let Some(own) = self.models.get(model).cloned() else { return base };
        Resources {
            partition: own.partition.or(base.partition),
            account: own.account.or(base.account),
            gres: own.gres.or(base.gres),
            time: own.time.or(base.time),
            memory: own.memory.or(base.memory),
            cpus: own.cpus.or(base.cpus),
            // Of two contradicting options, sbatch uses the later one.
            options: [base.options, own.options].concat(),
        }
    }

    /// The profile in `named`; else in the folder of the `experiment` file; else in the user's configuration folder;
    /// else the default profile. Also returns the path that it was read from.
    ///
    /// # Errors
    /// A file cannot be read, such as a missing `named` one, or is invalid (with the position in the file).
    pub fn find(named: Option<&Path>, experiment: &Path) -> Result<(Profile, Option<PathBuf>)> {
        let user = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
        let user = user.or_else(|| Some(std::env::home_dir()?.join(".config")));
        let beside = experiment.parent().unwrap_or(Path::new(".")).join(NAME);
        let places = [Some(beside), user.map(|dir| dir.join("emoflow").join(NAME))];
        let found = places.into_iter().flatten().find(|path| path.is_file());
        let Some(path) = named.map(Path::to_path_buf).or(found) else {
            return Ok((Profile::default(), None));
        };
        let profile = toml::from_str(&fs::read_to_string(&path)?).map_err(anyhow::Error::from);
        let profile = profile.and_then(Profile::checked);
        Ok((profile.with_context(|| format!("the profile {}", path.display()))?, Some(path)))
    }

    /// Rejects a profile that would write a secret into a script, or whose `secrets` are not names of variables.
    fn checked(self) -> Result<Profile> {
        for (name, value) in &self.environment {
            ensure!(
                !secrets::is_secret_variable(name, value),
                "`environment.{name}` looks like a secret, which the scripts would show to everyone who may read them: write \
                 `secrets = [\"{name}\"]` instead, and set {name} where you submit"
            );
        }
        for name in &self.secrets {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
            ensure!(
                !name.is_empty() && name.chars().all(plain),
                "`secrets` holds names of variables, and `{name}` is none"
            );
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_named_and_not_written() {
        for (name, value) in
            [("HF_TOKEN", "x"), ("openai_api_key", "x"), ("OTHER", "sk-abc"), ("MY_SECRET", "x")]
        {
            let text = format!("environment = {{ {name} = \"{value}\" }}");
            let said = toml::from_str::<Profile>(&text).unwrap().checked().unwrap_err().to_string();
            assert!(said.contains(&format!("secrets = [\"{name}\"]")) && !said.contains("sk-abc"), "{said}");
        }
        for (name, value) in
            [("HF_HOME", "/hf"), ("HF_TOKEN_PATH", "/me/token"), ("KEYBOARD", "de"), ("HF_TOKEN", "")]
        {
            let text = format!("environment = {{ {name} = \"{value}\" }}");
            toml::from_str::<Profile>(&text).unwrap().checked().unwrap();
        }
        assert!(toml::from_str::<Profile>("secrets = [\"A B\"]").unwrap().checked().is_err());
    }
}
