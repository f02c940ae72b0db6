//! The subcommands: parses the command line, runs the phases in order and prints their output.

mod args;
mod cache;
mod cancel;
mod check;
mod completions;
mod diff;
mod doctor;
mod estimate;
mod explain;
mod export;
mod finish;
mod graph;
mod init;
mod misnamed;
mod report;
mod rm;
mod room;
mod run;
mod serve;
mod setup;
mod show;
mod show_plan;
mod status;
mod submit;
mod survey;
mod worker;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use args::{ExperimentArgs, Limit, MachineArgs, Scope, Voice};
use clap::{Parser, Subcommand};
use graph::Language;
use show_plan::Show;

use crate::config::problem::Problems;
use crate::config::{self, DialogueSource, Experiment, ModelSource, SourceKind};
use crate::interrupt::{self, Interrupted};
use crate::lm::device::{self, Choice};
use crate::lm::libtorch;
use crate::plan::{self, Nothing, Plan};
use crate::progress::{self, Progress, Style};
use crate::resolve::{self, Resolved};
use crate::results;
use crate::slurm::quoted;
use crate::store::Store;

/// Emotion vectors inside language models: runs, caches and reports the experiments that a TOML file declares.
#[derive(Parser)]
#[command(name = "emoflow", version, max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done; 1 some nodes failed; 2 the experiment or the command line is wrong; \
                          4 nothing selected; 5 something is missing (finish); 75 interrupted (SIGINT, SIGTERM, SIGUSR1, SIGHUP), the same command continues; \
                          101 a bug";

