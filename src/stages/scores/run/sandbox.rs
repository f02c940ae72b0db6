//! Runs untrusted programs that a model wrote in a sandbox, and nowhere else: `monty`, a Python interpreter without
//! files, network and processes, or a command of the user; each run in a process of its own, with limits. Independent
//! of the tests.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use regex::Regex;
use sha2::{Digest, Sha256};

use crate::params::{Read as Reads, Reader, Type, filled, params};

/// The default sandbox.
const MONTY: &str = "monty";
/// The environment variable with a path to Monty outside PATH.
const MONTY_AT: &str = "EMOFLOW_MONTY";
/// Seconds beyond Monty's own limit after which it is killed from outside.
const GRACE: f64 = 10.0;
/// The recursion limit.
const DEEPEST: usize = 500;
/// The limit on bytes of output that are read.
const MOST: u64 = 1 << 20;
/// The environment variables passed to a command of the user: what it needs to start, and no keys.
const ENVIRONMENT: [&str; 6] = ["PATH", "HOME", "USER", "LANG", "XDG_RUNTIME_DIR", "DOCKER_HOST"];

params! {
    /// Where programs run.
    pub struct Sandbox {
        /// With `run`: what runs the programs that a model wrote. `monty` is a Python interpreter without files, network and
        /// processes (`pip install pydantic-monty-runtime`), looked for in PATH. Or a command of yours, its words parted by spaces,
        /// which reads a program from its standard input: see docs/behaviour.md.
        #[with(filled)]
        pub sandbox: String = "monty";
        /// With `run`: seconds that a program may take; of a command with all that it does to begin.
        pub seconds: f64 = 5.0, above 0.0..=3600.0;
        /// With `run`: MiB that a program may take in `monty`. A command of yours sets its own limit.
        pub memory: usize = 64, 1..=65_536;
        // Which it is, once it is found.
        #[of(Type::NONE)]
        #[with(unknown)]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub version: Option<String>;
        // Where it is.
        #[of(Type::NONE)]
        #[with(nowhere)]
        #[serde(skip)]
        pub program: PathBuf;
    }
}

fn unknown(_: &Reader<'_>, _: &str) -> Reads<Option<String>> {
    Ok(None)
}

fn nowhere(_: &Reader<'_>, _: &str) -> Reads<PathBuf> {
    Ok(PathBuf::new())
}

/// The result of running a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ran {
    /// The program and the tests after it ran to the end.
    Passed,
    /// It raised an error, or exited before the tests ended.
    Failed(String),
    /// It exceeded a limit.
    Exceeded(String),
    /// It is not Python, or uses something that the sandbox does not support.
    Unsupported(String),
}

impl Sandbox {
    /// Locates the sandbox.
    ///
    /// # Errors
    /// It is not found; the message says what to do.
    pub fn find(&mut self) -> Result<()> {
        let named = self.sandbox.split_whitespace().next().context("no sandbox is named")?;
        if named != MONTY {
            self.program =
                found(named).with_context(|| format!("there is no `{named}`, the sandbox of programs"))?;
            return Ok(());
        }
        let elsewhere = std::env::var_os(MONTY_AT).map(PathBuf::from).filter(|path| path.is_file());
        self.program = elsewhere.or_else(|| found(MONTY)).with_context(|| {
            format!(
                "`evidence = \"run\"` runs programs in `monty`, which is not on the PATH: `pip install \
                 pydantic-monty-runtime` installs it, {MONTY_AT} gives its path, or name another command in `sandbox`"
            )
        })?;
        let said = Command::new(&self.program).arg("--version").stdin(Stdio::null()).output();
        let said = said.with_context(|| format!("start {}", self.program.display()))?;
        let version = String::from_utf8_lossy(&said.stdout).trim().to_string();
        ensure!(
            said.status.success() && version.starts_with(MONTY),
            "{} is no monty",
            self.program.display()
        );
        self.version = Some(version);
        Ok(())
    }

    /// An error if the sandbox does not distinguish a program that succeeds from one that fails, since then its
    /// results mean nothing.
    pub fn ensure_works(&self) -> Result<()> {
        let (ends, fails) = (self.run("x = 1\nassert x == 1")?, self.run("x = 1\nassert x == 2")?);
        match (&ends, &fails) {
            (Ran::Passed, Ran::Failed(_)) => Ok(()),
            (Ran::Passed, other) => {
                bail!("the sandbox `{}`: a test that fails gives {other:?}", self.sandbox)
            }
            (other, _) => bail!(
                "the sandbox `{}` does not run programs: a test that passes gives {other:?}",
                self.sandbox
            ),
        }
    }

