//! A LoRA adapter in PEFT's format, merged into a model's weights when they are read. Independent of any family.

mod config;
mod merged;

pub use config::AdapterConfig;
pub use merged::Merged;

use super::checkpoint::read_json;
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};

/// Limit on `adapter_config.json`, in bytes; with patterns for every module it takes a few hundred kB.
const LARGEST_CONFIG: u64 = 4 << 20;

/// The files of an adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterFiles {
    /// The folder, for messages.
    pub path: PathBuf,
    /// `adapter_config.json`
    pub config: PathBuf,
    /// `adapter_model.safetensors`
    pub weights: PathBuf,
}

impl AdapterFiles {
    /// Finds the files in `dir`; files named in `promised` count as present.
    ///
    /// # Errors
    /// A file that is missing; an adapter that is stored only as a pickle.
    pub fn open(dir: &Path, promised: &[&str]) -> Result<AdapterFiles> {
        let open = || {
            ensure!(dir.is_dir() || !promised.is_empty(), "there is no such folder");
            let is_there = |name: &str| promised.contains(&name) || dir.join(name).is_file();
            ensure!(
                is_there("adapter_config.json"),
                "there is no `adapter_config.json`: an adapter is a folder or a repository as PEFT saves it"
            );
            if !is_there("adapter_model.safetensors") {
                if is_there("adapter_model.bin") {
                    bail!(
                        "`adapter_model.bin` is a pickle, which can run code when it is read; only safetensors are. \
                         PEFT writes it as `adapter_model.safetensors` where you load it and save it again"
                    );
                }
                bail!("there is no `adapter_model.safetensors`");
            }
            Ok(AdapterFiles {
                path: dir.to_path_buf(),
                config: dir.join("adapter_config.json"),
                weights: dir.join("adapter_model.safetensors"),
            })
        };
        open().with_context(|| format!("adapter {}", dir.display()))
    }

    /// Reads `adapter_config.json`.
    ///
    /// # Errors
    /// A file that cannot be read; an unsupported kind of adapter, by its name.
    pub fn read_config(&self) -> Result<AdapterConfig> {
        read_json(&self.config, LARGEST_CONFIG)
            .and_then(|json| AdapterConfig::read(&json))
            .with_context(|| format!("adapter {}", self.path.display()))
    }

    /// The files with their roles, in a fixed order.
    pub fn files(&self) -> [(String, PathBuf); 2] {
        [("adapter_config".into(), self.config.clone()), ("adapter".into(), self.weights.clone())]
    }
}