#[derive(Subcommand)]
enum Command {
    /// Run an experiment: computes only what is missing and writes the results; the same command resumes
    Run(run::RunArgs),
    /// Compute units of a run that was started elsewhere until none is ready; writes no results
    Worker(worker::WorkerArgs),
    /// Run an experiment on a Slurm cluster; submits nothing if everything is cached
    Submit(submit::SubmitArgs),
    /// After workers have ended: compute what needs no model, write the report, list what is missing
    Finish(finish::FinishArgs),
    /// Show what would run and what is cached; loads no model, takes no lock
    Plan {
        #[command(flatten)]
        experiment: ExperimentArgs,
        #[command(flatten)]
        machine: MachineArgs,
        #[command(flatten)]
        scope: Scope,
        /// The plan as JSON, with every unit's key
        #[arg(long)]
        json: bool,
        /// Exit with 1 if anything would run
        #[arg(long)]
        exit_code: bool,
        /// The plan as a graph, one box per stage
        #[arg(long, value_enum, value_name = "LANGUAGE", conflicts_with = "json")]
        graph: Option<Language>,
    },
    #[command(allow_missing_positional = true)]
    /// Explain why a node has to run or is cached: the changed field, traced to its root; loads no model, takes no lock
    Explain {
        #[command(flatten)]
        experiment: ExperimentArgs,
        /// The node's name, as `plan` prints it (`*` matches anything)
        #[arg(value_name = "NODE", add = completions::nodes())]
        node: String,
        #[command(flatten)]
        machine: MachineArgs,
        #[command(flatten)]
        limit: Limit,
        /// Every unit with its reason, as JSON
        #[arg(long)]
        json: bool,
    },
    /// Validate experiment files and print every problem
    Check {
        /// The experiment files
        #[arg(value_name = "EXP.toml", default_value = args::DEFAULT, value_hint = clap::ValueHint::FilePath)]
        files: Vec<PathBuf>,
        /// Replace one key of each file, as in `activations.from_token=20`; repeatable
        #[arg(long, value_name = "KEY.PATH=VALUE")]
        set: Vec<String>,
        /// The result for each file as JSON
        #[arg(long)]
        json: bool,
    },
    /// Write a commented experiment file to start from
    Init {
        /// The file's name, with or without `.toml`
        #[arg(value_name = "NAME", default_value = "experiment")]
        name: String,
        /// An included experiment, such as `quickstart`
        #[arg(long, value_name = "EXPERIMENT")]
        from: Option<String>,
    },
    #[command(allow_missing_positional = true)]
    /// Print a node's tables; `claims`: the findings, under the names that criteria use
    Show {
        #[command(flatten)]
        experiment: ExperimentArgs,
        /// The node's name, as `plan` prints it (`*` matches anything), or `claims`
        #[arg(value_name = "NODE", add = completions::nodes())]
        node: String,
        /// The number of rows of each table
        #[arg(long, default_value_t = 20, value_name = "N")]
        rows: usize,
        /// Print only the paths of the files
        #[arg(long)]
        path: bool,
        #[command(flatten)]
        machine: MachineArgs,
        #[command(flatten)]
        limit: Limit,
    },
    /// List the differences between two runs: parameters, inputs, claims; exits with 1 if there are any
    Diff {
        /// A results folder, or a run.json
        #[arg(value_name = "RUN")]
        before: PathBuf,
        /// Another one
        #[arg(value_name = "RUN")]
        after: PathBuf,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    #[command(allow_missing_positional = true)]
    /// Remove a node's results from the cache, so that the next run computes them again
    Rm {
        #[command(flatten)]
        experiment: ExperimentArgs,
        /// The node's name, as `plan` prints it (`*` matches anything)
        #[arg(value_name = "NODE", add = completions::nodes())]
        node: String,
        /// Remove without asking; required if there is no terminal
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        machine: MachineArgs,
        #[command(flatten)]
        limit: Limit,
    },
    /// Cancel an experiment's jobs in Slurm's queue
    Cancel {
        #[command(flatten)]
        experiment: ExperimentArgs,
        #[command(flatten)]
        machine: MachineArgs,
    },
    /// Print the JSON Schema of experiment files, for editors
    Schema,
    /// Download the libtorch that this program needs, once; not needed if a Python environment has it
    Setup {
        /// The build for CPUs (about 1 GB)
        #[arg(long, conflicts_with = "cuda")]
        cpu: bool,
        /// The build with CUDA (about 6 GB) [default on machines with an NVIDIA GPU]
        #[arg(long)]
        cuda: bool,
    },
    /// Write the report again from the cache
    Report {
        #[command(flatten)]
        experiment: ExperimentArgs,
        #[command(flatten)]
        machine: MachineArgs,
        #[command(flatten)]
        limit: Limit,
        /// Open it in the browser
        #[arg(long)]
        open: bool,
    },
    /// Serve the report, tables, progress, a playground for steering, and OpenAI's protocol on this machine
    Serve(serve::ServeArgs),
    /// Write vectors in the formats of other tools: llama.cpp, repeng, Python
    Export(export::ExportArgs),
    /// Show a run's progress, also from another terminal or after a crash; takes no lock, writes nothing
    Status(status::StatusArgs),
    /// Print a script that completes commands, flags and names of nodes: `source <(emoflow completions bash)`
    Completions {
        /// The shell
        #[arg(value_name = "SHELL", value_parser = completions::SHELLS)]
        shell: String,
    },
    /// List, verify and clean up the cache
    #[command(subcommand)]
    Cache(cache::Command),
    /// Print device, libtorch, hub and versions for bug reports; test the device's arithmetic and the cache's file system
    Doctor {
        #[command(flatten)]
        cache: cache::CacheArgs,
        /// The device to test: auto, cpu, cuda, cuda:N, mps
        #[arg(long, default_value = "auto")]
        device: String,
        /// Never open a socket
        #[arg(long)]
        offline: bool,
        /// Check the device now, in every dtype, even if it was checked before
        #[arg(long)]
        check: bool,
        /// The results as JSON
        #[arg(long)]
        json: bool,
        /// A command that leads to another machine sharing the cache, as in "ssh node7" or "srun -w node7", to test whether a
        /// process there immediately sees what is written here
        #[arg(long, value_name = "COMMAND")]
        through: Option<String>,
        /// Print a file, as seen by this process
        #[arg(long, value_name = "FILE", hide = true)]
        see: Option<PathBuf>,
    },
}

/// The result of the phases before execution.
struct Prepared {
    resolved: Resolved,
    plan: Plan,
    store: Store,
    /// `results/<name>/`
    results: PathBuf,
    /// Number of stories per emotion.
    limit: Option<usize>,
}

impl Prepared {
    /// Reports what is absent from the plan, and where the limit is not followed exactly.
    fn say(&self, progress: &dyn Progress) {
        for absent in &self.resolved.absent {
            progress.note(&format!("error: model `{}`: {}", absent.name, absent.why));
        }
        for (name, files) in self.resolved.story_files() {
            files.notes(name).iter().for_each(|note| progress.note(note));
        }
        for (name, files) in self.resolved.transcript_files() {
            files.survey.notes(name).iter().for_each(|note| progress.note(note));
        }
        for note in self.limit.into_iter().flat_map(|limit| plan::limit_notes(&self.resolved, limit)) {
            progress.note(&note);
        }
    }
}

pub fn finishes(args: &[OsString]) -> bool {
    Cli::try_parse_from(args)
        .is_ok_and(|cli| matches!(cli.command, Command::Run(_) | Command::Worker(_) | Command::Finish(_)))
}

pub fn parses(args: &[String]) -> Result<(), String> {
    match Cli::try_parse_from(args) {
        Err(error) if error.use_stderr() => Err(error.to_string()),
        _ => Ok(()), // success, or a request for help
    }
}

pub fn run(args: impl IntoIterator<Item = impl Into<OsString> + Clone>, out: &mut dyn Write) -> u8 {
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    if completions::asked(&args) {
        return 0;
    }
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            if let Some(meant) = misnamed::meant(&error) {
                say!("{meant}");
            }
            return error.exit_code() as u8;
        }
    };
    match dispatch(cli.command, out) {
        Err(error) if error.is::<Interrupted>() => {
            say!("interrupted; nothing finished is lost. To continue: {}", shell(&args));
            interrupt::EXIT_CODE
        }
        Ok(code) => code,
        Err(error) => {
            if let Some(problems) = error.downcast_ref::<Problems>() {
                say!("{problems}");
                return 2;
            }
            say!("error: {error:#}");
            match () {
                () if error.is::<Usage>() => 2,
                () if error.is::<Nothing>() => 4,
                () => 1,
            }
        }
    }
}

