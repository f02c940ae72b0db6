//! `emoflow submit`: freezes the plan and submits Slurm jobs: workers for what is missing, then one job that writes
//! the report.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use clap::Args;
use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::cache::size;
use super::survey::Survey;
use super::{Access, ExperimentArgs, MachineArgs, Prepared, Scope, Usage, prepare_for};
use crate::atomic;
use crate::execute::{self, Outcome};
use crate::explain::Past;
use crate::lm::free_memory::FreeMemory;
use crate::lm::{backend, device};
use crate::plan::UnitId;
use crate::plan::key::Digest;
use crate::progress::{self, Style};
use crate::results;
use crate::slurm::{self, Profile, Script};

#[derive(Args)]
pub struct SubmitArgs {
    #[command(flatten)]
    experiment: ExperimentArgs,
    #[command(flatten)]
    machine: MachineArgs,
    #[command(flatten)]
    scope: Scope,
    /// The number of devices to use at once, over all models; each model gets at least one
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    gpus: u32,
    /// The settings of this site [default: `slurm.toml` beside the experiment file, else in ~/.config/emoflow/]
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// Print the scripts; write and submit nothing
    #[arg(long)]
    dry_run: bool,
    /// Write the scripts and ask Slurm whether it would accept them; submit nothing
    #[arg(long, conflicts_with = "dry_run")]
    test: bool,
    /// Submit even though this is itself a job
    #[arg(long)]
    from_a_job: bool,
    /// Options of sbatch for every script, after `--`
    #[arg(last = true, value_name = "SBATCH OPTION")]
    options: Vec<String>,
}

/// The submitted jobs: `results/<name>/slurm/jobs.json`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Submitted {
    pub jobs: Vec<SubmittedJob>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct SubmittedJob {
    pub name: String,
    /// Slurm's job id.
    pub id: String,
    /// Seconds since 1970.
    pub at: u64,
}