    /// Runs `code`. It has passed if it ran to its last line, which prints a mark that the program cannot know.
    ///
    /// # Errors
    /// The sandbox does not start.
    pub fn run(&self, code: &str) -> Result<Ran> {
        let mark = hex::encode(&Sha256::digest(code.as_bytes())[..16]);
        let folder = tempfile::tempdir().context("make a folder for a program")?;
        let file = folder.path().join("program.py");
        fs_err::write(&file, format!("{code}\nprint(\"{mark}\")\n"))?;
        let allowed = self.seconds + if self.version.is_some() { GRACE } else { 0.0 };
        let mut child = self
            .command(&file)?
            .current_dir(folder.path())
            .spawn()
            .with_context(|| format!("start `{}`", self.sandbox))?;
        let outputs = [reading(child.stdout.take()), reading(child.stderr.take())];
        let status = wait(&mut child, Instant::now() + Duration::from_secs_f64(allowed));
        // Including all processes that it started.
        kill(&child);
        let Some(status) = status else {
            child.wait().context("wait for a program")?;
            return Ok(Ran::Exceeded(format!("{} s", self.seconds)));
        };
        let read =
            |output: &Receiver<Vec<u8>>| output.recv_timeout(Duration::from_secs(1)).unwrap_or_default();
        let [out, err] = outputs.each_ref().map(read);
        Ok(told(status, &out, &String::from_utf8_lossy(&err), &mark))
    }

    fn command(&self, file: &Path) -> Result<Command> {
        let mut command = Command::new(&self.program);
        command.env_clear().process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
        if self.version.is_some() {
            let limits = [
                ("--max-memory", format!("{}MB", self.memory)),
                ("--max-feed-duration", self.seconds.to_string()),
                ("--max-recursion-depth", DEEPEST.to_string()),
                ("--max-sleep", "0".to_string()),
                ("--max-total-sleep", "0".to_string()),
            ];
            limits.iter().for_each(|(name, value)| {
                command.args([name, value.as_str()]);
            });
            command.arg("program.py").stdin(Stdio::null());
        } else {
            command
                .args(self.sandbox.split_whitespace().skip(1))
                .stdin(fs_err::File::open(file)?.into_file());
            command.envs(ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        }
        Ok(command)
    }
}

/// A program by its path, or by its name in a folder of PATH.
fn found(named: &str) -> Option<PathBuf> {
    if named.contains('/') {
        return std::path::absolute(named).ok().filter(|path| path.is_file());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(named)).find(|path| path.is_file())
}

/// Reads an output in a thread of its own and delivers it once it ends. At most [`MOST`] bytes are read; that many
/// mean that the limit was reached.
fn reading(output: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut read = Vec::new();
        if let Some(output) = output {
            // If reading fails midway, what was read so far counts.
            let _ = output.take(MOST).read_to_end(&mut read);
        }
        let _ = sender.send(read);
    });
    receiver
}

/// The exit status, or `None` if the time is over first.
fn wait(child: &mut Child, until: Instant) -> Option<ExitStatus> {
    let mut pause = Duration::from_millis(1);
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < until => thread::sleep(pause),
            _ => return None,
        }
        pause = (2 * pause).min(Duration::from_millis(20));
    }
}

/// Kills a process and its process group.
fn kill(child: &Child) {
    // SAFETY: it only sends a signal, to the process group whose leader the child was made.
    unsafe {
        libc::kill(-(child.id() as libc::pid_t), libc::SIGKILL);
    }
}

/// The result that an exit status and two outputs imply.
fn told(status: ExitStatus, out: &[u8], err: &str, mark: &str) -> Ran {
    if out.len() as u64 >= MOST || err.len() as u64 >= MOST {
        return Ran::Exceeded(format!("{} MiB of output", MOST >> 20));
    }
    if status.success() && String::from_utf8_lossy(out).lines().last() == Some(mark) {
        return Ran::Passed;
    }
    if status.success() {
        return Ran::Failed("it ended before the tests did".into());
    }
    if status.code().is_none() {
        return Ran::Exceeded("it was killed".into());
    }
    static ERROR: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?m)^(?:.*❯ )?(?:error: )?(\w*(?:Error|Exception|Exit|Interrupt))\b(.*)$")
            .expect("a pattern")
    });
    let Some(found) = ERROR.captures_iter(err).last() else {
        let last = err.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it failed");
        return Ran::Failed(
            last.split("❯ ").last().unwrap_or(last).trim_start_matches("error: ").to_string(),
        );
    };
    let (name, more) = (&found[1], &found[2]);
    let said = format!("{name}{more}");
    match name {
        "MemoryError" => Ran::Exceeded(said),
        "TimeoutError" if more.contains("limit exceeded") => Ran::Exceeded(said),
        "SyntaxError" | "IndentationError" | "TabError" | "ImportError" | "ModuleNotFoundError" => {
            Ran::Unsupported(said)
        }
        // A program may raise this error itself.
        "NotImplementedError" if more.contains("monty") => Ran::Unsupported(said),
        "AttributeError" if more.contains("module '") => Ran::Unsupported(said),
        _ if more.contains("Internal error in monty") => Ran::Unsupported(said),
        _ => Ran::Failed(said),
    }
}

#[cfg(test)]
mod tests;