/// `args` as a shell command line.
fn shell(args: &[OsString]) -> String {
    args.iter().map(|arg| quoted(&arg.to_string_lossy())).collect::<Vec<_>>().join(" ")
}

/// An invalid command line.
#[derive(Debug)]
pub struct Usage(pub String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

fn dispatch(command: Command, out: &mut dyn Write) -> Result<u8> {
    match command {
        Command::Schema => {
            serde_json::to_writer_pretty(&mut *out, &config::keys::schema())?;
            writeln!(out)?;
            Ok(0)
        }
        Command::Setup { cpu, cuda } => setup::run((cpu || cuda).then_some(cuda), out),
        Command::Check { files, set, json } => check::run(&files, &set, json, out),
        Command::Init { name, from } => init::run(&name, from.as_deref(), out),
        Command::Show { experiment, node, rows, path, machine, limit } => {
            if node == show::CLAIMS {
                let checked = experiment.read(&|_| Vec::new())?;
                return show::claims(&machine.results(&checked), path, out);
            }
            let prepared = looked(&experiment, &machine, &limit)?;
            show::node(&prepared, &node, (rows, path), &experiment.file, out)
        }
        Command::Diff { before, after, json } => diff::run([&before, &after], json, out),
        Command::Rm { experiment, node, yes, machine, limit } => {
            rm::run(&looked(&experiment, &machine, &limit)?, &node, yes, out)
        }
        Command::Cancel { experiment, machine } => {
            let checked = experiment.read(&|_| Vec::new())?;
            cancel::run(&machine.results(&checked), out)
        }
        Command::Cache(command) => cache::run(command, out),
        Command::Doctor { see: Some(file), .. } => doctor::see(&file, out),
        Command::Doctor { cache, device, offline, check, json, through, see: None } => {
            doctor::run(&cache, &doctor::Asked { through, device, offline, check, json }, out)
        }
        Command::Status(args) => status::run(&args, out),
        Command::Completions { shell } => completions::script(&shell, out),
        Command::Plan { experiment, machine, scope, json, exit_code, graph } => {
            let progress = progress::start(Style::Auto);
            let prepared = prepare(&experiment, &machine, &scope.limit, Access::Look, &*progress)?;
            prepared.say(&*progress);
            let show = match graph {
                Some(language) => Show::Graph(language),
                None if json => Show::Json,
                None => Show::Lines,
            };
            let runs = show_plan::print(&prepared, &prepared.plan.select(&scope.only)?, show, out)?;
            Ok(u8::from(exit_code && runs))
        }
        Command::Explain { experiment, node, machine, limit, json } => {
            let progress = progress::start(Style::Auto);
            let prepared = prepare(&experiment, &machine, &limit, Access::Look, &*progress)?;
            prepared.say(&*progress);
            explain::print(&prepared, &node, json, out)?;
            Ok(0)
        }
        Command::Report { experiment, machine, limit, open } => {
            let progress = progress::start(Style::Auto);
            let prepared = prepare(&experiment, &machine, &limit, Access::Write, &*progress)?;
            prepared.say(&*progress);
            report::render(&prepared, open, out)
        }
        Command::Export(args) => export::run(&args, out),
        Command::Serve(args) => serve::run(&args, out),
        Command::Run(args) => run::run(args, out),
        Command::Worker(args) => worker::run(args, out),
        Command::Submit(args) => submit::run(args, out),
        Command::Finish(args) => finish::run(args, out),
    }
}

/// Whether a command may write into the cache.
#[derive(PartialEq)]
enum Access {
    Look,
    Write,
}

/// The plan for a read-only command.
fn looked(experiment: &ExperimentArgs, machine: &MachineArgs, limit: &Limit) -> Result<Prepared> {
    let progress = progress::start(Style::Auto);
    let prepared = prepare(experiment, machine, limit, Access::Look, &*progress)?;
    prepared.say(&*progress);
    Ok(prepared)
}

fn prepare(
    experiment: &ExperimentArgs,
    machine: &MachineArgs,
    limit: &Limit,
    access: Access,
    progress: &dyn Progress,
) -> Result<Prepared> {
    let first = |wanted: &str| Ok(device::choose_all(wanted)?.into_iter().next().expect("a device"));
    prepare_for(&first, experiment, machine, limit, access, progress)
}

/// Like [`prepare`], with a device chosen by `choose`: it may belong to another machine.
fn prepare_for(
    choose: &dyn Fn(&str) -> Result<Choice>,
    experiment: &ExperimentArgs,
    machine: &MachineArgs,
    limit: &Limit,
    access: Access,
    progress: &dyn Progress,
) -> Result<Prepared> {
    let checked = experiment.read(&resolve::check_file)?;
    if access == Access::Write && asks_hub(&checked) {
        libtorch::load(); // before the hub is queried, so that it is queried only once
    }
    let device = choose(&machine.device).map_err(|e| Usage(format!("{e:#}")))?;
    let mut store = Store::open(machine.cache(&checked))?;
    store = store.record_version("libtorch", env!("EMOFLOW_LIBTORCH_VERSION"));
    let life = Duration::try_from_secs_f64(machine.lease_seconds).ok().filter(|life| !life.is_zero());
    store = store.lease_life(life.ok_or_else(|| Usage("--lease-seconds is not a duration".to_string()))?);
    if access == Access::Look {
        store = store.read_only();
    }
    let results = machine.results(&checked);
    if let (None, Some(other)) = (&experiment.project, results::of_another(&results, &checked)) {
        let (shown, name) = (results.display(), &checked.name);
        return Err(Usage(format!(
            "`{shown}` contains the results of {}, which has the same name: give this experiment another name, such as \
             `name = \"{name}-2\"`, or remove that folder",
            other.display()
        ))
        .into());
    }
    let resolved = resolve::resolve(checked, &store, device, machine.offline, progress)?;
    let limit = limit.stories.map(|n| n as usize);
    let plan = plan::build_limited(&resolved, limit);
    Ok(Prepared { resolved, plan, store, results, limit })
}

/// Whether any part of the experiment comes from the hub.
fn asks_hub(experiment: &Experiment) -> bool {
    let mut sources = experiment.stories.iter().map(|source| &source.kind).chain(&experiment.neutral);
    let spoken = |dialogues: &config::Dialogues| matches!(dialogues.source, DialogueSource::Dataset(_));
    experiment.models.iter().any(|model| matches!(model.source, ModelSource::Repo { .. }))
        || experiment.dialogues.iter().any(spoken)
        || sources.any(|kind| matches!(kind, SourceKind::Dataset(_)))
}
