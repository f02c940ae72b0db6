//! Selection of the compute device, with the reason for it. Independent of models.

use super::backend::Backend;
use super::self_check::ensure_right;
use super::spec::Dtype;
use anyhow::{Result, bail, ensure};
use tch::{Device, Tensor};

/// A device and why it was selected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The device.
    pub device: Device,
    /// Backend that computes on it.
    pub backend: Backend,
    /// Name of the hardware, if it is known.
    pub name: String,
    /// Why this device was selected.
    pub reason: String,
}

impl Choice {
    /// For people: the class, and the hardware's name if it is known.
    pub fn shown(&self) -> String {
        if self.name.is_empty() { self.kind().to_string() } else { format!("{}, {}", self.kind(), self.name) }
    }

    /// `cpu`, `cuda` or `mps`: the class that determines the numerics.
    pub fn kind(&self) -> &'static str {
        match self.device {
            Device::Cuda(_) => "cuda",
            Device::Mps => "mps",
            Device::Cpu | Device::Vulkan => "cpu",
        }
    }
}

/// Selects the devices of a comma-separated list such as `cuda:0,cuda:1`, one process each; a device may be listed more
/// than once.
///
/// # Errors
/// An unavailable device, or devices of several classes: their results differ in the last bits.
pub fn choose_all(wanted: &str) -> Result<Vec<Choice>> {
    let words: Vec<&str> = wanted.split(',').map(str::trim).collect();
    let class = |word: &str| CLASSES.into_iter().find(|class| word.split(':').next() == Some(class));
    let mut classes = words.iter().filter_map(|word| class(word));
    if let Some(first) = classes.next()
        && let Some(other) = classes.find(|class| *class != first)
    {
        bail!(
            "--device {wanted}: {first} and {other} do not give the same numbers to the last bit, so they cannot share \
             a run: name devices of one class"
        );
    }
    words.into_iter().map(choose).collect()
}

/// The device on which another machine is to compute, whether or not this machine has one. Used for plans, which depend
/// on the device class. `auto` is resolved on this machine.
///
/// # Errors
/// See [`choose`], except for an unavailable device.
pub fn elsewhere(wanted: &str) -> Result<Choice> {
    let device = match wanted {
        "cuda" => Device::Cuda(0),
        "mps" => Device::Mps,
        _ => return choose(wanted),
    };
    let reason = format!("asked for with --device {wanted}");
    Ok(Choice { device, backend: Backend::chosen(device)?, name: String::new(), reason })
}

/// Valid first parts of a device name.
const CLASSES: [&str; 4] = ["auto", "cpu", "cuda", "mps"];

/// Selects a device: `auto` (CUDA, else MPS if it computes correctly, else CPU), `cpu`, `cuda`, `cuda:N` or `mps`.
///
/// # Errors
/// Another word, or an unavailable device.
pub fn choose(wanted: &str) -> Result<Choice> {
    // The CPU is available without asking libtorch, which may not be loaded yet.
    let cuda = if wanted == "cpu" { Err(String::new()) } else { load_cuda() };
    let reason = match wanted {
        "auto" => None,
        _ => Some(format!("asked for with --device {wanted}")),
    };
    let because = |automatic: &str| reason.clone().unwrap_or_else(|| automatic.to_string());
    match wanted {
        "auto" => {
            // The dtype of the models is not known yet: other dtypes are checked when a model is loaded in them.
            let metal = has_mps().then_some(|| ensure_right(Device::Mps, Backend::Mps, Dtype::F32));
            let (device, reason) = automatic(cuda, metal);
            choice(device, reason)
        }
        "cpu" => choice(Device::Cpu, because("")),
        "mps" => {
            ensure!(has_mps(), "--device mps: this libtorch has no Metal");
            choice(Device::Mps, because(""))
        }
        _ => {
            let index = match wanted.strip_prefix("cuda") {
                Some("") => Some(0),
                Some(rest) => rest.strip_prefix(':').and_then(|n| n.parse::<usize>().ok()),
                None => None,
            };
            let Some(index) = index else {
                bail!("--device {wanted}: expected auto, cpu, cuda, cuda:N or mps");
            };
            if let Err(why) = cuda {
                bail!("--device {wanted}: {why}");
            }
            let count = tch::Cuda::device_count() as usize;
            ensure!(
                index < count,
                "--device {wanted}: there is {}",
                match count {
                    1 => "cuda:0 alone".to_string(),
                    _ => format!("cuda:0 to cuda:{}", count.saturating_sub(1)),
                }
            );
            choice(Device::Cuda(index), because(""))
        }
    }
}

/// The device for `auto`, and why: CUDA if it is available, else Metal if it is available and passes the check `metal`.
fn automatic(cuda: Result<(), String>, metal: Option<impl FnOnce() -> Result<()>>) -> (Device, String) {
    let Err(no_cuda) = cuda else { return (Device::Cuda(0), "a CUDA device is there".to_string()) };
    match metal.map(|check| check()) {
        None => (Device::Cpu, format!("no GPU: {no_cuda}")),
        Some(Ok(())) => (Device::Mps, "Metal is there, and computes what it should".to_string()),
        Some(Err(error)) => (Device::Cpu, format!("Metal is there, but: {error:#}")),
    }
}

/// Whether libtorch can use Metal, which exists on macOS only.
fn has_mps() -> bool {
    cfg!(target_os = "macos") && tch::utils::has_mps()
}

