//! What is different at each site: a profile, which people write once for a cluster. Guesses nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use fs_err as fs;
use serde::Deserialize;

use crate::secrets;

/// The file's name, beside the experiment file or in the user's configuration folder for emoflow.
pub const NAME: &str = "slurm.toml";

/// How jobs are asked for at a site. What it does not say is left to Slurm.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Profile {
    /// Jobs that run models.
    pub model: Resources,
    /// What is different for jobs of one model of the experiment, by its name.
    pub models: BTreeMap<String, Resources>,
    /// Jobs that run none.
    pub cpu: Resources,
    /// How many seconds before its end a job is told to stop: longer than a batch takes.
    pub signal: u64,
    /// How often at most a job whose time was over is queued again.
    pub restarts: u32,
    /// Modules that are loaded first.
    pub modules: Vec<String>,
    /// What goes before the program, as in `apptainer exec --nv image.sif`.
    pub container: String,
    /// Variables, with their values: scripts show them.
    pub environment: BTreeMap<String, String>,
    /// Names of variables that jobs take from who submits, through Slurm: no script holds what they are.
    pub secrets: Vec<String>,
    /// Where the program is on the nodes; the one that submits, if it does not say.
    pub program: Option<PathBuf>,
    /// What a GPU of the jobs has, as in `80GB`: models that do not fit are refused before anything is submitted.
    pub gpu_memory: Option<String>,
}

/// What a kind of job asks for.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Resources {
    pub partition: Option<String>,
    pub account: Option<String>,
    /// How a device is called here: `gpu:1`, if a job that computes on GPUs does not say; empty: it is not asked for.
    pub gres: Option<String>,
    pub time: Option<String>,
    pub memory: Option<String>,
    pub cpus: Option<u32>,
    /// Further options of sbatch, one each.
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
    /// What jobs of a model ask for; of `None`, jobs that run none.
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
            // The later of two that contradict each other is heard.
            options: [base.options, own.options].concat(),
        }
    }

    /// The profile in `named`; else in the folder of the `experiment` file; else in the user's configuration folder; else
    /// one that says nothing. With it, where it is from.
    ///
    /// # Errors
    /// A file that is not there though it was named, and what is wrong in one, with its place.
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

    /// An error where a script would hold a secret, or a job would lack one.
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
