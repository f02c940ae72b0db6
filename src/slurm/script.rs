//! Generates the text of batch scripts for sbatch. Independent of plans.

use std::path::Path;

use super::profile::{Profile, Resources};

/// Description of a batch script.
#[derive(Clone, Debug, PartialEq)]
pub struct Script {
    /// Stem of the file's name and suffix of the job's name.
    pub name: String,
    /// What the script does, for its readers.
    pub about: String,
    /// The model that the job runs.
    pub model: Option<String>,
    /// Number of array tasks; `None`: not an array.
    pub tasks: Option<usize>,
    /// Names of the scripts whose jobs must have ended first, successfully or not.
    pub after: Vec<String>,
    /// Command-line arguments of the program.
    pub args: Vec<String>,
}

impl Script {
    /// The script's text. Logs go to `folder`; `experiment` is part of the job's name; `gpu`: models run on a GPU.
    pub fn text(
        &self,
        profile: &Profile,
        folder: &Path,
        experiment: &str,
        gpu: bool,
        program: &Path,
    ) -> String {
        let shell = if profile.modules.is_empty() { "#!/bin/bash" } else { "#!/bin/bash -l" };
        let mut lines = vec![shell.to_string()];
        lines.push(format!("# {}. Written by `emoflow submit`.", self.about));
        let mut option = |option: String| lines.push(format!("#SBATCH {option}"));
        option(format!("--job-name=emoflow-{experiment}-{}", self.name));
        let log = if self.tasks.is_some() { "%A_%a" } else { "%j" };
        option(format!(
            "--output={}",
            quoted(&format!("{}/{}-{log}.log", folder.display().to_string().replace('%', "%%"), self.name))
        ));
        option("--open-mode=append".to_string());
        if let Some(tasks) = self.tasks {
            option(format!("--array=0-{}", tasks - 1));
        }
        option("--nodes=1 --ntasks=1".to_string());
        if self.model.is_some() {
            option("--requeue".to_string());
        }
        // Signals only the batch shell, which `exec` replaces by the worker.
        option(format!("--signal=B:USR1@{}", profile.signal));
        let asked = profile.resources(self.model.as_deref());
        let Resources { partition, account, gres, time, memory, cpus, options } = asked;
        let gres = gres.or((self.model.is_some() && gpu).then(|| "gpu:1".to_string()));
        let said = [
            ("partition", partition),
            ("account", account),
            ("gres", gres.filter(|gres| !gres.is_empty())),
            ("time", time),
            ("mem", memory),
            ("cpus-per-task", cpus.map(|cpus| cpus.to_string())),
        ];
        for (name, value) in said {
            value.into_iter().for_each(|value| option(format!("--{name}={}", quoted(&value))));
        }
        options.into_iter().for_each(option);
        lines.extend(profile.modules.iter().map(|module| format!("module load {}", quoted(module))));
        let exports = profile.environment.iter();
        lines.extend(exports.map(|(name, value)| format!("export {name}={}", quoted(value))));
        let secrets = profile.secrets.iter();
        lines.extend(secrets.map(|name| {
            format!(": \"${{{name}:?Slurm did not hand it on from where this was submitted}}\"")
        }));
        let mut command = vec!["exec".to_string()];
        command.extend((!profile.container.is_empty()).then(|| profile.container.clone()));
        command.push(quoted(&program.display().to_string()));
        command.extend(self.args.iter().map(|arg| quoted(arg)));
        lines.push(command.join(" "));
        lines.join("\n") + "\n"
    }
}

/// A word quoted for the shell.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:@%+".contains(c);
    match word {
        word if !word.is_empty() && word.chars().all(plain) => word.to_string(),
        word => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(model: Option<&str>, tasks: Option<usize>) -> Script {
        let args = ["worker", "it's.toml", "--model", "demo"].map(str::to_string).to_vec();
        Script {
            name: "model-demo".into(),
            about: "About".into(),
            model: model.map(str::to_string),
            tasks,
            after: Vec::new(),
            args,
        }
    }

    #[test]
    fn what_the_profile_says_is_asked_for_and_nothing_else() {
        let (folder, program) = (Path::new("/r/50% of/slurm"), Path::new("/bin/emoflow"));
        let plain = script(Some("demo"), Some(3)).text(&Profile::default(), folder, "exp", true, program);
        let wanted = "#!/bin/bash
# About. Written by `emoflow submit`.
#SBATCH --job-name=emoflow-exp-model-demo
#SBATCH --output='/r/50%% of/slurm/model-demo-%A_%a.log'
#SBATCH --open-mode=append
#SBATCH --array=0-2
#SBATCH --nodes=1 --ntasks=1
#SBATCH --requeue
#SBATCH --signal=B:USR1@240
#SBATCH --gres=gpu:1
exec /bin/emoflow worker 'it'\\''s.toml' --model demo
";
        assert_eq!(plain, wanted);
        let profile = r#"
            signal = 60
            modules = ["cuda/12.8"]
            container = "apptainer exec --nv /a b.sif"
            environment = { HF_HOME = "/h f" }
            secrets = ["HF_TOKEN"]
            [model]
            partition = "gpu"
            gres = ""
            time = "1:00:00"
            memory = "8G"
            cpus = 4
            options = ["--qos=low"]
            [models.large]
            partition = "h200"
            options = ["--exclusive"]
            [cpu]
            account = "me"
        "#;
        let profile: Profile = toml::from_str(profile).unwrap();
        let text = script(Some("demo"), None).text(&profile, folder, "exp", true, program);
        let end = "#SBATCH --requeue
#SBATCH --signal=B:USR1@60
#SBATCH --partition=gpu
#SBATCH --time=1:00:00
#SBATCH --mem=8G
#SBATCH --cpus-per-task=4
#SBATCH --qos=low
module load cuda/12.8
export HF_HOME='/h f'
: \"${HF_TOKEN:?Slurm did not hand it on from where this was submitted}\"
exec apptainer exec --nv /a b.sif /bin/emoflow worker 'it'\\''s.toml' --model demo
";
        assert!(text.starts_with("#!/bin/bash -l\n") && text.ends_with(end), "{text}");
        let large = script(Some("large"), None).text(&profile, folder, "exp", true, program);
        let own = "--partition=h200\n#SBATCH --time=1:00:00\n#SBATCH --mem=8G\n#SBATCH --cpus-per-task=4\n\
                   #SBATCH --qos=low\n#SBATCH --exclusive\n";
        assert!(large.contains(own), "{large}");
        let cpu = script(None, None).text(&profile, folder, "exp", true, program);
        assert!(
            cpu.contains("--account=me") && !cpu.contains("gres") && !cpu.contains("--partition"),
            "{cpu}"
        );
        for wrong in ["accounts = \"me\"", "[model]\ntime = 3", "signal = -1"] {
            assert!(toml::from_str::<Profile>(wrong).is_err(), "{wrong}");
        }
    }
}