fn choice(device: Device, reason: String) -> Result<Choice> {
    Ok(Choice { device, backend: Backend::chosen(device)?, name: hardware_name(device), reason })
}

/// Loads libtorch's CUDA half, which the linker leaves out because nothing refers to it by symbol, and checks that a
/// device responds. The error says why there is none.
fn load_cuda() -> Result<(), String> {
    #[cfg(target_os = "linux")]
    {
        use std::sync::OnceLock;
        static LOADED: OnceLock<Result<(), String>> = OnceLock::new();
        LOADED.get_or_init(load_cuda_library).clone()?;
    }
    match tch::Cuda::is_available() {
        true => Ok(()),
        false => Err("libtorch finds no CUDA device".into()),
    }
}

#[cfg(target_os = "linux")]
fn load_cuda_library() -> Result<(), String> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    let found =
        super::libtorch::taken().map_err(|_| "there is no libtorch here (emoflow setup fetches it)")?;
    let path = found.lib.join("libtorch_cuda.so");
    if !path.is_file() {
        return Err("this libtorch is the one for CPUs".into());
    }
    // SAFETY: this opens the driver's library and closes it at once.
    if unsafe { Library::open(Some("libcuda.so.1"), RTLD_NOW) }.is_err() {
        return Err("there is no NVIDIA driver (libcuda.so.1)".into());
    }
    super::libtorch::load();
    // SAFETY: the library is part of the libtorch that the program is linked with; its constructors register kernels
    // with the part that is already loaded.
    match unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_GLOBAL) } {
        Ok(library) => {
            // The library must stay loaded for as long as the program runs.
            std::mem::forget(library);
            Ok(())
        }
        Err(e) => {
            let why = std::error::Error::source(&e).map_or_else(|| e.to_string(), ToString::to_string);
            Err(format!("libtorch_cuda.so does not load: {why}"))
        }
    }
}

/// Copies the host tensor `x` to `device`. A copy to CUDA is queued behind the device's pending work without waiting,
/// where a plain copy would wait until all of it is done.
pub fn send(x: &Tensor, device: Device) -> Tensor {
    // The runtime has copied everything it needs from unpinned memory before the call returns.
    let waits = !matches!(device, Device::Cuda(_));
    x.to_device_(device, x.kind(), !waits, false)
}

/// Copies `x` to host memory once it is computed. From CUDA into pinned memory, which needs no buffer of the driver.
pub fn fetch(x: &Tensor) -> Tensor {
    match x.device() {
        Device::Cuda(index) => {
            let here = x.to_device_(Device::Cpu, x.kind(), true, false);
            tch::Cuda::synchronize(index as i64);
            here
        }
        _ => x.to_device(Device::Cpu),
    }
}

/// The hardware name according to Linux; empty on other systems.
pub(super) fn hardware_name(device: Device) -> String {
    let after = |text: &str, key: &str| -> Option<String> {
        let line = text.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_string())
    };
    let name = match device {
        Device::Cuda(index) => fs_err::read_dir("/proc/driver/nvidia/gpus").ok().and_then(|folders| {
            let mut folders: Vec<_> = folders.flatten().map(|entry| entry.path()).collect();
            folders.sort();
            let information = fs_err::read_to_string(folders.get(index)?.join("information")).ok()?;
            after(&information, "Model")
        }),
        Device::Cpu => {
            fs_err::read_to_string("/proc/cpuinfo").ok().and_then(|text| after(&text, "model name"))
        }
        Device::Mps | Device::Vulkan => None,
    };
    name.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metal_is_taken_only_where_it_computes_right() {
        let metal = |found: Result<()>| automatic(Err("none".to_string()), Some(|| found));
        assert_eq!(metal(Ok(())).0, Device::Mps);
        let (device, reason) = metal(Err(anyhow::anyhow!("off by half")));
        assert!(device == Device::Cpu && reason.contains("off by half"), "{reason}");
        let unasked = Some(|| -> Result<()> { panic!("asked") });
        assert_eq!(automatic(Ok(()), unasked).0, Device::Cuda(0));
        let none: Option<fn() -> Result<()>> = None;
        assert_eq!(automatic(Err("none".to_string()), none), (Device::Cpu, "no GPU: none".to_string()));
    }

    #[test]
    fn every_choice_has_a_reason() {
        let auto = choose("auto").unwrap();
        assert!(!auto.reason.is_empty());
        let cpu = choose("cpu").unwrap();
        assert_eq!(
            (cpu.device, cpu.kind(), cpu.reason.as_str()),
            (Device::Cpu, "cpu", "asked for with --device cpu")
        );
        let three = choose_all("cpu, cpu,cpu").unwrap();
        assert!(three.len() == 3 && three.iter().all(|choice| choice.device == Device::Cpu));
        assert_eq!(elsewhere("cuda").unwrap().kind(), "cuda");
        for mixed in ["cpu,cuda:0", "cuda:1,cuda:0,mps", "auto,cpu"] {
            assert!(choose_all(mixed).unwrap_err().to_string().contains("of one class"), "{mixed}");
        }
        for wrong in ["cpu,", ",cpu", "cpu,abacus"] {
            assert!(choose_all(wrong).unwrap_err().to_string().contains("expected auto"), "{wrong}");
        }
        for wrong in ["gpu", "cuda:x", "cuda1", ""] {
            assert!(choose(wrong).unwrap_err().to_string().contains("expected auto"), "{wrong}");
        }
    }
}
