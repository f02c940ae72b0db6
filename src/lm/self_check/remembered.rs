//! Stored results of the checks of this machine's devices, in a file in the user's cache folder: one line per check;
//! the last line for a setting counts. Independent of what is checked.
//!
//! The file is only appended to, with one call per line, so that several processes may write at once; at worst two of
//! them run the same check. A line that is damaged, torn or mixed with another is not valid JSON, and is skipped. If
//! the file cannot be written, each process checks again.

use super::{Found, VERSION};
use crate::lm::backend::Backend;
use crate::lm::device::hardware_name;
use crate::lm::libtorch;
use crate::lm::spec::Dtype;
use anyhow::{Context, Result};
use fs_err as fs;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::{Path, PathBuf};
use tch::Device;

/// Everything that affects the result of a check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Setting {
    check: u32,
    host: String,
    device: String,
    hardware: String,
    /// Version of NVIDIA's driver, as reported by the driver; elsewhere the version of the system, with which Apple's
    /// GPU drivers are delivered.
    driver: String,
    libtorch: String,
    backend: String,
    dtype: Dtype,
    /// Environment variables that change what a GPU computes, or which one is used.
    variables: Vec<(String, String)>,
}

/// See [`Setting::variables`].
const VARIABLES: [&str; 3] =
    ["CUDA_VISIBLE_DEVICES", "NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"];

#[derive(Serialize, Deserialize)]
struct Line {
    #[serde(flatten)]
    setting: Setting,
    #[serde(flatten)]
    found: Found,
}

impl Setting {
    fn of(device: Device, backend: Backend, dtype: Dtype) -> Setting {
        let system = System::here();
        let driver = fs::read_to_string("/proc/driver/nvidia/version")
            .ok()
            .filter(|_| matches!(device, Device::Cuda(_)));
        let set = |name: &&str| Some((name.to_string(), std::env::var(name).ok()?));
        Setting {
            check: VERSION,
            host: system.host,
            device: label(device),
            hardware: hardware_name(device),
            driver: driver.map_or(system.release, |text| text.lines().next().unwrap_or_default().to_string()),
            libtorch: libtorch::full_version(),
            backend: backend.name().to_string(),
            dtype,
            variables: VARIABLES.iter().filter_map(set).collect(),
        }
    }
}

/// The system's names, as reported by `uname`.
struct System {
    host: String,
    release: String,
}

impl System {
    fn here() -> System {
        // SAFETY: all zeros are a valid value of it, and the call fills it with zero-terminated strings or leaves it
        // unchanged.
        let of = unsafe {
            let mut of: libc::utsname = std::mem::zeroed();
            libc::uname(&mut of);
            of
        };
        let text = |bytes: &[libc::c_char]| {
            bytes.iter().take_while(|&&b| b != 0).map(|&b| b as u8 as char).collect()
        };
        System { host: text(&of.nodename), release: text(&of.release) }
    }
}

/// A device's name, as in `--device`.
fn label(device: Device) -> String {
    match device {
        Device::Cuda(index) => format!("cuda:{index}"),
        Device::Mps => "mps".to_string(),
        Device::Cpu | Device::Vulkan => "cpu".to_string(),
    }
}

/// The same with the name of the hardware.
pub(super) fn shown(device: Device) -> String {
    let hardware = hardware_name(device);
    if hardware.is_empty() { label(device) } else { format!("{} ({hardware})", label(device)) }
}

/// `emoflow/devices.jsonl` in the user's cache folder, at XDG's location on every system.
fn file() -> Option<PathBuf> {
    let caches = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|folder| folder.is_absolute());
    let caches = caches.or_else(|| Some(std::env::home_dir()?.join(".cache")))?;
    Some(caches.join("emoflow").join("devices.jsonl"))
}

/// The stored result for `device` in `dtype` on this machine, with this libtorch and driver, if there is one.
pub fn known(device: Device, backend: Backend, dtype: Dtype) -> Option<Found> {
    last(&fs::read_to_string(file()?).ok()?, &Setting::of(device, backend, dtype))
}

fn last(text: &str, wanted: &Setting) -> Option<Found> {
    let lines = text.lines().rev().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    lines.into_iter().find(|line| line.setting == *wanted).map(|line| line.found)
}

/// Runs the check now, and stores the result if the file can be written.
///
/// # Errors
/// As for [`run`](super::run).
pub fn run_and_remember(device: Device, backend: Backend, dtype: Dtype) -> Result<Found> {
    let found = super::run(device, backend, dtype)?;
    let _ = file().map(|file| append(&file, Setting::of(device, backend, dtype), &found));
    Ok(found)
}

fn append(file: &Path, setting: Setting, found: &Found) -> Result<()> {
    fs::create_dir_all(file.parent().context("a file in a folder")?)?;
    let line = serde_json::to_string(&Line { setting, found: found.clone() })?;
    // The leading line feed ends a line that was torn by a crash.
    fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(file)?
        .write_all(format!("\n{line}\n").as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_of_a_setting_counts_and_damage_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("emoflow/devices.jsonl");
        let setting = |dtype| Setting::of(Device::Cpu, Backend::Cpu, dtype);
        let found = |error| Found { error, allowed: 0.25, place: "layer 1".to_string() };
        let known = |setting: &Setting| last(&fs::read_to_string(&file).unwrap(), setting);
        for (dtype, error) in [(Dtype::F32, 0.5), (Dtype::Bf16, f64::MAX), (Dtype::F32, 0.125)] {
            append(&file, setting(dtype), &found(error)).unwrap();
        }
        assert_eq!(known(&setting(Dtype::F32)), Some(found(0.125)));
        assert_eq!(known(&setting(Dtype::Bf16)), Some(found(f64::MAX)));
        assert_eq!(known(&setting(Dtype::F16)), None);
        let text = fs::read_to_string(&file).unwrap();
        // A crash tears the last line: the previous one counts, and the next one is complete.
        fs::write(&file, &text[..text.len() - 9]).unwrap();
        assert_eq!(known(&setting(Dtype::F32)), Some(found(0.5)));
        append(&file, setting(Dtype::F32), &found(0.0625)).unwrap();
        assert_eq!(known(&setting(Dtype::F32)), Some(found(0.0625)));
        // A result does not apply to another driver, libtorch or check.
        for change in [
            |setting: &mut Setting| setting.driver.push('1'),
            |setting: &mut Setting| setting.libtorch.push('1'),
            |setting: &mut Setting| setting.check += 1,
            |setting: &mut Setting| setting.host.push('1'),
            |setting: &mut Setting| setting.variables.push(("NVIDIA_TF32_OVERRIDE".into(), "1".into())),
        ] {
            let mut other = setting(Dtype::F32);
            change(&mut other);
            assert_eq!(known(&other), None);
        }
    }
}
