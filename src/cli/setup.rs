//! `emoflow setup`: downloads the libtorch that this program needs, with uv or pip.

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use fs_err as fs;

use super::Usage;
use crate::lm::libtorch::{self, WANTED};

/// The file beside the wheel that records which of the two it is.
const VARIANT: &str = "variant";

/// Present if there is an NVIDIA GPU.
const NVIDIA: &str = "/proc/driver/nvidia/version";

/// Downloads the CPU wheel (with the two CUDA libraries that it links nevertheless), or the one with all of CUDA;
/// `None`: depending on whether the machine has an NVIDIA GPU. Prints the folder.
///
/// # Errors
/// Neither uv nor pip is found, or they fail.
pub fn run(cuda: Option<bool>, out: &mut dyn Write) -> Result<u8> {
    let variable = |name: &str| std::env::var_os(name);
    let target = libtorch::fetched(&variable).ok_or_else(|| {
        Usage("neither HOME nor XDG_DATA_HOME is set, so there is no place to install it".into())
    })?;
    let mac = cfg!(target_os = "macos");
    let cuda = cuda.unwrap_or_else(|| Path::new(NVIDIA).exists()) && !mac;
    let variant = if cuda { "cuda" } else { "cpu" };
    if fs::read_to_string(target.join(VARIANT)).is_ok_and(|there| there.trim() == variant) {
        say!("libtorch {WANTED} ({variant}) is installed already");
        writeln!(out, "{}", target.display())?;
        return Ok(0);
    }
    let beside = target.parent().context("a folder of the user's")?;
    fs::create_dir_all(beside)?;
    // On the same disk, so that it can be moved into place atomically.
    let new = tempfile::tempdir_in(beside)?;
    let mut packages = vec![format!("torch=={WANTED}")];
    if !cuda {
        packages.insert(0, "--no-deps".into());
    }
    if !cuda && !mac {
        packages.extend(["nvidia-cuda-runtime==13.*", "nvidia-cuda-cupti==13.*"].map(String::from));
    }
    let mut installer = installer()?;
    // Only the libraries are used, so the wheel for any Python version works.
    installer.args(["--python-version", "3.12", "--only-binary", ":all:", "--target"]);
    installer.arg(new.path()).args(packages);
    let said = format!("{:?}", installer.get_program());
    say!("downloading libtorch {WANTED} ({variant}) into {}", target.display());
    let ended = installer.status().with_context(|| format!("start {said}"))?;
    ensure!(ended.success(), "{said} could not download torch {WANTED}: {ended}");
    ensure!(new.path().join("torch/version.py").is_file(), "what {said} downloaded is not torch");
    fs::write(new.path().join(VARIANT), variant)?;
    if target.exists() {
        fs::remove_dir_all(&target)?;
    }
    fs::rename(new.keep(), &target)?;
    writeln!(out, "{}", target.display())?;
    Ok(0)
}

/// An install command of uv or, failing that, of a Python 3's pip.
fn installer() -> Result<Command> {
    let runs = |program: &OsString, args: &[&str]| {
        Command::new(program).args(args).output().is_ok_and(|output| output.status.success())
    };
    let uv = OsString::from("uv");
    if runs(&uv, &["--version"]) {
        let mut command = Command::new(uv);
        command.args(["pip", "install", "--quiet"]);
        return Ok(command);
    }
    for python in [std::env::var_os("PYTHON"), Some("python3".into()), Some("python".into())] {
        let Some(python) = python else { continue };
        if runs(&python, &["-m", "pip", "--version"]) {
            let mut command = Command::new(python);
            command.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
            command.args([
                "--no-warn-script-location",
                "--root-user-action=ignore",
                "--implementation",
                "cp",
            ]);
            return Ok(command);
        }
    }
    bail!(
        "neither uv nor pip was found, one of which is needed to download torch {WANTED}: install uv \
         (https://docs.astral.sh/uv), or set PYTHON to a Python that has pip"
    )
}