impl Submitted {
    /// The jobs submitted for the experiment with results in `dir`; empty if there is no record.
    pub fn read(dir: &Path) -> Submitted {
        let text = fs::read(Submitted::file(dir)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    fn write(&self, dir: &Path) -> Result<()> {
        let file = Submitted::file(dir);
        if self.jobs.is_empty() {
            return if file.exists() { Ok(fs::remove_file(file)?) } else { Ok(()) };
        }
        atomic::replace_flushed(&file, &serde_json::to_vec_pretty(self)?)
    }

    fn file(dir: &Path) -> PathBuf {
        dir.join("slurm").join("jobs.json")
    }
}

pub fn run(args: SubmitArgs, out: &mut dyn Write) -> Result<u8> {
    ensure!(
        args.from_a_job || args.dry_run || !slurm::in_a_job(),
        Usage("this is itself a Slurm job: submit from a login node, or pass --from-a-job".to_string())
    );
    let progress = progress::start(Style::Plain);
    let access = if args.dry_run { Access::Look } else { Access::Write };
    let class = if args.machine.device == "auto" { "cuda" } else { args.machine.device.as_str() };
    let elsewhere = |_: &str| device::elsewhere(class);
    let limit = &args.scope.limit;
    let prepared =
        prepare_for(&elsewhere, &args.experiment, &args.machine, limit, access, progress.as_ref())?;
    prepared.say(progress.as_ref());
    let selected = prepared.plan.select(&args.scope.only)?;
    let found = Profile::find(args.profile.as_deref(), &args.experiment.file);
    let (mut profile, from) = found.map_err(|error| Usage(format!("{error:#}")))?;
    if let Some(from) = from {
        progress.note(&format!("profile: {}", from.display()));
    }
    for name in profile.secrets.iter().filter(|_| !args.dry_run) {
        let set = std::env::var_os(name).is_some_and(|value| !value.is_empty());
        ensure!(set, Usage(format!("`secrets` of the profile names {name}, which is not set here")));
    }
    if class == "cpu" {
        // Otherwise jobs on other processors could use another backend, and so other keys.
        let name = prepared.resolved.device.backend.name().to_string();
        profile.environment.insert(backend::VARIABLE.to_string(), name);
    }
    let room = profile.gpu_memory.as_ref().map(|text| -> Result<FreeMemory> {
        let bytes = size(text).map_err(Usage).context("`gpu_memory` of the profile")?;
        Ok(FreeMemory { bytes, from: "`gpu_memory` of the profile".to_string() })
    });
    let survey = Survey::elsewhere(&prepared, &selected, room.transpose()?);
    let obstacles = survey.blocked.values().map(String::as_str).filter(|why| !why.starts_with("needs "));
    let obstacles: BTreeSet<&str> = obstacles.collect();
    ensure!(obstacles.is_empty(), Usage(obstacles.into_iter().collect::<Vec<_>>().join("; ")));
    let Prepared { resolved, plan, store, results, .. } = &prepared;
    let (_, current) = results::report_state((resolved, plan, store), &survey.present, results);
    if survey.needed.is_empty() && (current || !selected.report) {
        writeln!(out, "nothing to submit: everything is cached")?;
        return Ok(0);
    }

    let frozen = Frozen::of(&prepared, &args, class)?;
    let scripts = scripts(&prepared, &survey.needed, &frozen, &args, &profile);
    let program = match &profile.program {
        Some(program) => program.clone(),
        None => std::env::current_exe().context("where this program is")?,
    };
    let experiment = &resolved.experiment.name;
    let text = |script: &Script| script.text(&profile, &frozen.folder, experiment, class == "cuda", &program);
    if args.dry_run {
        for script in &scripts {
            let after: String = script.after.iter().map(|name| format!(" after {name}")).collect();
            writeln!(out, "# --- {}.sbatch{after}\n{}", script.name, text(script))?;
        }
        return Ok(0);
    }
    // Written even if Slurm fails, so that the plan is on record.
    results::write_run(
        (resolved, plan, store),
        results,
        &Past::read(results),
        &Outcome::default(),
        Duration::ZERO,
    )?;
    frozen.write(&prepared)?;
    let mut submitted = Submitted::read(results);
    let mut ids: BTreeMap<&str, String> = BTreeMap::new();
    for script in &scripts {
        let path = frozen.folder.join(format!("{}.sbatch", script.name));
        fs::write(&path, text(script))?;
        if args.test {
            writeln!(out, "{}: {}", script.name, slurm::test(&path, &args.options)?)?;
            continue;
        }
        let after: Vec<String> =
            script.after.iter().filter_map(|name| ids.get(name.as_str()).cloned()).collect();
        let id = slurm::submit(&path, &after, &args.options).or_else(|error| {
            let ids: Vec<String> = ids.values().cloned().collect();
            let taken_back = ids.is_empty() || slurm::cancel(&ids).is_ok();
            let note = if taken_back { "" } else { "; earlier jobs are queued and could not be cancelled" };
            if taken_back {
                submitted.jobs.truncate(submitted.jobs.len() - ids.len());
                submitted.write(results)?;
            }
            Err(error.context(format!("submit {}{note}", path.display())))
        })?;
        writeln!(out, "{}: job {id}", script.name)?;
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        // Recorded immediately: even if a later submission fails, this job is queued.
        submitted.jobs.push(SubmittedJob { name: script.name.clone(), id: id.clone(), at });
        ids.insert(&script.name, id);
        submitted.write(results)?;
    }
    if !args.test {
        writeln!(out, "`emoflow status` shows their progress; the last job writes the report")?;
    }
    Ok(0)
}

/// The experiment and its plan, frozen in files that nobody edits, and the arguments that point workers to them.
struct Frozen {
    /// `results/<name>/slurm/`
    folder: PathBuf,
    toml: PathBuf,
    plan: PathBuf,
    /// The arguments after the subcommand.
    args: Vec<String>,
}

impl Frozen {
    fn of(prepared: &Prepared, args: &SubmitArgs, class: &str) -> Result<Frozen> {
        let Prepared { resolved, plan, store, results, .. } = prepared;
        let experiment = &resolved.experiment;
        let keys = plan.nodes.iter().flat_map(|node| node.units.iter().map(|unit| unit.key.to_string()));
        let asked = format!("{:?} {:?} {:?}", experiment.text, experiment.sets, keys.collect::<Vec<_>>());
        let name = Digest::of(asked.as_bytes()).short();
        let folder = std::path::absolute(results.join("slurm"))?;
        let (toml, plan) = (folder.join(format!("{name}.toml")), folder.join(format!("{name}.json")));
        let text = |path: &Path| path.display().to_string();
        let absolute = |path: &Path| std::path::absolute(path).map(|path| text(&path));
        let mut said = vec![text(&toml), "--project".into(), absolute(&experiment.root)?];
        let mut add = |name: &str, value: String| said.extend([name.to_string(), value]);
        experiment.sets.iter().for_each(|set| add("--set", set.clone()));
        // Otherwise the name would default to the copy's file name.
        add("--set", format!("name=\"{}\"", experiment.name));
        add("--plan", text(&plan));
        add("--cache", absolute(store.root())?);
        add("--results", absolute(results.parent().unwrap_or(Path::new(".")))?);
        add("--device", class.to_string());
        args.scope.only.iter().for_each(|pattern| add("--only", pattern.clone()));
        args.scope.limit.stories.iter().for_each(|n| add("--limit", n.to_string()));
        if args.machine.offline {
            said.push("--offline".to_string());
        }
        Ok(Frozen { folder, toml, plan, args: said })
    }

    fn write(&self, prepared: &Prepared) -> Result<()> {
        fs::create_dir_all(&self.folder)?;
        fs::write(&self.toml, &prepared.resolved.experiment.text)?;
        fs::copy(prepared.results.join("run.json"), &self.plan)?;
        Ok(())
    }
}

/// One script for each model with missing units, a second one if some wait for the texts of other models, one for
/// units that need no model, and a final one.
fn scripts(
    prepared: &Prepared,
    needed: &HashSet<UnitId>,
    frozen: &Frozen,
    args: &SubmitArgs,
    profile: &Profile,
) -> Vec<Script> {
    let Prepared { resolved, plan, .. } = prepared;
    let belongs = execute::models(plan);
    let command = |name: &str, more: &[&str]| -> Vec<String> {
        let more = more.iter().map(|word| word.to_string());
        [name.to_string()].into_iter().chain(frozen.args.clone()).chain(more).collect()
    };
    let (signal, restarts) = (profile.signal.to_string(), profile.restarts.to_string());
    let in_job = ["--slurm", &signal, "--restarts", &restarts, "--progress", "plain"];
    let runs = |id: &&UnitId| plan.nodes[id.node].model.is_some();
    let models: BTreeSet<usize> = needed.iter().filter(runs).filter_map(|id| belongs[id.node]).collect();
    let others = |id: &UnitId| -> BTreeSet<usize> {
        let inputs = plan.unit(*id).inputs.iter().filter(|input| needed.contains(input));
        inputs.filter_map(|input| belongs[input.node]).filter(|&of| Some(of) != belongs[id.node]).collect()
    };
    let mut scripts = Vec::new();
    for (place, &model) in models.iter().enumerate() {
        let name = &resolved.models[model].name;
        let loads = &resolved.models[resolved.models[model].checks.unwrap_or(model)].name;
        let units: Vec<&UnitId> =
            needed.iter().filter(runs).filter(|id| belongs[id.node] == Some(model)).collect();
        // Shards, which can be computed in parallel.
        let stages: BTreeSet<&str> = units.iter().map(|id| plan.nodes[id.node].work.stage()).collect();
        let shards = |stage: &str| {
            let of_stage = units.iter().filter(|id| plan.nodes[id.node].work.stage() == stage);
            of_stage.map(|id| (id.node, plan.unit(**id).stories.start)).collect::<BTreeSet<_>>().len()
        };
        let most = stages.into_iter().map(shards).max().unwrap_or(1);
        let (each, rest) = (args.gpus as usize / models.len(), args.gpus as usize % models.len());
        let tasks = (each + usize::from(place < rest)).clamp(1, most);
        let waits_for: BTreeSet<usize> = units.iter().flat_map(|id| others(id)).collect();
        let about = format!("Computes units of {name}; submit it again to add workers");
        let more = [&["--model", name], in_job.as_slice()].concat();
        let script = |stem: String, after: Vec<String>| Script {
            name: stem,
            about: about.clone(),
            model: Some(loads.clone()),
            tasks: Some(tasks),
            after,
            args: command("worker", &more),
        };
        let first = format!("model-{name}");
        if units.iter().any(|id| others(id).is_empty() && !plan.unit(**id).stories.is_empty())
            || waits_for.is_empty()
        {
            scripts.push(script(first.clone(), Vec::new()));
        }
        if !waits_for.is_empty() {
            let mut after: Vec<String> =
                waits_for.iter().map(|&of| format!("model-{}", resolved.models[of].name)).collect();
            after.push(first);
            scripts.push(script(format!("after-{name}"), after));
        }
    }
    // Jobs that wait come last, as Slurm needs the ids of the jobs they wait for.
    scripts.sort_by_key(|script| !script.after.is_empty());
    if needed.iter().any(|id| {
        plan.nodes[id.node].model.is_none() && belongs[id.node].is_none_or(|of| !models.contains(&of))
    }) {
        scripts.push(Script {
            name: "cpu".to_string(),
            about: "Computes what needs no model".to_string(),
            model: None,
            tasks: None,
            after: Vec::new(),
            args: command("worker", &[&["--no-model"], in_job.as_slice()].concat()),
        });
    }
    let after = scripts.iter().map(|script| script.name.clone()).collect();
    scripts.push(Script {
        name: "finish".to_string(),
        about: "Writes the report, however the others ended, and lists what is missing".to_string(),
        model: None,
        tasks: None,
        after,
        args: command("finish", &["--progress", "plain"]),
    });
    scripts
}
